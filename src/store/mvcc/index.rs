//! The index: which revisions there are, and where their records lie. Persistent maps, so that a copy for readers
//! costs nothing and never changes.
//!
//! Every change of a key is one entry under its revision, linked to the key's change before it. A link may lead to a
//! change that compaction took: then there is nothing before it.

use std::borrow::Borrow;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use super::super::range::KeyRange;
use crate::disk::Place;

/// A key, shared by all maps that hold it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// Copies the bytes: those of a request share the memory of a whole log entry.
    pub fn new(bytes: &[u8]) -> Key {
        Key(bytes.into())
    }

    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

impl std::ops::Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// One change: the transaction's revision, and which change of that transaction it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Rev {
    pub main: i64,
    pub sub: u32,
}

impl Rev {
    /// Before every change.
    pub const NONE: Rev = Rev { main: 0, sub: 0 };
}

/// Where the record of a change lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Stored(Place),
    /// Among the records that the current batch has yet to write.
    Pending(u32),
}

/// What the index knows of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Key,
    /// 0 for a deletion, like `version` and `lease`.
    pub create: i64,
    pub version: i64,
    pub lease: i64,
    /// The key's change before this one.
    pub prev: Rev,
    pub slot: Slot,
}

impl Change {
    pub fn is_deletion(&self) -> bool {
        self.version == 0
    }
}

/// A key's newest change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latest {
    main: i64,
    sub: u32,
    /// It was a put.
    live: bool,
}

impl Latest {
    pub fn rev(self) -> Rev {
        Rev { main: self.main, sub: self.sub }
    }
}

/// All keys, and all their changes that compaction left.
#[derive(Clone, Debug)]
pub struct Index {
    keys: OrdMap<Key, Latest>,
    changes: OrdMap<Rev, Change>,
    /// The newest revision; 1 in an empty store.
    pub revision: i64,
    /// Reads below this revision fail; -1 before the first compaction.
    pub compacted: i64,
    /// Changes before this one were swept up to the last compaction.
    pub swept: Rev,
}

impl Default for Index {
    fn default() -> Index {
        Index { keys: OrdMap::new(), changes: OrdMap::new(), revision: 1, compacted: -1, swept: Rev::NONE }
    }
}

impl Index {
    /// Records a change of `key`, newer than all its others.
    pub fn insert(&mut self, at: Rev, change: Change) {
        debug_assert_eq!(self.keys.get(&*change.key).map_or(Rev::NONE, |latest| latest.rev()), change.prev);
        let latest = Latest { main: at.main, sub: at.sub, live: !change.is_deletion() };
        match self.keys.get_mut(&*change.key) {
            Some(known) => *known = latest,
            None => drop(self.keys.insert(change.key.clone(), latest)),
        }
        self.changes.insert(at, change);
    }

    /// Puts back what a checkpoint holds; changes come in order of their revisions.
    pub fn restore_change(&mut self, at: Rev, change: Change) {
        self.changes.insert(at, change);
    }

    /// Puts back what a checkpoint holds; keys come in order, after the changes.
    pub fn restore_key(&mut self, key: Key, at: Rev, live: bool) {
        self.keys.insert(key, Latest { main: at.main, sub: at.sub, live });
    }

    pub fn change(&self, at: Rev) -> Option<&Change> {
        self.changes.get(&at)
    }

    /// Where a change's record lies from now on. `None` when compaction took the change.
    pub fn relocate(&mut self, at: Rev, slot: Slot) -> Option<Slot> {
        let change = self.changes.get_mut(&at)?;
        Some(std::mem::replace(&mut change.slot, slot))
    }

    /// Forgets a change; the key goes with its newest one.
    pub fn remove(&mut self, at: Rev) -> Option<Change> {
        let change = self.changes.remove(&at)?;
        if self.keys.get(&*change.key).is_some_and(|latest| latest.rev() == at) {
            self.keys.remove(&*change.key);
        }
        Some(change)
    }

    /// The newest change of `key`, deletions included.
    pub fn latest(&self, key: &[u8]) -> Option<(Rev, &Change)> {
        let at = self.keys.get(key)?.rev();
        Some((at, self.changes.get(&at).expect("a key's newest change is in the index")))
    }

    /// The newest change of `key`, unless it is a deletion.
    pub fn live(&self, key: &[u8]) -> Option<(Rev, &Change)> {
        self.latest(key).filter(|(_, change)| !change.is_deletion())
    }

    /// From `at` back along the key's changes to the one that stood at `revision`, deletions included.
    fn back_to(&self, mut at: Rev, revision: i64) -> Option<(Rev, &Change)> {
        loop {
            let change = self.changes.get(&at)?;
            if at.main <= revision {
                return Some((at, change));
            }
            at = change.prev;
        }
    }

    /// The keys in `range` that lived at `revision`, in order.
    pub fn range<'a>(
        &'a self,
        range: &'a KeyRange,
        revision: i64,
    ) -> Box<dyn DoubleEndedIterator<Item = (&'a Key, Rev, &'a Change)> + 'a> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let keys = self.keys.range::<_, [u8]>(range.bounds());
        Box::new(keys.filter_map(move |(key, latest)| {
            if latest.main <= revision && !latest.live {
                return None;
            }
            let (at, change) = self.back_to(latest.rev(), revision)?;
            (!change.is_deletion()).then_some((key, at, change))
        }))
    }

    /// How many keys in `range` lived at `revision`.
    pub fn count(&self, range: &KeyRange, revision: i64) -> usize {
        if range.is_empty() {
            return 0;
        }
        let keys = self.keys.range::<_, [u8]>(range.bounds());
        keys.filter(|(_, latest)| match latest.main <= revision {
            true => latest.live,
            false => self.back_to(latest.rev(), revision).is_some_and(|(_, change)| !change.is_deletion()),
        })
        .count()
    }

    /// Changes from `from` on, in order.
    pub fn changes_from(&self, from: Rev) -> impl Iterator<Item = (Rev, &Change)> {
        self.changes.range(from..).map(|(at, change)| (*at, change))
    }

    /// All keys with the place of their newest change, in order.
    pub fn keys(&self) -> impl Iterator<Item = (&Key, Latest)> {
        self.keys.iter().map(|(key, latest)| (key, *latest))
    }

    pub fn keys_count(&self) -> usize {
        self.keys.len()
    }

    /// Keys that exist; walks over all of them.
    pub fn live_count(&self) -> usize {
        self.range(&KeyRange::everything(), i64::MAX).count()
    }

    pub fn changes_count(&self) -> usize {
        self.changes.len()
    }

    /// Whether `at` is what its key was at `revision`, a put.
    pub fn is_kept(&self, at: Rev, change: &Change, revision: i64) -> bool {
        !change.is_deletion()
            && self.keys.get(&*change.key).and_then(|latest| self.back_to(latest.rev(), revision)).map(|(at, _)| at)
                == Some(at)
    }
}
