//! Events of the process as etcd's log lines, to where the options send them.
//!
//! - `line`: how a line looks
//! - `output`: where lines go; `rotation`: files that are renamed when they are full
//! - `error`: why the process cannot log

mod error;
mod line;
mod output;
mod rotation;

use tracing_subscriber::EnvFilter;

use self::error::LogError;
use self::line::LogFormat;
use self::output::Outputs;
use crate::cluster::server::Options;
use crate::world::{World, panics, process};

/// Begins to log as `options` say.
pub fn begin(world: &World, options: &Options) -> Result<(), LogError> {
    match options.logger.as_str() {
        "zap" => {}
        "capnslog" => return Err(LogError::Capnslog),
        other => return Err(LogError::Logger(other.into())),
    }
    let format = match options.log_format.as_str() {
        "json" => LogFormat::Json,
        "console" => LogFormat::Console,
        other => return Err(LogError::Format(other.into())),
    };
    let mut filter = filter(&options.log_level)?.to_owned();
    if std::env::var("GODEBUG").is_ok_and(|asked| asked.split(',').any(|setting| setting == "http2debug=2")) {
        filter += ",http2=trace";
    }
    install(Outputs::open(world, options)?, format, &filter);
    Ok(())
}

/// Begins to log to stderr, for a process whose options cannot be read.
pub fn begin_plainly(debug: bool) {
    let level = if debug { "debug" } else { "info" };
    install(Outputs::stderr(), LogFormat::Json, filter(level).expect("a level"));
}

/// Logs the arguments that the process was started with.
pub fn log_arguments() {
    let running = serde_json::json!({ "args": process::arguments() });
    tracing::info!(inlined = %running, "Running: ");
}

fn install(outputs: Outputs, format: LogFormat, filter: &str) {
    // The outputs report their failures themselves.
    let logs = tracing_subscriber::fmt().log_internal_errors(false);
    let logs = logs.with_env_filter(EnvFilter::new(filter)).with_writer(outputs);
    // A second beginning, as in tests, has no effect.
    let _ = logs.event_format(format).try_init();
    panics::install_hook(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(stacktrace = %backtrace, "{panic}");
    });
}

/// The levels that are logged of each crate. Consensus and HTTP log each connection that fails, which no operator needs.
fn filter(level: &str) -> Result<&'static str, LogError> {
    match level {
        "debug" => Ok("info,chorus=debug,openraft=warn"),
        "info" | "" => Ok("warn,chorus=info,openraft=error"),
        "warn" => Ok("warn,openraft=error"),
        "error" | "dpanic" | "panic" | "fatal" => Ok("off,chorus=error"),
        other => Err(LogError::Level(other.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    const PANICS: &str = "CHORUS_TEST_PANICS";

    /// The test runs itself once more, as a process that panics.
    #[test]
    fn a_panic_ends_the_process_and_is_logged() {
        if std::env::var_os(PANICS).is_some() {
            super::begin_plainly(false);
            panic!("on purpose");
        }
        let mut process = Command::new(std::env::current_exe().unwrap());
        let (_, name) = concat!(module_path!(), "::a_panic_ends_the_process_and_is_logged").split_once("::").unwrap();
        let ended = process.args(["--exact", name, "--nocapture"]).env(PANICS, "yes").output().unwrap();
        assert_eq!(ended.status.signal(), Some(6), "{ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("on purpose"), "{ended:?}");
    }
}
