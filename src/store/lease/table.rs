//! The replicated table of leases and their keys. It knows the time that the log has; see [`expiry`](super::expiry).

use std::time::Duration;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};

use super::time::LeaseTime;
use crate::store::Error;
use crate::store::mvcc::Key;
use crate::world::Term;

/// A lease and the keys attached to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Seconds.
    pub ttl: i64,
    /// The index of the entry that granted it, where this member knows it: it tells two leases of one ID apart.
    pub granted: u64,
    /// When it ends, by the time of leases, if a leader has recorded that. A renewal takes the record back first.
    pub deadline: Option<Duration>,
    pub keys: OrdSet<Key>,
}

/// All leases. A copy costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    table: OrdMap<i64, Lease>,
    pub time: LeaseTime,
}

/// In a `LeaseCheckpoint` the row of this ID, which no lease has, carries the time.
pub const TIME: i64 = 0;

impl Leases {
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.table.get(&id)
    }

    pub fn contains(&self, id: i64) -> bool {
        self.table.contains_key(&id)
    }

    pub fn count(&self) -> usize {
        self.table.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.table.iter().map(|(id, lease)| (*id, lease))
    }

    /// The differences to a later table.
    pub fn diff<'a>(&'a self, later: &'a Leases) -> impl Iterator<Item = DiffItem<'a, 'a, i64, Lease>> {
        self.table.diff(&later.table)
    }

    /// Adds a lease without keys.
    pub fn grant(&mut self, id: i64, ttl: i64, granted: u64) -> Result<(), Error> {
        if self.contains(id) {
            return Err(Error::LeaseExists);
        }
        self.table.insert(id, Lease { ttl, granted, ..Lease::default() });
        Ok(())
    }

    /// Removes a lease, whose keys the caller has deleted.
    pub fn remove(&mut self, id: i64) {
        self.table.remove(&id);
    }

    /// Applies one row of a `LeaseCheckpoint` by the leader of `term`: the seconds that a lease still lives, or 0 to
    /// take that record back; or, for [`TIME`], the milliseconds that this leader has counted.
    pub fn checkpoint(&mut self, term: Term, id: i64, remaining: i64) {
        let remaining = u64::try_from(remaining).unwrap_or_default();
        if id == TIME {
            self.time.report(term, Duration::from_millis(remaining));
        } else {
            self.set_remaining(id, remaining);
        }
    }

    /// Records that a lease ends in `seconds`; 0 takes the record back.
    pub fn set_remaining(&mut self, id: i64, seconds: u64) {
        let now = self.time.now();
        if let Some(lease) = self.table.get_mut(&id) {
            let seconds = seconds.min(lease.ttl.max(0).unsigned_abs());
            lease.deadline = (seconds > 0).then(|| now + Duration::from_secs(seconds));
        }
    }

    /// How long a lease still lived when the time was last reported; `None` without a record of its end.
    pub fn remaining(&self, lease: &Lease) -> Option<Duration> {
        lease.deadline.map(|deadline| deadline.saturating_sub(self.time.now()))
    }

    /// The same in seconds, rounded up, because a lease must not end early, and at least 1; 0 without a record of its
    /// end.
    pub fn remaining_seconds(&self, lease: &Lease) -> i64 {
        self.remaining(lease).map_or(0, |remaining| whole_seconds(remaining).max(1))
    }

    /// Moves `key` from one lease to another; 0 is no lease.
    pub fn reattach(&mut self, key: &Key, from: i64, to: i64) {
        if from == to {
            return;
        }
        if let Some(lease) = self.table.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.table.get_mut(&to) {
            lease.keys.insert(key.clone());
        }
    }
}

/// Rounded up.
pub fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}
