//! HashKV: a checksum of the history up to a revision, equal on all members and to etcd's.
//!
//! Which records count depends on what the last compaction before it left: its floor. A compaction takes a checksum of
//! its own just before it frees anything, whose floor is that of the compaction before; later questions for that very
//! revision get this one as the answer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crc32c::crc32c_append;

use super::index::{Change, Index, Rev};
use super::values::{Fault, Values};
use crate::store::Error;

/// Checksums of compactions that are remembered.
const HASHES_MAX: usize = 10;

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
    if revision > 0 && revision < index.compacted {
        return Err(Error::Compacted.into());
    }
    if revision > index.revision {
        return Err(Error::FutureRevision.into());
    }
    between(index, values, index.compacted, revision, || any_kept(index, revision))
}

/// The checksum of the compaction at `revision` that followed one at `floor`, before anything between them is freed.
pub fn of_compaction(index: &Index, values: &impl Values, floor: i64, revision: i64) -> Result<Hash, Fault> {
    between(index, values, floor, revision, || {
        let deleted_there = |(at, change): (Rev, &Change)| at.main == revision && change.is_deletion();
        let at_revision = index.changes_from(Rev { main: revision, sub: 0 }).take_while(|(at, _)| at.main == revision);
        at_revision.into_iter().any(deleted_there) || any_kept(index, revision)
    })
}

/// The checksum up to `revision` of what a compaction at `floor` leaves. Records up to the floor count only if they are
/// still current at `revision`; but all of them count when none is (see [`any_kept`]).
fn between(
    index: &Index,
    values: &impl Values,
    floor: i64,
    revision: i64,
    any_kept: impl FnOnce() -> bool,
) -> Result<Hash, Fault> {
    let sifts = floor > 0 && any_kept();
    let mut hash = crc32c_append(0, b"key");
    for (at, change) in index.changes_from(Rev::NONE).take_while(|(at, _)| at.main <= revision) {
        let left = at.main > floor || index.is_kept(at, change, floor);
        if left && (at.main > floor || !sifts || index.is_kept(at, change, revision)) {
            hash = crc32c_append(hash, &revision_key(at, change));
            hash = crc32c_append(hash, &values.record(change.slot)?);
        }
    }
    Ok(Hash { hash, compacted: floor, revision })
}

fn any_kept(index: &Index, revision: i64) -> bool {
    index.range(&crate::store::range::KeyRange::everything(), revision).next().is_some()
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

/// The checksums of the last compactions, of this run of this member alone.
#[derive(Debug, Default)]
pub struct Hashes(Mutex<VecDeque<Hash>>);

impl Hashes {
    pub fn push(&self, hash: Hash) {
        let mut hashes = self.lock();
        hashes.push_back(hash);
        if hashes.len() > HASHES_MAX {
            hashes.pop_front();
        }
    }

    pub fn at(&self, revision: i64) -> Option<Hash> {
        self.lock().iter().find(|hash| hash.revision == revision).copied()
    }

    /// All of them, the newest first.
    pub fn newest_first(&self) -> Vec<Hash> {
        self.lock().iter().rev().copied().collect()
    }

    /// Another state was installed: forgets the checksums of the old one.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Hash>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
