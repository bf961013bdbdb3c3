//! HashKV: a checksum of the history up to a revision, equal on all members and to etcd's.

use crc32c::crc32c_append;

use super::index::{Change, Index, Rev};
use super::values::{Fault, Values};
use crate::store::Error;

/// A checksum and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    pub hash: u32,
    /// -1 when never compacted.
    pub compacted: i64,
    pub revision: i64,
}

/// The checksum up to `revision`; 0 means the newest.
pub fn hash(index: &Index, values: &impl Values, revision: i64) -> Result<Hash, Fault> {
    let revision = if revision == 0 { index.revision } else { revision };
    if revision < index.compacted {
        return Err(Error::Compacted.into());
    }
    if revision > index.revision {
        return Err(Error::FutureRevision.into());
    }
    let mut hash = crc32c_append(0, b"key");
    for (at, change) in index.changes_from(Rev::NONE).take_while(|(at, _)| at.main <= revision) {
        if at.main > index.compacted || index.is_kept(at, change, revision) {
            hash = crc32c_append(hash, &revision_key(at, change));
            hash = crc32c_append(hash, &values.record(change.slot)?);
        }
    }
    Ok(Hash { hash, compacted: index.compacted, revision })
}

/// The key under which etcd stores the change.
fn revision_key(at: Rev, change: &Change) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.extend_from_slice(&at.main.to_be_bytes());
    key.push(b'_');
    key.extend_from_slice(&i64::from(at.sub).to_be_bytes());
    if change.is_deletion() {
        key.push(b't');
    }
    key
}
