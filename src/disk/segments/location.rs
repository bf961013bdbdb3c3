//! Where frames and records lie in the data segments.

use serde::{Deserialize, Serialize};

/// A segment file; later ones have larger ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentId(pub u32);

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordLocation {
    pub segment: SegmentId,
    pub offset: u32,
    /// Of the record itself, in bytes.
    pub length: u32,
}

/// A point between two frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Point {
    pub segment: SegmentId,
    pub offset: u32,
}

impl Point {
    /// Before the first frame of all.
    pub const START: Point = Point { segment: SegmentId(0), offset: 0 };
}
