//! Admission in bytes: bounds how many bytes this process holds at once for clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Full;

/// A number of bytes from which shares are taken. Clones have the same bytes.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: u64,
    taken: AtomicU64,
}

/// Bytes taken from a budget, given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    pub fn new(bytes_max: u64) -> Budget {
        Budget(Arc::new(Inner { max: bytes_max, taken: AtomicU64::new(0) }))
    }

    /// Takes `bytes`, unless too few are left. A share larger than the whole budget is given when no other is taken.
    pub fn take(&self, bytes: u64) -> Result<Share, Full> {
        let fits = |taken: u64| (taken == 0 || taken.saturating_add(bytes) <= self.0.max).then_some(taken + bytes);
        let taken = self.0.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(|_| Share { budget: self.clone(), bytes }).map_err(|_| Full)
    }

    /// An empty share, to be resized.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }

    /// Bytes that are taken.
    pub fn taken(&self) -> u64 {
        self.0.taken.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Changes the size of the share to `bytes`.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), Full> {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            let mut more = self.budget.take(more)?;
            self.bytes += std::mem::take(&mut more.bytes);
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_than_there_is() {
        let budget = Budget::new(10);
        let mut share = budget.share();
        share.grow_to(4).unwrap();
        let other = budget.take(6).unwrap();
        assert_eq!(share.grow_to(5), Err(Full));
        assert_eq!((budget.take(1).map(drop), budget.taken()), (Err(Full), 10));
        drop(other);
        share.grow_to(5).unwrap();
        assert_eq!(budget.taken(), 5);
        drop(share);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn what_is_larger_than_all_has_it_alone() {
        let budget = Budget::new(10);
        let large = budget.take(11).unwrap();
        assert_eq!(budget.take(1).map(drop), Err(Full));
        drop(large);
        assert!(budget.take(1).is_ok());
    }
}
