//! Errors of files with the path they are about.

use std::io;
use std::path::Path;

use super::reserve;

/// The error with the path it is about: the operating system's own text names none. That file descriptors have run out is
/// a quota that is used up, and comes back as one does.
pub(super) fn named(error: io::Error, path: &Path) -> io::Error {
    let kind = if reserve::has_run_out(&error) { io::ErrorKind::QuotaExceeded } else { error.kind() };
    io::Error::new(kind, format!("{}: {error}", path.display()))
}
