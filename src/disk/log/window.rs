//! Which entries the log holds, and the bytes of the recent ones. Pure: no file is touched here.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::entry::Entry;
use crate::disk::Position;

#[derive(Debug)]
struct Slot<P> {
    at: Position,
    /// `None` until the entry is durable: until then it must stay in memory.
    location: Option<P>,
    payload: Option<Bytes>,
}

/// One entry as a reader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<P> {
    InMemory(Entry),
    OnDisk(Position, P),
}

/// The live entries: a gapless run of indexes. `P` says where an entry lies on disk.
#[derive(Debug)]
pub struct Window<P> {
    slots: VecDeque<Slot<P>>,
    purged: Option<Position>,
    /// The index that the first entry has, or must have; `None` before there was any.
    next_first: Option<u64>,
    /// Slots before this one have no payload in memory.
    evicted: usize,
    bytes: usize,
    bytes_max: usize,
}

impl<P: Clone> Window<P> {
    /// An empty log that keeps up to `bytes_max` of durable payloads in memory.
    pub fn new(bytes_max: usize) -> Window<P> {
        Window { slots: VecDeque::new(), purged: None, next_first: None, evicted: 0, bytes: 0, bytes_max }
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

    /// Whether an entry of `index` may be pushed: it follows the last one, or begins an empty log.
    pub fn accepts(&self, index: u64) -> bool {
        self.last().map(|last| last.index + 1).or(self.next_first).is_none_or(|next| next == index)
    }

    /// Adds the next entry.
    pub fn push(&mut self, entry: Entry, location: Option<P>) {
        assert!(self.accepts(entry.at.index), "entry {} does not follow {:?}", entry.at, self.last().or(self.purged));
        self.bytes += entry.payload.len();
        self.next_first.get_or_insert(entry.at.index);
        self.slots.push_back(Slot { at: entry.at, location, payload: Some(entry.payload) });
    }

    /// Notes where an entry is durable. One that was truncated or purged meanwhile is ignored.
    pub fn located(&mut self, at: Position, location: P) {
        let offset = self.first().and_then(|first| at.index.checked_sub(first.index));
        let slot = offset.and_then(|offset| self.slots.get_mut(offset as usize));
        if let Some(slot) = slot.filter(|slot| slot.at == at) {
            slot.location = Some(location);
        }
    }

    /// Evicts the oldest payloads until the memory bound holds. What is not durable stays.
    pub fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            let Some(slot) = self.slots.get_mut(self.evicted).filter(|slot| slot.location.is_some()) else { return };
            self.bytes -= slot.payload.take().map_or(0, |payload| payload.len());
            self.evicted += 1;
        }
    }

    /// Forgets the entries after `index`, which is not before the purged ones.
    pub fn truncate_after(&mut self, index: u64) {
        while self.last().is_some_and(|last| last.index > index) {
            let slot = self.slots.pop_back().expect("it has a last slot");
            self.bytes -= slot.payload.map_or(0, |payload| payload.len());
        }
        self.evicted = self.evicted.min(self.slots.len());
        self.next_first = self.next_first.map(|first| first.min(index + 1));
    }

    /// Forgets the entries up to `up_to`, which may lie beyond the last one; going backwards changes nothing.
    pub fn purge(&mut self, up_to: Position) {
        if self.purged.is_some_and(|purged| purged.index >= up_to.index) {
            return;
        }
        self.purged = Some(up_to);
        self.next_first = self.next_first.max(Some(up_to.index + 1));
        while self.first().is_some_and(|first| first.index <= up_to.index) {
            let slot = self.slots.pop_front().expect("it has a first slot");
            self.bytes -= slot.payload.map_or(0, |payload| payload.len());
            self.evicted = self.evicted.saturating_sub(1);
        }
    }

    /// The entries of `range` that the log holds.
    pub fn find(&self, range: Range<u64>) -> Vec<Found<P>> {
        let Some(first) = self.first().map(|at| at.index) else { return Vec::new() };
        let start = range.start.max(first) - first;
        let end = range.end.saturating_sub(first).min(self.slots.len() as u64);
        if start >= end {
            return Vec::new();
        }
        self.slots.range(start as usize..end as usize).map(Slot::found).collect()
    }
}

impl<P: Clone> Slot<P> {
    fn found(&self) -> Found<P> {
        match (&self.payload, &self.location) {
            (Some(payload), _) => Found::InMemory(Entry { at: self.at, payload: payload.clone() }),
            (None, Some(location)) => Found::OnDisk(self.at, location.clone()),
            (None, None) => unreachable!("a payload leaves memory only after it has a location"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64) -> Position {
        Position { term: 1, index }
    }

    fn entry(index: u64) -> Entry {
        Entry { at: at(index), payload: Bytes::from_static(b"12345678") }
    }

    fn window(indexes: Range<u64>) -> Window<u64> {
        let mut window = Window::new(16);
        indexes.for_each(|index| window.push(entry(index), None));
        window
    }

    fn held(window: &Window<u64>) -> Vec<u64> {
        let indexes = window.find(0..u64::MAX).into_iter().map(|found| match found {
            Found::InMemory(entry) => entry.at.index,
            Found::OnDisk(at, location) => {
                assert_eq!(at.index, location);
                at.index
            }
        });
        indexes.collect()
    }

    #[test]
    fn only_durable_payloads_leave_memory_oldest_first() {
        let mut window = window(1..6);
        window.evict();
        assert_eq!(window.bytes, 40);
        window.located(at(2), 2);
        window.evict();
        assert_eq!(window.bytes, 40, "the oldest is not durable yet");
        (1..6).for_each(|index| window.located(at(index), index));
        window.evict();
        assert_eq!(window.bytes, 16);
        assert!(matches!(window.find(3..5)[..], [Found::OnDisk(_, 3), Found::InMemory(_)]));
    }

    #[test]
    fn truncation_and_purge_keep_a_gapless_run_and_its_size() {
        let mut window = window(1..9);
        (1..9).for_each(|index| window.located(at(index), index));
        window.evict();
        window.purge(at(2));
        window.truncate_after(5);
        assert_eq!((held(&window), window.bytes), (vec![3, 4, 5], 0));
        window.push(entry(6), None);
        assert_eq!((held(&window), window.bytes), (vec![3, 4, 5, 6], 8));
        window.purge(at(1));
        assert_eq!(window.purged(), Some(at(2)), "a purge never goes back");
        window.purge(at(20));
        assert_eq!((held(&window), window.bytes), (vec![], 0));
        assert!(window.accepts(21) && !window.accepts(7));
    }

    #[test]
    fn a_place_of_an_entry_that_was_replaced_is_passed_over() {
        let mut window = window(1..3);
        window.truncate_after(1);
        let newer = Position { term: 2, index: 2 };
        window.push(Entry { at: newer, payload: Bytes::new() }, None);
        window.located(at(2), 2);
        window.located(at(7), 7);
        assert!(window.slots[1].location.is_none());
    }
}
