//! `chorus etcd`, and the binary under the name `etcd`: a drop-in etcd process.
//!
//! ```text
//!   arguments, ETCD_* variables, file ─▶ Options ─check─▶ cluster::server::Server
//!   events of the process ─▶ logs ─▶ stderr, files, the journal, as etcd writes them
//! ```
//!
//! - `flags`: Go's syntax of flags; `environment`: variables instead of flags
//! - `help`: what `--help` and `--version` print
//! - `logs`: events as etcd's log lines
//! - `gateway`, `grpc_proxy`, `subcommand`: the proxies, and their flags
//! - `process`: the server's life as a process: readiness, signals

mod environment;
mod flags;
mod gateway;
mod grpc_proxy;
mod help;
mod logs;
mod process;
mod subcommand;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use self::environment::{CONFIG_FILE, REPORTED_VERSION};
use crate::cli::terminal::note;
use crate::cluster::server::{Options, check};
use crate::store::version::ETCD_VERSION;
use crate::world::process::{HIDDEN, is_secret};
use crate::world::{Disk, World};

/// Go's exit code for arguments that cannot be read.
const BAD_USAGE: u8 = 2;

/// Runs an etcd process with the arguments after its name until a signal ends it.
pub async fn run(world: World, arguments: Vec<OsString>) -> ExitCode {
    let arguments: Vec<String> = arguments.iter().map(|word| text(word)).collect();
    match arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some(("gateway", rest)) => return gateway::run(&world, rest).await,
        Some(("grpc-proxy", rest)) => return grpc_proxy::run(&world, rest).await,
        _ => {}
    }
    #[cfg(feature = "failpoints")]
    if let Err(error) = crate::world::failpoints::begin(&world).await {
        note(error);
        return ExitCode::FAILURE;
    }
    let variables = std::env::vars_os().map(|(name, value)| (text(&name), text(&value))).collect();
    match read(&world.disk, &arguments, &variables) {
        Ok(Invocation::Print(text)) => help::show(&text),
        Ok(Invocation::Serve(mut options, origin)) => match begin(&world, &mut options, origin) {
            Ok(()) => process::serve(&world, &options).await,
            Err(error) => unverified(&error),
        },
        Err(Refusal::Usage(message)) => {
            note(format!("{message}\n{}", help::USAGE));
            ExitCode::from(BAD_USAGE)
        }
        Err(Refusal::Invalid(message)) => {
            logs::begin_plainly(false);
            logs::log_arguments();
            unverified(&message)
        }
    }
}

/// Arguments and variables need not be text.
fn text(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}

/// What the arguments of a process ask for.
pub enum Invocation {
    /// To print this text.
    Print(String),
    /// To run a server.
    Serve(Box<Options>, Origin),
}

/// Why a process does not start.
pub enum Refusal {
    /// The message is printed before the usage.
    Usage(String),
    /// The message is logged.
    Invalid(String),
}

/// Where the options came from beside the arguments, to be logged once the process logs.
#[derive(Default)]
pub struct Origin {
    file: Option<String>,
    variables: environment::Variables,
}

/// Reads the options from the arguments and from the file that these or the variables name, or else from the variables.
pub fn read(disk: &Disk, arguments: &[String], variables: &BTreeMap<String, String>) -> Result<Invocation, Refusal> {
    let mut options = Box::new(Options::default());
    let variable = |name| variables.get(name).filter(|value| !value.is_empty()).cloned();
    options.version = variable(REPORTED_VERSION).unwrap_or_else(|| ETCD_VERSION.to_owned());
    let given = match flags::read(&mut options, arguments) {
        Ok(given) => given,
        Err(flags::Stop::Help) => return Ok(Invocation::Print(help::text())),
        Err(flags::Stop::Bad(message)) => return Err(Refusal::Usage(message)),
    };
    if let Some(stray) = &given.stray {
        return Err(Refusal::Invalid(format!("{stray:?} is not a valid flag")));
    }
    if given.version {
        return Ok(Invocation::Print(help::version(&options.version)));
    }
    let named = Some(given.config_file.clone()).filter(|file| !file.is_empty());
    if let Some(file) = named.or_else(|| variable(CONFIG_FILE)) {
        let bytes = disk.read(Path::new(&file)).map_err(|error| Refusal::Invalid(format!("open {error}")))?;
        let from_file = Options::from_file(&bytes).map_err(|error| Refusal::Invalid(error.to_string()))?;
        *options = Options { version: options.version, ..from_file };
        return Ok(Invocation::Serve(options, Origin { file: Some(file), ..Origin::default() }));
    }
    let variables = environment::read(&mut options, &given, variables).map_err(Refusal::Invalid)?;
    environment::complete(&mut options, &given, &variables);
    Ok(Invocation::Serve(options, Origin { file: None, variables }))
}

/// Begins to log as the options say, and checks that they fit together.
fn begin(world: &World, options: &mut Options, origin: Origin) -> Result<(), String> {
    let logs = logs::begin(world, options);
    if logs.is_err() {
        logs::begin_plainly(false);
    }
    logs::log_arguments();
    logs.map_err(|error| error.to_string())?;
    origin.log();
    check::check(options).map_err(|invalid| invalid.to_string())?;
    check::warn(options);
    options.update_default_cluster_from_name(world.net.default_host());
    Ok(())
}

fn unverified(error: &str) -> ExitCode {
    tracing::warn!(error, "failed to verify flags");
    if error.contains("--advertise-client-urls is required") {
        tracing::warn!(error, "advertise client URLs are not set");
    }
    ExitCode::FAILURE
}

impl Origin {
    fn log(self) {
        if let Some(path) = self.file {
            tracing::info!(
                path,
                "loaded server configuration, other configuration command line flags and environment variables will \
                 be ignored if provided"
            );
        }
        for (flag, (variable, value)) in &self.variables.used {
            let value = if is_secret(flag) { HIDDEN } else { value };
            tracing::info!(
                "variable-name" = variable,
                "variable-value" = value,
                "recognized and used environment variable"
            );
        }
        for variable in &self.variables.unknown {
            tracing::warn!("environment-variable" = variable, "unrecognized environment variable");
        }
    }
}
