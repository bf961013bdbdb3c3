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
use crate::cli::terminal::{self, note};
use crate::cluster::server::{Options, check};
use crate::store::version::ETCD_VERSION;
use crate::world::process::{HIDDEN, is_secret};
use crate::world::{Disk, World};

/// Go's exit code for arguments that cannot be read.
const BAD_USAGE: u8 = 2;

/// Runs an etcd process with the arguments after its name until it is told to end.
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
        Ok(Asked::Text(text)) => show(&text),
        Ok(Asked::Server(mut options, said)) => match begin(&world, &mut options, said) {
            Ok(()) => process::serve(&world, &options).await,
            Err(error) => unverified(&error),
        },
        Err(Refusal::Usage(message)) => {
            note(format!("{message}\n{}", help::USAGE));
            ExitCode::from(BAD_USAGE)
        }
        Err(Refusal::Invalid(message)) => {
            logs::begin_plainly(false);
            logs::tell_arguments();
            unverified(&message)
        }
    }
}

/// Arguments and variables need not be text.
fn text(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}

/// Prints what was asked for.
fn show(text: &str) -> ExitCode {
    match terminal::print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => terminal::fail(&error.into(), 1),
    }
}

/// What a process was asked for.
pub enum Asked {
    /// To print this.
    Text(String),
    Server(Box<Options>, Said),
}

/// Why a process does not start.
pub enum Refusal {
    /// The message stands before the usage.
    Usage(String),
    /// The message is logged.
    Invalid(String),
}

/// What is to be told once the process logs.
#[derive(Default)]
pub struct Said {
    file: Option<String>,
    variables: environment::Read,
}

/// Reads the options from the arguments and from the file that these or the variables name, or else from the variables.
pub fn read(disk: &Disk, arguments: &[String], variables: &BTreeMap<String, String>) -> Result<Asked, Refusal> {
    let mut options = Box::new(Options::default());
    let variable = |name| variables.get(name).filter(|value| !value.is_empty()).cloned();
    options.version = variable(REPORTED_VERSION).unwrap_or_else(|| ETCD_VERSION.to_owned());
    let given = match flags::read(&mut options, arguments) {
        Ok(given) => given,
        Err(flags::Stop::Help) => return Ok(Asked::Text(help::text())),
        Err(flags::Stop::Bad(message)) => return Err(Refusal::Usage(message)),
    };
    if let Some(stray) = &given.stray {
        return Err(Refusal::Invalid(format!("{stray:?} is not a valid flag")));
    }
    if given.version {
        return Ok(Asked::Text(help::version(&options.version)));
    }
    let named = Some(given.config_file.clone()).filter(|file| !file.is_empty());
    if let Some(file) = named.or_else(|| variable(CONFIG_FILE)) {
        let bytes = disk.read(Path::new(&file)).map_err(|error| Refusal::Invalid(format!("open {error}")))?;
        let from_file = Options::from_file(&bytes).map_err(|error| Refusal::Invalid(error.to_string()))?;
        *options = Options { version: options.version, ..from_file };
        return Ok(Asked::Server(options, Said { file: Some(file), ..Said::default() }));
    }
    let variables = environment::read(&mut options, &given, variables).map_err(Refusal::Invalid)?;
    environment::complete(&mut options, &given, &variables);
    Ok(Asked::Server(options, Said { file: None, variables }))
}

/// Begins to log as the options say, and looks whether they fit together.
fn begin(world: &World, options: &mut Options, said: Said) -> Result<(), String> {
    let logs = logs::begin(world, options);
    if logs.is_err() {
        logs::begin_plainly(false);
    }
    logs::tell_arguments();
    logs.map_err(|error| error.to_string())?;
    said.tell();
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

impl Said {
    fn tell(self) {
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
