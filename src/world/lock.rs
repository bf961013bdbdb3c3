//! A mutex that blocking work may hold across operations on files. In a simulation whoever waits for it lets its holder
//! run; elsewhere it is the standard library's.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::threads::{self, Turns};

/// A mutex. One that a panic left behind is taken as it is: the process ends.
#[derive(Debug, Default)]
pub struct Lock<T> {
    value: Mutex<T>,
    /// The simulated thread that has it.
    holder: Mutex<Option<Turns>>,
}

/// What is behind a [`Lock`], until this is dropped.
#[derive(Debug)]
pub struct Guard<'a, T> {
    value: MutexGuard<'a, T>,
    /// Where a simulated thread has it.
    held: Option<Held<'a>>,
}

/// Forgets who holds the lock when it is let go.
#[derive(Debug)]
struct Held<'a>(&'a Mutex<Option<Turns>>);

impl<T> Lock<T> {
    pub const fn new(value: T) -> Lock<T> {
        Lock { value: Mutex::new(value), holder: Mutex::new(None) }
    }

    pub fn lock(&self) -> Guard<'_, T> {
        threads::yield_point();
        let value = self.take();
        let current = threads::current();
        let held = current.is_some().then(|| {
            *self.holder() = current;
            Held(&self.holder)
        });
        Guard { value, held }
    }

    fn take(&self) -> MutexGuard<'_, T> {
        loop {
            match self.value.try_lock() {
                Ok(value) => return value,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
            let holder = self.holder().clone();
            match holder {
                Some(holder) => drop(holder.run(1)),
                None => {
                    assert!(threads::current().is_none(), "deadlock: a lock's holder waits for a simulated thread");
                    return self.value.lock().unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn holder(&self) -> MutexGuard<'_, Option<Turns>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // Before the value is free: its next holder is another.
        self.held.take();
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
