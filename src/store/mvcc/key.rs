//! Keys and revisions, by which everything else of the index is found.

use std::borrow::Borrow;
use std::sync::Arc;

use bytes::Bytes;

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

/// A key's newest change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latest {
    pub(super) main: i64,
    pub(super) sub: u32,
    /// It was a put.
    pub(super) live: bool,
}

impl Latest {
    #[cfg(test)]
    pub(super) fn new(live: bool) -> Latest {
        Latest { main: 0, sub: 0, live }
    }

    pub fn rev(self) -> Rev {
        Rev { main: self.main, sub: self.sub }
    }
}
