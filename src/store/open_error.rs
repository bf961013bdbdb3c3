//! Why a store cannot be opened.

use std::path::Path;

use crate::disk;

/// Why the store cannot be opened. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be read or written, or another process holds it. Surface it.
    #[error("cannot open the store in {directory}: {source}")]
    Io { directory: String, source: std::io::Error },
    /// A file broke one of its rules: stop, keep the directory, restore this member from its peers.
    #[error("the store in {directory} is damaged: {message}")]
    Damaged { directory: String, message: String },
    /// The directory was written by a newer release: run that one.
    #[error("the store in {directory} has format {found}, this release reads up to {newest}")]
    NewerFormat { directory: String, found: u32, newest: u32 },
}

impl OpenError {
    pub(super) fn from_disk(data_dir: &Path, error: disk::Error) -> OpenError {
        let directory = data_dir.display().to_string();
        match error {
            disk::Error::Io(source) if source.kind() == std::io::ErrorKind::InvalidData => {
                OpenError::Damaged { directory, message: source.to_string() }
            }
            disk::Error::Io(source) => OpenError::Io { directory, source },
            disk::Error::Newer { found, known, .. } => OpenError::NewerFormat { directory, found, newest: known },
            damaged => OpenError::Damaged { directory, message: damaged.to_string() },
        }
    }
}
