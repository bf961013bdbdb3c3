//! File descriptors put aside for files that must be written, so that they can be opened when all others are taken.
#![allow(clippy::disallowed_methods, reason = "descriptors of nothing are no files")]

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

/// Enough for the files that the log and the store open at a time.
const DESCRIPTORS: usize = 16;

/// Descriptors that are held for nothing else. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserve(Arc<Mutex<Vec<File>>>);

/// No more file descriptors are to be had, by this process or on this machine.
pub(super) fn has_run_out(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Reserve {
    /// Opens something, for as long as it takes with what is held back.
    pub fn open<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let mut opened = open();
        // Another thread may take what was given up.
        while opened.as_ref().is_err_and(has_run_out) && self.give_up_one() {
            opened = open();
        }
        if opened.is_ok() {
            self.refill();
        }
        opened
    }

    fn give_up_one(&self) -> bool {
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if given.is_some() {
            tracing::warn!("out of file descriptors: one of the reserve is used");
        }
        given.is_some()
    }

    fn refill(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while held.len() < DESCRIPTORS
            && let Ok(file) = File::open("/dev/null")
        {
            held.push(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out_of_descriptors() -> io::Error {
        Errno::MFILE.into()
    }

    #[test]
    fn what_is_held_back_is_used_up_before_anything_fails() {
        let reserve = Reserve::default();
        reserve.open(|| Ok(())).unwrap();
        let held = || reserve.0.lock().unwrap().len();
        assert_eq!(held(), DESCRIPTORS);
        let opened = reserve.open(|| if held() < DESCRIPTORS { Ok(held()) } else { Err(out_of_descriptors()) });
        assert_eq!((opened.unwrap(), held()), (DESCRIPTORS - 1, DESCRIPTORS));
        let failed = reserve.open(|| Err::<(), _>(out_of_descriptors()));
        assert!(has_run_out(&failed.unwrap_err()) && held() == 0);
        assert!(!has_run_out(&reserve.open(|| Err::<(), _>(io::ErrorKind::NotFound.into())).unwrap_err()));
    }
}
