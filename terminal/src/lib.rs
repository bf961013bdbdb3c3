//! How the command lines of Chorus write to the standard streams.
//!
//! The reader of a stream may leave at any time, as `head` does. Then a command first ends what it has under way, and
//! exits quietly with the code that shells know. Therefore nothing here panics, as `println!` would.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

pub use anstyle::AnsiColor;

/// The exit code of a process whose reader has left. It is that of a process that SIGPIPE ended, as shells expect.
const READER_LEFT: u8 = 128 + 13;

/// Standard output takes no more. Pass it on to `main`, which ends the process as it should.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader of the output wants no more of it. This is no failure, and nobody reads a message about it.
    #[error("the reader of the output has left")]
    ReaderLeft,
    #[error("cannot write to standard output: {0}")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> OutputError {
        match error.kind() {
            io::ErrorKind::BrokenPipe => OutputError::ReaderLeft,
            _ => OutputError::Failed(error),
        }
    }
}

/// Writes `bytes` to standard output at once: what goes into a pipe is read as it happens.
pub fn print(bytes: impl AsRef<[u8]>) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes.as_ref())?;
    Ok(out.flush()?)
}

/// Writes a line to standard output at once.
pub fn line(bytes: impl AsRef<[u8]>) -> Result<(), OutputError> {
    print([bytes.as_ref(), b"\n"].concat())
}

/// Writes a line to standard error. Without a reader of standard error, the line is lost.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// Ends a command that failed with `code`, and says why unless its reader has left.
pub fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    if let Some(OutputError::ReaderLeft) = error.downcast_ref() {
        return ExitCode::from(READER_LEFT);
    }
    note(format!("{}: {}", red("error"), sentence(error)));
    ExitCode::from(code)
}

/// An error with its causes, each shown once: the texts of most errors contain their causes, since logs show nothing
/// else.
pub fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text {
        text if cause.starts_with(&text) => cause,
        text if text.contains(&cause) => text,
        text => format!("{text}: {cause}"),
    })
}

/// `text` for standard output, in colour where a person reads it.
pub fn coloured(text: &str, colour: AnsiColor) -> String {
    paint(text, colour, io::stdout().is_terminal())
}

/// `text` for standard output, in green where a person reads it.
pub fn green(text: &str) -> String {
    coloured(text, AnsiColor::Green)
}

/// `text` for standard error, in red where a person reads it.
fn red(text: &str) -> String {
    paint(text, AnsiColor::Red, io::stderr().is_terminal())
}

fn paint(text: &str, colour: AnsiColor, terminal: bool) -> String {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    if !terminal || unwanted || dumb {
        return text.to_owned();
    }
    let style = anstyle::Style::new().fg_color(Some(colour.into()));
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Room {
        #[error("{0}")]
        Bare(#[from] io::Error),
        #[error("cannot read the configuration: {0}")]
        Tells(#[source] io::Error),
        #[error("cannot listen on a:1")]
        Silent(#[source] io::Error),
        #[error(transparent)]
        Passes(Box<Room>),
    }

    #[test]
    fn what_went_wrong_is_told_once() {
        let file = || io::Error::new(io::ErrorKind::NotFound, "/x: No such file");
        let code = || io::Error::from_raw_os_error(98);
        let passed = anyhow::Error::new(Room::Passes(Box::new(Room::Tells(file()))));
        for (error, told) in [
            (anyhow::Error::new(Room::Bare(file())), "/x: No such file"),
            (anyhow::Error::new(Room::Bare(code())), "Address already in use (os error 98)"),
            (anyhow::Error::new(Room::Silent(code())), "cannot listen on a:1: Address already in use (os error 98)"),
            (passed, "cannot read the configuration: /x: No such file"),
            (anyhow::Error::new(Room::Bare(file())).context("starting"), "starting: /x: No such file"),
            (anyhow::Error::new(Room::Bare(file())).context("/x"), "/x: No such file"),
            (anyhow::anyhow!("line 3: no value").context("line 3"), "line 3: no value"),
        ] {
            assert_eq!(sentence(&error), told);
        }
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let left = OutputError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(left, OutputError::ReaderLeft));
        let full = OutputError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(full.to_string().starts_with("cannot write to standard output: "), "{full}");
    }
}
