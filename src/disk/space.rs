//! Disk space: whether what will be written next has its space already. Running out of file descriptors counts as a
//! full disk.
//!
//! Files that must grow reserve space ahead of need. When there is no more to reserve, the owner of the files says so
//! here, well before a write fails, and tries again now and then. A write that finds no space all the same waits: the
//! disk is full, not broken.

use std::io;
use std::time::Duration;

use tokio::sync::watch;

use crate::disk::Error;

/// Pause before a write that found no space is tried again.
pub const RETRY: Duration = Duration::from_millis(500);

/// Whether the disk or this user's quota is full, or no file descriptor is left: worth a retry, unlike any other error.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Error {
    /// See [`is_full`].
    pub fn is_full(&self) -> bool {
        matches!(self, Error::Io(source) if is_full(source))
    }
}

/// Whether some files are short of space. Clones share it.
#[derive(Clone, Debug)]
pub struct Space {
    /// Which files they are, for the operator.
    what: &'static str,
    short: watch::Sender<bool>,
}

impl Space {
    pub fn new(what: &'static str) -> Space {
        Space { what, short: watch::Sender::new(false) }
    }

    /// Notes that no more space could be reserved, because of `error`.
    pub fn run_short(&self, error: &Error) {
        if self.short.send_if_modified(|short| !std::mem::replace(short, true)) {
            tracing::error!(%error, "the {} is short of disk space or file descriptors: free some", self.what);
        }
    }

    /// Notes that there is space ahead.
    pub fn suffice(&self) {
        if self.short.send_if_modified(|short| std::mem::replace(short, false)) {
            tracing::info!("the {} has enough disk space and file descriptors again", self.what);
        }
    }

    pub fn is_short(&self) -> bool {
        *self.short.borrow()
    }

    /// Receives every change.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.short.subscribe()
    }
}
