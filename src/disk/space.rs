//! Room on the disk: whether what is to be written next has its room already. File descriptors that have run out are
//! waited for alike.
//!
//! Files that must grow take room ahead of need. When no more is to be had, the owner of the files says so here, well
//! before a write fails, and asks again now and then. A write that finds no room all the same waits: the disk is full,
//! not broken.

use std::io;
use std::time::Duration;

use tokio::sync::watch;

use crate::disk::Error;

/// Pause before what found no room is tried again.
pub const RETRY: Duration = Duration::from_millis(500);

/// The disk, or what this user may take of it, is full, or no file descriptor is to be had: worth a retry, unlike any
/// other error.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Error {
    /// See [`is_full`].
    pub fn is_full(&self) -> bool {
        matches!(self, Error::Io(source) if is_full(source))
    }
}

/// Whether some files are short of room. Clones share it.
#[derive(Clone, Debug)]
pub struct Space {
    /// Whose room it is, for the operator.
    what: &'static str,
    short: watch::Sender<bool>,
}

impl Space {
    pub fn new(what: &'static str) -> Space {
        Space { what, short: watch::Sender::new(false) }
    }

    /// No more room is to be had, because of `error`.
    pub fn run_short(&self, error: &Error) {
        if self.short.send_if_modified(|short| !std::mem::replace(short, true)) {
            tracing::error!(%error, "the {} is short of disk space or of file descriptors: make room", self.what);
        }
    }

    /// There is room ahead.
    pub fn suffice(&self) {
        if self.short.send_if_modified(|short| std::mem::replace(short, false)) {
            tracing::info!("the {} has what it needs again", self.what);
        }
    }

    pub fn is_short(&self) -> bool {
        *self.short.borrow()
    }

    /// Hears of changes.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.short.subscribe()
    }
}
