//! What readers hold: the state as of one moment, and the segments with its records, for as long as they hold it. It never
//! changes, so that a large read neither waits for writes nor delays them.

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::request_op::Request;

use super::generation::Generation;
use super::metrics::Ops;
use super::mvcc::hash::{self, Hash};
use super::mvcc::txn::{self, Path};
use super::mvcc::{Fault, Slot, Transaction, read};
use super::records::Records;
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
    pub fn range_in_records(&self, request: &pb::RangeRequest) -> Result<Records, Fault> {
        let (answer, slots) = read::slots(&self.state.index, &self.segments, self.revision(), request)?;
        let places = slots.into_iter().map(|slot| match slot {
            Slot::Stored(place) => place,
            Slot::Pending(_) => unreachable!("a published index holds no pending record"),
        });
        Ok(Records::new(answer, places.collect(), self.segments.clone()))
    }

    /// Runs a read-only transaction, and tells what it did.
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
        const SMALL_KEYS: i64 = 256;
        let bounded = request.limit > 0 && request.limit <= SMALL_KEYS;
        let many = self.state.index.keys_count() as i64 > SMALL_KEYS;
        !request.range_end.is_empty() && !bounded && many
    }

    /// The same for a read-only transaction.
    pub fn is_large_txn(&self, request: &pb::TxnRequest) -> bool {
        request
            .success
            .iter()
            .chain(&request.failure)
            .any(|op| matches!(&op.request, Some(Request::RequestRange(range)) if self.is_large(range)))
    }
}
