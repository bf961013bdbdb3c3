//! One write of the store: conditions on the revisions of keys, and what to put or remove if all of them hold.

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Op;

use crate::apiserver::watch_cache::lister_watcher::prefix_end;
use crate::world::{LeaseId, Revision};

/// Conditions and operations that happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Write {
    compare: Vec<pb::Compare>,
    operations: Vec<pb::RequestOp>,
}

impl Write {
    /// A new key.
    pub fn create(key: &str, value: Bytes, lease: Option<LeaseId>) -> Write {
        Write::default().if_revision(key, Revision(0)).put(key, value, lease)
    }

    /// A key as of `revision`.
    pub fn replace(key: &str, revision: Revision, value: Bytes, lease: Option<LeaseId>) -> Write {
        Write::default().if_revision(key, revision).put(key, value, lease)
    }

    /// Removes a key as of `revision`.
    pub fn remove(key: &str, revision: Revision) -> Write {
        Write::default().if_revision(key, revision).delete(key)
    }

    /// Only if `key` was last written at `revision`; 0 means that it does not exist.
    pub fn if_revision(mut self, key: &str, revision: Revision) -> Write {
        self.compare.push(pb::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: Bytes::copy_from_slice(key.as_bytes()),
            target_union: Some(TargetUnion::ModRevision(revision.0)),
            ..Default::default()
        });
        self
    }

    /// Only if no key under `prefix` was created after `revision`.
    pub fn if_none_created(self, prefix: &str, revision: Revision) -> Write {
        let next = revision.next().0;
        self.if_all_before(prefix, CompareTarget::Create, TargetUnion::CreateRevision(next))
    }

    /// Only if no key under `prefix` was written after `revision`.
    pub fn if_none_written(self, prefix: &str, revision: Revision) -> Write {
        let next = revision.next().0;
        self.if_all_before(prefix, CompareTarget::Mod, TargetUnion::ModRevision(next))
    }

    fn if_all_before(mut self, prefix: &str, target: CompareTarget, bound: TargetUnion) -> Write {
        self.compare.push(pb::Compare {
            result: CompareResult::Less.into(),
            target: target.into(),
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: prefix_end(prefix),
            target_union: Some(bound),
        });
        self
    }

    pub fn put(mut self, key: &str, value: Bytes, lease: Option<LeaseId>) -> Write {
        let put = pb::PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value,
            lease: lease.map_or(0, |lease| lease.0),
            ..Default::default()
        };
        self.operations.push(pb::RequestOp { request: Some(Op::RequestPut(put)) });
        self
    }

    pub fn delete(mut self, key: &str) -> Write {
        let delete = pb::DeleteRangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() };
        self.operations.push(pb::RequestOp { request: Some(Op::RequestDeleteRange(delete)) });
        self
    }

    /// This write and `other`, together.
    pub fn and(mut self, other: Write) -> Write {
        self.compare.extend(other.compare);
        self.operations.extend(other.operations);
        self
    }

    pub fn into_request(self) -> pb::TxnRequest {
        pb::TxnRequest { compare: self.compare, success: self.operations, failure: Vec::new() }
    }
}
