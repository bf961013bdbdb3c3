//! Where log lines go.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::error::LogError;
use super::rotation::{LogFile, Rotation};
use crate::cli::terminal::note;
use crate::cluster::server::Options;
use crate::world::World;
use crate::world::init::Journal;

/// All places that get every line.
#[derive(Clone)]
pub struct Outputs(Arc<Vec<Output>>);

enum Output {
    Stderr,
    Stdout,
    Journal(Journal),
    File(Mutex<LogFile>),
}

impl Outputs {
    pub fn stderr() -> Outputs {
        Outputs(Arc::new(vec![Output::Stderr]))
    }

    /// The places that `options` name.
    pub fn open(world: &World, options: &Options) -> Result<Outputs, LogError> {
        let names = &options.log_outputs.0;
        if names.len() > 1 && names.iter().any(|name| name == "default") {
            return Err(LogError::ManyWithDefault);
        }
        let rotation = match options.enable_log_rotation {
            true => Some(rotation(names, &options.log_rotation_config_json)?),
            false => None,
        };
        // If one of the places is /dev/null, etcd writes to none.
        if names.iter().any(|name| name == "/dev/null") {
            return Ok(Outputs(Arc::default()));
        }
        let outputs = names.iter().map(|name| open(world, name, rotation));
        let mut outputs = outputs.collect::<Result<Vec<Output>, LogError>>()?;
        if outputs.is_empty() {
            outputs.push(Output::Stderr);
        }
        Ok(Outputs(Arc::new(outputs)))
    }
}

/// Rotation is for one file.
fn rotation(names: &[String], config: &str) -> Result<Rotation, LogError> {
    let files = names.iter().filter(|name| !["default", "stderr", "stdout"].contains(&name.as_str())).count();
    if files > 1 || files == 0 && names.len() == 1 {
        return Err(LogError::Rotation);
    }
    serde_json::from_str(config).map_err(|error| LogError::RotationConfig(error.to_string()))
}

fn open(world: &World, name: &str, rotation: Option<Rotation>) -> Result<Output, LogError> {
    let failed = |cause: io::Error| LogError::Open { output: name.to_owned(), cause: cause.to_string() };
    match name {
        "default" | "stderr" => Ok(Output::Stderr),
        "stdout" => Ok(Output::Stdout),
        "systemd/journal" => Journal::open().map(Output::Journal).map_err(failed),
        path => LogFile::open(world.clone(), Path::new(path), rotation)
            .map(|file| Output::File(file.into()))
            .map_err(failed),
    }
}

/// Writes whole lines of one level.
pub struct Writer<'a> {
    outputs: &'a [Output],
    level: Level,
}

impl<'a> MakeWriter<'a> for Outputs {
    type Writer = Writer<'a>;

    fn make_writer(&'a self) -> Writer<'a> {
        Writer { outputs: &self.0, level: Level::INFO }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Writer<'a> {
        Writer { outputs: &self.0, level: *metadata.level() }
    }
}

impl Write for Writer<'_> {
    /// A place that fails must not keep the others from their line, nor end the process. Its failure goes to stderr.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for error in self.outputs.iter().filter_map(|output| output.write(self.level, line).err()) {
            note(format!("a line of the log could not be written: {error}"));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn write(&self, level: Level, line: &[u8]) -> io::Result<()> {
        match self {
            Output::Stderr => io::stderr().write_all(line),
            Output::Stdout => io::stdout().write_all(line).and_then(|()| io::stdout().flush()),
            Output::Journal(journal) => journal.add("etcd", priority(level), line.trim_ascii_end()),
            Output::File(file) => file.lock().unwrap_or_else(PoisonError::into_inner).append(line),
        }
    }
}

/// Syslog's number of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_is_for_one_file() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let config = r#"{"maxsize": 1}"#;
        assert_eq!(rotation(&names(&["a.log", "stderr"]), config).unwrap().megabytes_max(), 1);
        assert_eq!(rotation(&names(&["stderr"]), config).unwrap_err(), LogError::Rotation);
        assert_eq!(rotation(&names(&["a", "b"]), config).unwrap_err(), LogError::Rotation);
        assert!(matches!(rotation(&names(&["a"]), "{"), Err(LogError::RotationConfig(_))));
    }
}
