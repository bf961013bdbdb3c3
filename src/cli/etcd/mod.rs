//! `chorus etcd`, and the binary under the name `etcd`: a drop-in etcd process.
//!
//! ```text
//!   arguments, ETCD_* variables ─▶ flags, environment ─▶ Options ─▶ cluster::server::Server
//!   events of the process ─▶ logs ─▶ stderr, as etcd writes them
//! ```
//!
//! - `flags`: Go's syntax of flags; `environment`: variables instead of flags
//! - `help`: what `--help` and `--version` print
//! - `logs`: events as etcd's log lines

mod environment;
mod flags;
mod help;
mod logs;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cluster::server::{Options, Server, check};
use crate::world::World;

/// Go's exit code for arguments that cannot be read.
const USAGE: u8 = 2;

/// Runs an etcd process with the arguments after its name until it is told to end.
pub async fn run(world: World, arguments: Vec<OsString>) -> ExitCode {
    let arguments: Vec<String> = arguments.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut options = Options::default();
    let given = match flags::read(&mut options, &arguments) {
        Ok(given) => given,
        Err(flags::Stop::Help) => {
            println!("{}", help::text());
            return ExitCode::SUCCESS;
        }
        Err(flags::Stop::Bad(message)) => {
            eprintln!("{message}\n{}", help::USAGE);
            return ExitCode::from(USAGE);
        }
    };
    if given.version {
        print!("{}", help::version());
        return ExitCode::SUCCESS;
    }
    match configure(&mut options, &given, &arguments) {
        Ok(()) => serve(&world, &options).await,
        Err(message) => {
            tracing::warn!(error = message, "failed to verify flags");
            ExitCode::FAILURE
        }
    }
}

/// Completes and checks the options, and starts to log as they say.
fn configure(options: &mut Options, given: &flags::Given, arguments: &[String]) -> Result<(), String> {
    let completed = environment::complete(options, given, std::env::vars());
    logs::begin(options);
    tracing::info!(args = ?arguments, "Running: ");
    let warnings = completed?;
    for warning in warnings {
        tracing::warn!("environment-variable" = warning, "unrecognized environment variable");
    }
    if let Some(stray) = &given.stray {
        return Err(format!("{stray:?} is not a valid flag"));
    }
    check::check(options).map_err(|invalid| invalid.to_string())
}

async fn serve(world: &World, options: &Options) -> ExitCode {
    let ended = interrupted();
    let server = match Server::start(world, options).await {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(%error, "failed to start");
            return ExitCode::FAILURE;
        }
    };
    tokio::select! {
        signal = ended => tracing::info!(signal, "received signal; shutting down"),
        () = serving(&server) => (),
        () = server.member().removed() => {
            tracing::warn!(error = "the member has been permanently removed from the cluster", "server error");
            tracing::warn!("data-dir used by this member must be removed");
        }
    }
    server.stop().await;
    tracing::info!("closed etcd server");
    ExitCode::SUCCESS
}

/// Tells once the member is ready, then waits for ever.
async fn serving(server: &Server) {
    server.member().ready().await;
    tracing::info!("ready to serve client requests");
    std::future::pending().await
}

/// Resolves with the name of the signal that asks the process to end.
fn interrupted() -> impl Future<Output = &'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("signal handlers can be installed");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signal handlers can be installed");
    async move {
        tokio::select! {
            _ = terminate.recv() => "terminated",
            _ = interrupt.recv() => "interrupt",
        }
    }
}
