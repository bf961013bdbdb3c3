//! Why a data directory was not migrated.

use std::path::PathBuf;

use crate::store::OpenError;
use crate::{disk, raft};

/// The directory that was read is as it was; what was written is incomplete, and under another name than the one asked
/// for. Surface it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error(transparent)]
    Log(#[from] raft::Error),
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The directory or file is not what it was given for, or lacks something.
    #[error("{}: {reason}", path.display())]
    Unfit { path: PathBuf, reason: String },
    /// Give another name, or move it away.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
}

impl Error {
    pub(super) fn unfit(path: impl Into<PathBuf>, reason: impl Into<String>) -> Error {
        Error::Unfit { path: path.into(), reason: reason.into() }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Disk(error.into())
    }
}
