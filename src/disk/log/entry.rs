//! What the log holds.

use bytes::Bytes;

use crate::disk::Position;

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: Position,
    pub payload: Bytes,
}
