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

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use self::environment::{CONFIG_FILE, REPORTED_VERSION};
use self::flags::{Given, Stop};
use crate::cluster::server::{Options, check};
use crate::store::version::ETCD_VERSION;
use crate::world::World;
use crate::world::process::{HIDDEN, is_secret};

/// Go's exit code for arguments that cannot be read.
const BAD_USAGE: u8 = 2;

/// Runs an etcd process with the arguments after its name until it is told to end.
pub async fn run(world: World, arguments: Vec<OsString>) -> ExitCode {
    let arguments: Vec<String> = arguments.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    match arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some(("gateway", rest)) => return gateway::run(&world, rest).await,
        Some(("grpc-proxy", rest)) => return grpc_proxy::run(&world, rest).await,
        _ => {}
    }
    #[cfg(feature = "failpoints")]
    if let Err(error) = crate::world::failpoints::begin(&world).await {
        println!("{error}");
        return ExitCode::FAILURE;
    }
    let mut options = Options::default();
    let version = std::env::var(REPORTED_VERSION).ok().filter(|given| !given.is_empty());
    options.version = version.unwrap_or_else(|| ETCD_VERSION.to_owned());
    let given = match flags::read(&mut options, &arguments) {
        Ok(given) => given,
        Err(Stop::Help) => return print(&help::text()),
        Err(Stop::Bad(message)) => {
            eprintln!("{message}\n{}", help::USAGE);
            return ExitCode::from(BAD_USAGE);
        }
    };
    if given.version && given.stray.is_none() {
        return print(&help::version(&options.version));
    }
    let configured = configure(&world, &mut options, &given);
    if configured.is_err() {
        logs::begin_plainly(false);
    }
    logs::tell_arguments();
    match configured.and_then(|said| said.tell()).and_then(|()| check_all(&world, &mut options)) {
        Ok(()) => process::serve(&world, &options).await,
        Err(error) => {
            tracing::warn!(error, "failed to verify flags");
            if error.contains("--advertise-client-urls is required") {
                tracing::warn!(error, "advertise client URLs are not set");
            }
            ExitCode::FAILURE
        }
    }
}

/// A reader that has gone is no failure.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// What is to be told once the process logs.
#[derive(Default)]
struct Said {
    file: Option<String>,
    variables: environment::Read,
}

/// Completes the options from the file, or else from the variables, and starts to log as they say.
fn configure(world: &World, options: &mut Options, given: &Given) -> Result<Said, String> {
    if let Some(stray) = &given.stray {
        return Err(format!("{stray:?} is not a valid flag"));
    }
    let mut said = Said::default();
    let file = match given.config_file.as_str() {
        "" => std::env::var(CONFIG_FILE).unwrap_or_default(),
        given => given.to_owned(),
    };
    if file.is_empty() {
        said.variables = environment::read(options, given, std::env::vars())?;
        environment::complete(options, given, &said.variables);
    } else {
        let bytes = world.disk.read(Path::new(&file)).map_err(|error| format!("open {file}: {error}"))?;
        let version = std::mem::take(&mut options.version);
        *options = Options { version, ..Options::from_file(&bytes).map_err(|error| error.to_string())? };
        said.file = Some(file);
    }
    logs::begin(world, options).map_err(|error| error.to_string())?;
    Ok(said)
}

impl Said {
    fn tell(self) -> Result<(), String> {
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
        Ok(())
    }
}

fn check_all(world: &World, options: &mut Options) -> Result<(), String> {
    check::check(options).map_err(|invalid| invalid.to_string())?;
    check::warn(options);
    options.settle(world.net.default_host());
    Ok(())
}
