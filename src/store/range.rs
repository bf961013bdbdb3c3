//! Ranges of keys as they stand in requests: one key, `[key, end)`, or everything from a key on.

use std::ops::Bound;

use bytes::Bytes;

/// A set of neighbouring keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: End,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The start alone.
    Single,
    Before(Bytes),
    Unbounded,
}

impl KeyRange {
    /// From `key` and `range_end` of a request: an empty end is the key alone, "\0" is everything from the key on.
    pub fn new(key: Bytes, range_end: Bytes) -> KeyRange {
        let end = match &range_end[..] {
            [] => End::Single,
            [0] => End::Unbounded,
            _ => End::Before(range_end),
        };
        KeyRange { start: key, end }
    }

    /// Every key there can be.
    pub fn everything() -> KeyRange {
        KeyRange { start: Bytes::new(), end: End::Unbounded }
    }

    pub fn single(key: Bytes) -> KeyRange {
        KeyRange { start: key, end: End::Single }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key == &self.start[..],
            End::Before(end) => key >= &self.start[..] && key < &end[..],
            End::Unbounded => key >= &self.start[..],
        }
    }

    /// No key can be in it.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if end <= &self.start)
    }

    pub fn is_unbounded(&self) -> bool {
        self.end == End::Unbounded
    }

    /// For the range methods of ordered maps. The range must not be empty: they panic on it.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = match &self.end {
            End::Single => Bound::Included(&self.start[..]),
            End::Before(end) => Bound::Excluded(&end[..]),
            End::Unbounded => Bound::Unbounded,
        };
        (Bound::Included(&self.start[..]), end)
    }
}
