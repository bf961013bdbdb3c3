//! The index: which revisions there are, and where their records lie. Persistent maps, so that a copy for readers
//! costs nothing and never changes.
//!
//! Every change of a key is one entry under its revision, linked to the key's change before it. A link may lead to a
//! change that compaction took: then there is nothing before it. A second link leads further back, so that what a key
//! was long ago is found in steps that grow with the logarithm of its changes.

use imbl::OrdMap;

use super::super::range::{End, KeyRange};
use super::counts::{Counts, Tally};
pub use super::key::{Key, Latest, Rev};
use crate::disk::RecordLocation;

/// Where the record of a change lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Stored(RecordLocation),
    /// Among the records that the current batch has yet to write.
    Pending(u32),
}

impl Slot {
    /// Of the record.
    pub fn bytes(self) -> u64 {
        match self {
            Slot::Stored(place) => u64::from(place.length),
            Slot::Pending(_) => 0,
        }
    }
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
    /// Set by the index that holds it.
    pub back: Back,
    pub slot: Slot,
}

/// A link to one of a key's changes further back than the one before. With it the changes of a key form a skew-binary
/// list (Myers, "An applicative random-access stack", 1983): whichever one is looked for, a number of steps that grows
/// with the logarithm of their number leads there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Back {
    main: i64,
    sub: u32,
    /// Changes of the key before this one, as far as they were known when it came.
    depth: u32,
}

impl Back {
    fn rev(self) -> Rev {
        Rev { main: self.main, sub: self.sub }
    }
}

impl Change {
    pub fn is_deletion(&self) -> bool {
        self.version == 0
    }
}

/// All keys, and all their changes that compaction left.
#[derive(Clone, Debug)]
pub struct Index {
    keys: OrdMap<Key, Latest>,
    counts: Counts,
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
        let (keys, counts, changes) = (OrdMap::new(), Counts::default(), OrdMap::new());
        Index { keys, counts, changes, revision: 1, compacted: -1, swept: Rev::NONE }
    }
}

impl Index {
    /// Records a change of `key`, newer than all its others.
    pub fn insert(&mut self, at: Rev, change: Change) {
        debug_assert_eq!(self.keys.get(&*change.key).map_or(Rev::NONE, |latest| latest.rev()), change.prev);
        let live = !change.is_deletion();
        let latest = Latest { main: at.main, sub: at.sub, live };
        match self.keys.get_mut(&*change.key) {
            Some(known) => {
                let before = std::mem::replace(known, latest);
                if before.live != live {
                    self.counts.changed(&change.key, live);
                }
            }
            None => {
                self.keys.insert(change.key.clone(), latest);
                self.counts.added(&change.key, live, &self.keys);
            }
        }
        self.link(at, change);
    }

    /// Puts back what a checkpoint holds; changes come in order of their revisions.
    pub fn restore_change(&mut self, at: Rev, change: Change) {
        self.link(at, change);
    }

    /// Puts back what a checkpoint holds; [`restored`](Index::restored) comes after the last one.
    pub fn restore_key(&mut self, key: Key, at: Rev, live: bool) {
        self.keys.insert(key, Latest { main: at.main, sub: at.sub, live });
    }

    /// All keys of a checkpoint were put back.
    pub fn restored(&mut self) {
        self.counts = Counts::of(&self.keys);
    }

    fn link(&mut self, at: Rev, change: Change) {
        let back = self.back_from(change.prev);
        self.changes.insert(at, Change { back, ..change });
    }

    /// The second link of a change that comes after the one at `prev`: as far back as two links of equal length lead,
    /// else to `prev`. Where compaction took one of them, the links begin anew.
    fn back_from(&self, prev: Rev) -> Back {
        let Some(before) = self.changes.get(&prev) else { return Back { main: prev.main, sub: prev.sub, depth: 0 } };
        let depth = before.back.depth.saturating_add(1);
        let further = self.changes.get(&before.back.rev()).and_then(|second| {
            let third = self.changes.get(&second.back.rev())?;
            let equal =
                before.back.depth.wrapping_sub(second.back.depth) == second.back.depth.wrapping_sub(third.back.depth);
            equal.then(|| second.back.rev())
        });
        let Rev { main, sub } = further.unwrap_or(prev);
        Back { main, sub, depth }
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
        if let Some(latest) = self.keys.get(&*change.key).copied().filter(|latest| latest.rev() == at) {
            self.keys.remove(&*change.key);
            self.counts.removed(&change.key, latest.live);
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
    fn back_to(&self, at: Rev, revision: i64) -> Option<(Rev, &Change)> {
        self.walk_back(at, revision).0
    }

    /// The same, and how many changes were looked at.
    fn walk_back(&self, mut at: Rev, revision: i64) -> (Option<(Rev, &Change)>, usize) {
        for steps in 1.. {
            let Some(change) = self.changes.get(&at) else { return (None, steps) };
            if at.main <= revision {
                return (Some((at, change)), steps);
            }
            // What compaction took is not after any revision that can be asked for: a link never leads there.
            let back = change.back.rev();
            at = if back.main > revision { back } else { change.prev };
        }
        (None, 0)
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

    /// How many keys in `range` lived at `revision`. Of an old revision it walks over all of them.
    pub fn count(&self, range: &KeyRange, revision: i64) -> usize {
        if range.is_empty() {
            return 0;
        }
        if self.changes.get_max().is_none_or(|(newest, _)| newest.main <= revision) {
            return self.tally(range).live;
        }
        let keys = self.keys.range::<_, [u8]>(range.bounds());
        keys.filter(|(_, latest)| match latest.main <= revision {
            true => latest.live,
            false => self.back_to(latest.rev(), revision).is_some_and(|(_, change)| !change.is_deletion()),
        })
        .count()
    }

    /// How many keys in `range` there are now.
    pub fn tally(&self, range: &KeyRange) -> Tally {
        if range.is_empty() {
            return Tally::default();
        }
        let end = match &range.end {
            End::Single => {
                let latest = self.keys.get(&*range.start);
                return latest.map_or(Tally::default(), |latest| Tally { known: 1, live: usize::from(latest.live) });
            }
            End::Before(end) => self.counts.before(end, &self.keys).0,
            End::Unbounded => self.counts.total(),
        };
        end.without(self.counts.before(&range.start, &self.keys).0)
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

    /// Keys that exist.
    pub fn live_count(&self) -> usize {
        self.counts.total().live
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

#[cfg(test)]
mod tests {
    use super::*;

    /// An index whose one key has a change at each of `changes` revisions from 2 on.
    fn hot(changes: i64) -> Index {
        let (mut index, key) = (Index::default(), Key::new(b"hot"));
        let mut prev = Rev::NONE;
        for main in 2..2 + changes {
            let at = Rev { main, sub: 0 };
            let (create, version, slot, back) = (2, main - 1, Slot::Pending(0), Back::default());
            index.insert(at, Change { key: key.clone(), create, version, lease: 0, prev, back, slot });
            (prev, index.revision) = (at, main);
        }
        index
    }

    #[test]
    fn an_old_change_of_a_hot_key_is_a_few_steps_away() {
        let changes = 100_000;
        let index = hot(changes);
        let newest = Rev { main: index.revision, sub: 0 };
        for revision in (2..index.revision).step_by(97) {
            let (found, steps) = index.walk_back(newest, revision);
            assert_eq!(found.unwrap().0.main, revision);
            assert!(steps <= 3 * 17, "{steps} steps to revision {revision}");
        }
        assert!(index.walk_back(newest, 1).0.is_none());
    }

    #[test]
    fn what_compaction_leaves_is_found_as_before() {
        let mut index = hot(1_000);
        for floor in (50..1_000).step_by(50) {
            index.compact(floor).unwrap();
            while !index.is_swept() {
                index.sweep(7);
            }
            let (at, change) = index.latest(b"hot").unwrap();
            let (main, change) =
                (index.revision + 1, Change { version: change.version + 1, prev: at, ..change.clone() });
            index.insert(Rev { main, sub: 0 }, change);
            index.revision = main;
            for revision in floor..=index.revision {
                let (found, _) = index.walk_back(Rev { main, sub: 0 }, revision);
                assert_eq!(found.unwrap().0.main, revision, "compacted at {floor}");
            }
        }
    }
}
