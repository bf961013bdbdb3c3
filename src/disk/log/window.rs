//! Which entries the log holds, and the bytes of the recent ones. Pure: no file is touched here.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::Entry;
use crate::disk::Position;

/// Where a frame lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub segment: u64,
    pub offset: u64,
    /// Of the payload.
    pub length: u32,
}

#[derive(Debug)]
struct Slot {
    at: Position,
    /// `None` until the entry is durable: until then it must stay in memory.
    place: Option<Place>,
    payload: Option<Bytes>,
}

/// One entry as a reader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    InMemory(Entry),
    OnDisk(Position, Place),
}

/// The live entries: a gapless run of indexes.
#[derive(Debug)]
pub struct Window {
    slots: VecDeque<Slot>,
    purged: Option<Position>,
    /// Slots before this one have no payload in memory.
    evicted: usize,
    bytes: usize,
    bytes_max: usize,
}

impl Window {
    /// An empty log that keeps up to `bytes_max` of durable payloads in memory.
    pub fn new(bytes_max: usize) -> Window {
        Window { slots: VecDeque::new(), purged: None, evicted: 0, bytes: 0, bytes_max }
    }

    pub fn purged(&self) -> Option<Position> {
        self.purged
    }

    pub fn first(&self) -> Option<Position> {
        self.slots.front().map(|slot| slot.at)
    }

    pub fn last(&self) -> Option<Position> {
        self.slots.back().map(|slot| slot.at)
    }

    /// The index that the next entry must have; `None` when any will do.
    pub fn next_index(&self) -> Option<u64> {
        self.last().or(self.purged).map(|at| at.index + 1)
    }

    /// Whether an entry of `index` may be pushed.
    pub fn accepts(&self, index: u64) -> bool {
        self.next_index().is_none_or(|next| next == index)
    }

    /// Adds the next entry.
    pub fn push(&mut self, entry: Entry, place: Option<Place>) {
        assert!(self.accepts(entry.at.index), "entry {} does not follow {:?}", entry.at, self.last().or(self.purged));
        self.bytes += entry.payload.len();
        self.slots.push_back(Slot { at: entry.at, place, payload: Some(entry.payload) });
    }

    /// Tells where an entry became durable; one that was truncated or purged meanwhile is passed over.
    pub fn placed(&mut self, at: Position, place: Place) {
        if let Some(slot) = self.offset_of(at.index).and_then(|i| self.slots.get_mut(i)).filter(|slot| slot.at == at) {
            slot.place = Some(place);
        }
    }

    /// Lets the oldest payloads go until the memory bound holds; what is not durable stays.
    pub fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            let Some(slot) = self.slots.get_mut(self.evicted).filter(|slot| slot.place.is_some()) else { return };
            self.bytes -= slot.payload.take().map_or(0, |payload| payload.len());
            self.evicted += 1;
        }
    }

    /// Forgets the entries after `index`.
    pub fn truncate_after(&mut self, index: u64) {
        while self.last().is_some_and(|last| last.index > index) {
            self.forget_back();
        }
    }

    /// Forgets the entries up to `up_to`, which may lie beyond the last one; going backwards changes nothing.
    pub fn purge(&mut self, up_to: Position) {
        if self.purged.is_some_and(|purged| purged.index >= up_to.index) {
            return;
        }
        self.purged = Some(up_to);
        while self.first().is_some_and(|first| first.index <= up_to.index) {
            let slot = self.slots.pop_front().expect("it has a first slot");
            self.bytes -= slot.payload.map_or(0, |payload| payload.len());
            self.evicted = self.evicted.saturating_sub(1);
        }
    }

    /// The segment of the oldest durable entry that is still held; `None` when there is none.
    pub fn oldest_segment(&self) -> Option<u64> {
        self.slots.front().and_then(|slot| slot.place).map(|place| place.segment)
    }

    /// The entries of `range` that the log holds.
    pub fn find(&self, range: Range<u64>) -> Vec<Found> {
        let Some(first) = self.first().map(|at| at.index) else { return Vec::new() };
        let start = range.start.max(first) - first;
        let end = range.end.saturating_sub(first).min(self.slots.len() as u64);
        if start >= end {
            return Vec::new();
        }
        self.slots.range(start as usize..end as usize).map(Slot::found).collect()
    }

    fn offset_of(&self, index: u64) -> Option<usize> {
        index.checked_sub(self.first()?.index).map(|offset| offset as usize)
    }

    fn forget_back(&mut self) {
        let slot = self.slots.pop_back().expect("it has a last slot");
        self.bytes -= slot.payload.map_or(0, |payload| payload.len());
        self.evicted = self.evicted.min(self.slots.len());
    }
}

impl Slot {
    fn found(&self) -> Found {
        match (&self.payload, self.place) {
            (Some(payload), _) => Found::InMemory(Entry { at: self.at, payload: payload.clone() }),
            (None, Some(place)) => Found::OnDisk(self.at, place),
            (None, None) => unreachable!("a payload leaves memory only after it has a place"),
        }
    }
}
