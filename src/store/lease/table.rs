//! The replicated table of leases: who holds what. Time is no part of it; see [`expiry`](super::expiry).

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};

use crate::store::Error;
use crate::store::mvcc::Key;

/// A lease and the keys attached to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Seconds.
    pub ttl: i64,
    /// Seconds that were left when a leader last recorded it; 0 when none did.
    pub remaining_ttl: i64,
    pub keys: OrdSet<Key>,
}

/// All leases. A copy costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Leases(OrdMap<i64, Lease>);

impl Leases {
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.0.get(&id)
    }

    pub fn contains(&self, id: i64) -> bool {
        self.0.contains_key(&id)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.0.iter().map(|(id, lease)| (*id, lease))
    }

    /// What differs in a later table.
    pub fn diff<'a>(&'a self, later: &'a Leases) -> impl Iterator<Item = DiffItem<'a, 'a, i64, Lease>> {
        self.0.diff(&later.0)
    }

    /// Adds a lease without keys.
    pub fn grant(&mut self, id: i64, ttl: i64, remaining_ttl: i64) -> Result<(), Error> {
        if self.contains(id) {
            return Err(Error::LeaseExists);
        }
        self.0.insert(id, Lease { ttl, remaining_ttl, keys: OrdSet::new() });
        Ok(())
    }

    /// Removes a lease, whose keys the caller has deleted.
    pub fn remove(&mut self, id: i64) {
        self.0.remove(&id);
    }

    pub fn set_remaining(&mut self, id: i64, remaining_ttl: i64) {
        if let Some(lease) = self.0.get_mut(&id) {
            lease.remaining_ttl = remaining_ttl;
        }
    }

    /// Moves `key` from one lease to another; 0 is no lease.
    pub fn reattach(&mut self, key: &Key, from: i64, to: i64) {
        if from == to {
            return;
        }
        if let Some(lease) = self.0.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.0.get_mut(&to) {
            lease.keys.insert(key.clone());
        }
    }
}
