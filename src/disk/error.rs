//! Why durable bytes could not be read or written.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the disk room. Only a [full disk](Error::is_full) is worth a retry: surface everything else and stop the
/// node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused; the text names the file. The operator makes room or mends the permissions, then
    /// starts again.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Bytes that were durable are damaged or missing. Never served, never repaired by guessing: the operator
    /// replaces the member or restores a snapshot.
    #[error("{} is damaged at byte {offset}: {reason}", path.display())]
    Corrupt { path: PathBuf, offset: u64, reason: String },
    /// Written by a newer program. Start that one, or point this one at another directory.
    #[error("{} holds {what} in format {found}, newer than format {known} which this program knows", directory.display())]
    Newer { directory: PathBuf, what: &'static str, found: u32, known: u32 },
    /// The directory holds something else than this program expects there.
    #[error("{} does not hold {what}: {reason}", directory.display())]
    Foreign { directory: PathBuf, what: &'static str, reason: String },
}

impl Error {
    /// For operations on an open file, whose own errors name no path.
    pub(crate) fn io(path: &Path, source: io::Error) -> Error {
        Error::Io(io::Error::new(source.kind(), format!("{}: {source}", path.display())))
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, reason: impl Into<String>) -> Error {
        Error::Corrupt { path: path.to_owned(), offset, reason: reason.into() }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        match error {
            Error::Io(source) => source,
            Error::Corrupt { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
            Error::Newer { .. } | Error::Foreign { .. } => io::Error::new(io::ErrorKind::Unsupported, error),
        }
    }
}
