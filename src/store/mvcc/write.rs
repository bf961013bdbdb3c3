//! Changing keys: one transaction at a time, all its changes under one revision.

use chorus_proto::mvccpb::{Event, KeyValue, event::EventType};

use super::index::{Back, Change, Index, Key, Rev, Slot};
use super::values::{Fault, Overlay, Values};
use crate::store::lease::Leases;
use crate::store::metrics::Ops;
use crate::store::range::{End, KeyRange};
use crate::world::planted::planted;

/// A transaction under way. Its changes take effect at once, so that later operations of it see them; it never fails
/// half way, because everything is checked before the first change.
pub struct Transaction<'a, V> {
    pub index: &'a mut Index,
    pub leases: &'a mut Leases,
    stored: &'a V,
    /// The records of this batch, the transactions before this one included.
    pending: &'a mut Vec<KeyValue>,
    begin: i64,
    changes: u32,
    pub ops: Ops,
}

impl<'a, V: Values> Transaction<'a, V> {
    pub fn begin(
        index: &'a mut Index,
        leases: &'a mut Leases,
        stored: &'a V,
        pending: &'a mut Vec<KeyValue>,
    ) -> Transaction<'a, V> {
        let begin = index.revision;
        Transaction { index, leases, stored, pending, begin, changes: 0, ops: Ops::default() }
    }

    /// The revision that this transaction's changes get.
    pub fn next(&self) -> i64 {
        self.begin + 1
    }

    /// The revision as of the changes so far.
    pub fn current(&self) -> i64 {
        if self.changes > 0 { self.next() } else { self.begin }
    }

    pub fn changes(&self) -> u32 {
        self.changes
    }

    pub fn values(&self) -> Overlay<'_, V> {
        Overlay { stored: self.stored, pending: self.pending }
    }

    /// Puts `key` and gives the slot of what was there before.
    pub fn put(&mut self, kv: KeyValue) -> Option<Slot> {
        let (key, prev, old) = match self.index.latest(&kv.key) {
            Some((at, change)) => (change.key.clone(), at, (!change.is_deletion()).then(|| change.clone())),
            None => (Key::new(&kv.key), Rev::NONE, None),
        };
        let (create, version, old_lease) =
            old.as_ref().map_or((self.next(), 1, 0), |old| (old.create, old.version + 1, old.lease));
        if !planted!("lease-stays") || old_lease == 0 {
            self.leases.reattach(&key, old_lease, kv.lease);
        }
        self.ops.puts += 1;
        self.ops.put_bytes += (kv.key.len() + kv.value.len()) as u64;
        self.ops.created += u64::from(old.is_none());
        let change =
            Change { key, create, version, lease: kv.lease, prev, back: Back::default(), slot: self.next_slot() };
        self.record(change, KeyValue { create_revision: create, version, mod_revision: self.next(), ..kv });
        old.map(|old| old.slot)
    }

    /// Deletes the keys in `range`, in order, and gives the slots of what they were.
    pub fn delete_range(&mut self, range: &KeyRange) -> Vec<Slot> {
        let found: Vec<_> = self
            .index
            .range(range, i64::MAX)
            .map(|(key, at, change)| (key.clone(), at, change.lease, change.slot))
            .skip(usize::from(planted!("delete-leaves-one") && range.end != End::Single))
            .collect();
        self.ops.deletes += 1;
        self.ops.deleted += found.len() as u64;
        for (key, prev, lease, _) in &found {
            self.leases.reattach(key, *lease, 0);
            let kv = KeyValue { key: key.to_bytes(), ..Default::default() };
            let (key, back, slot) = (key.clone(), Back::default(), self.next_slot());
            let change = Change { key, create: 0, version: 0, lease: 0, prev: *prev, back, slot };
            self.record(change, kv);
        }
        found.into_iter().map(|(.., slot)| slot).collect()
    }

    pub fn read(&self, slot: Slot) -> Result<KeyValue, Fault> {
        self.values().key_value(slot)
    }

    /// Ends the transaction: the revision moves iff anything changed.
    pub fn end(self) -> i64 {
        self.index.revision = self.current();
        self.index.revision
    }

    fn next_slot(&self) -> Slot {
        Slot::Pending(self.pending.len() as u32)
    }

    fn record(&mut self, change: Change, kv: KeyValue) {
        self.index.insert(Rev { main: self.begin + 1, sub: self.changes }, change);
        self.pending.push(kv);
        self.changes += 1;
    }
}

/// The event that watchers see of a record.
pub fn event(kv: KeyValue, revision: i64) -> Event {
    let deleted = kv.mod_revision == 0;
    let r#type = if deleted { EventType::Delete } else { EventType::Put } as i32;
    Event { r#type, kv: Some(KeyValue { mod_revision: revision, ..kv }), prev_kv: None }
}
