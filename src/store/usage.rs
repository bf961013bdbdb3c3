//! How much is stored: bytes of live records by segment, for reclaiming; and the store's size, for the quota.
//!
//! The size is told as etcd's would be right after a defragmentation: pages of 4 KiB, nine tenths full, of records that
//! compaction has not freed. What the files take is a little more, and comes down to it by itself.

use std::collections::BTreeMap;

use super::mvcc::{Index, Rev, Slot};
use crate::disk::{RecordLocation, SegmentId};

const PAGE_BYTES: u64 = 4096;

/// Pages of an empty store.
const PAGES_MIN: u64 = 5;

/// What a page needs for a record besides its content: the revision and an entry of the page's table.
const RECORD_BYTES: u64 = 34;

/// What a lease takes in a page.
const LEASE_BYTES: u64 = 40;

/// Bytes of live records by segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    segments: BTreeMap<SegmentId, u64>,
    records: u64,
    bytes: u64,
}

impl Usage {
    pub fn of(index: &Index) -> Usage {
        let mut usage = Usage::default();
        for (_, change) in index.changes_from(Rev::NONE) {
            if let Slot::Stored(place) = change.slot {
                usage.add(place);
            }
        }
        usage
    }

    pub fn add(&mut self, place: RecordLocation) {
        let length = u64::from(place.length);
        *self.segments.entry(place.segment).or_default() += length;
        self.records += 1;
        self.bytes += length;
    }

    pub fn release(&mut self, slot: Slot) {
        if let Slot::Stored(place) = slot {
            let length = u64::from(place.length);
            let live = self.segments.get_mut(&place.segment).expect("a record's segment is in use");
            *live -= length;
            self.records -= 1;
            self.bytes -= length;
        }
    }

    pub fn live(&self, segment: SegmentId) -> u64 {
        self.segments.get(&segment).copied().unwrap_or_default()
    }

    pub fn forget(&mut self, segment: SegmentId) {
        self.segments.remove(&segment);
    }

    /// The size of a store with these records and so many leases.
    pub fn size(&self, leases: usize) -> u64 {
        let content = self.bytes + self.records * RECORD_BYTES + leases as u64 * LEASE_BYTES;
        PAGE_BYTES * (PAGES_MIN + (content + content / 9).div_ceil(PAGE_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(segment: u32, length: u32) -> RecordLocation {
        RecordLocation { segment: SegmentId(segment), offset: 0, length }
    }

    #[test]
    fn the_size_is_in_pages_and_comes_down_again() {
        let mut usage = Usage::default();
        assert_eq!(usage.size(0), 20_480);
        usage.add(place(1, 64));
        assert_eq!(usage.size(0), 6 * PAGE_BYTES);
        let overwrites = (0..).take_while(|_| {
            usage.add(place(1, 4116));
            usage.size(0) + 4360 < 13 * PAGE_BYTES
        });
        assert!(
            (2..8).contains(&overwrites.count()),
            "a quota of thirteen pages is reached by a few values of one page"
        );
        for _ in 0..3 {
            usage.release(Slot::Stored(place(1, 4116)));
        }
        assert!(usage.size(0) + 4360 < 13 * PAGE_BYTES);
        assert!(usage.size(10_000) > usage.size(0));
    }
}
