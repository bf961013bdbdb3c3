//! What readers hold: the state as of one moment, and the segments with its records, which stay for as long as a view
//! is held. It never changes, so that a large read neither waits for writes nor delays them.

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::request_op::Request;

use super::Error;
use super::generation::Generation;
use super::metrics::Ops;
use super::mvcc::counts::Tally;
use super::mvcc::hash::{self, Hash};
use super::mvcc::txn::{self, Path};
use super::mvcc::{Fault, Slot, Transaction, read};
use super::range::{End, KeyRange};
use super::records::Found;
use super::state::State;
use crate::disk::segments::Pinned;

/// An immutable view of the applied state. A copy costs nothing.
#[derive(Clone)]
pub struct View {
    pub generation: Generation,
    pub state: State,
    pub segments: Pinned,
}

impl View {
    pub fn revision(&self) -> i64 {
        self.state.index.revision
    }

    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Fault> {
        read::range(&self.state.index, &self.segments, self.revision(), request)
    }

    /// As [`range`](View::range), with the records still to be read.
    pub fn range_in_records(&self, request: &pb::RangeRequest) -> Result<Found, Fault> {
        let (head, slots) = read::slots(&self.state.index, &self.segments, self.revision(), request)?;
        let places = slots.into_iter().map(|slot| match slot {
            Slot::Stored(place) => place,
            Slot::Pending(_) => unreachable!("a published index holds no pending record"),
        });
        Ok(Found { head, places: places.collect(), segments: self.segments.clone() })
    }

    /// Runs a read-only transaction, and counts its operations.
    pub fn txn(&self, request: pb::TxnRequest) -> Result<(pb::TxnResponse, Ops), Fault> {
        let State { mut index, mut leases, .. } = self.state.clone();
        let path = Path::choose(&index, &self.segments, &request)?;
        txn::check(&index, &leases, &request, &path)?;
        let mut records = Vec::new();
        let mut txn = Transaction::begin(&mut index, &mut leases, &self.segments, &mut records);
        let answer = txn::run(&mut txn, request, &path, true)?;
        assert_eq!(txn.changes(), 0, "only transactions without changes are run on a view");
        let mut ops = Ops::default();
        ops.add(&txn.ops);
        Ok((answer, ops))
    }

    pub fn hash_kv(&self, revision: i64) -> Result<Hash, Fault> {
        hash::hash(&self.state.index, &self.segments, revision)
    }

    /// Whether answering may take so long that other tasks should not wait for it.
    pub fn is_large(&self, request: &pb::RangeRequest) -> bool {
        self.work(request).is_large()
    }

    /// The same for a read-only transaction.
    pub fn is_large_txn(&self, request: &pb::TxnRequest) -> bool {
        let ops = request.success.iter().chain(&request.failure);
        let ranges = ops.map(|op| match &op.request {
            Some(Request::RequestRange(range)) => self.work(range),
            _ => Work::default(),
        });
        let compares = request.compare.iter().map(|compare| self.work_of_compare(compare));
        ranges.chain(compares).fold(Work::default(), Work::and).is_large()
    }

    /// How much work it is to answer; finding that out is little work.
    fn work(&self, request: &pb::RangeRequest) -> Work {
        let keys = KeyRange::new(request.key.clone(), request.range_end.clone());
        if keys.end == End::Single {
            return Work { keys: 1, bytes: 0 };
        }
        let Tally { known, live } = self.state.index.tally(&keys);
        if read::looks_at_all(request) || (1..self.revision()).contains(&request.revision) {
            return Work { keys: known, bytes: 0 };
        }
        if request.count_only {
            return Work::default();
        }
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        // Deleted keys may come before those that are looked for.
        let looked_at = live.min(limit.saturating_add(1)) + (known - live);
        let bytes = match looked_at <= SMALL_KEYS && !request.keys_only {
            true => self.state.index.range(&keys, i64::MAX).take(limit).map(|(.., change)| change.slot.bytes()).sum(),
            false => 0,
        };
        Work { keys: looked_at, bytes }
    }

    /// Refuses a transaction that looks at all keys again and again: while it is applied, no other command is.
    pub fn check_txn(&self, request: &pb::TxnRequest) -> Result<(), Error> {
        let all = self.state.index.keys_count();
        if self.keys_of_txn(request) > 2 * all + SMALL_TXN_KEYS { Err(Error::TooManyOps) } else { Ok(()) }
    }

    /// How many keys applying looks at, on the branch where that is more.
    fn keys_of_txn(&self, request: &pb::TxnRequest) -> usize {
        let compares = request.compare.iter().map(|compare| self.work_of_compare(compare).keys);
        let branch = |ops: &[pb::RequestOp]| {
            let keys = ops.iter().map(|op| match &op.request {
                Some(Request::RequestRange(range)) => self.work(range).keys,
                Some(Request::RequestTxn(nested)) => self.keys_of_txn(nested),
                _ => 1,
            });
            keys.fold(0, usize::saturating_add)
        };
        compares.fold(0, usize::saturating_add).saturating_add(branch(&request.success).max(branch(&request.failure)))
    }

    fn work_of_compare(&self, compare: &pb::Compare) -> Work {
        let keys = KeyRange::new(compare.key.clone(), compare.range_end.clone());
        Work { keys: if keys.end == End::Single { 1 } else { self.state.index.tally(&keys).known }, bytes: 0 }
    }
}

/// A read of more keys than this, or of more bytes, runs on a thread where no other task waits for it.
const SMALL_KEYS: usize = 256;
const SMALL_BYTES: u64 = 4 << 20;

/// Any transaction may look at this many keys, however few the store holds.
const SMALL_TXN_KEYS: usize = 1 << 20;

/// How much a read looks at.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    keys: usize,
    /// Of the records that are read, where they were looked up.
    bytes: u64,
}

impl Work {
    fn and(self, more: Work) -> Work {
        Work { keys: self.keys.saturating_add(more.keys), bytes: self.bytes.saturating_add(more.bytes) }
    }

    fn is_large(self) -> bool {
        self.keys > SMALL_KEYS || self.bytes > SMALL_BYTES
    }
}
