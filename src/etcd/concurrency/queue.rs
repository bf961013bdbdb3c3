//! A key in a queue: the keys under one prefix take turns in the order in which they were created.

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use chorus_proto::etcdserverpb::range_request::SortOrder;
use chorus_proto::etcdserverpb::request_op::Request;
use chorus_proto::etcdserverpb::response_op::Response;
use chorus_proto::mvccpb::KeyValue;
use tonic::Status;

use super::{edge, prefix, to_status};
use crate::store::client::Client;
use crate::world::World;

/// The key of one lease in one queue.
#[derive(Clone, Debug)]
pub(super) struct QueuedKey {
    pub prefix: Vec<u8>,
    pub key: Bytes,
    /// The revision at which the key was created.
    pub create_revision: i64,
}

/// The outcome of putting a key in a queue.
pub(super) struct PutOutcome {
    pub queued: QueuedKey,
    pub header: Option<pb::ResponseHeader>,
    /// The key that was already there, with the same lease.
    pub before: Option<KeyValue>,
    /// The oldest key of the queue.
    pub first: Option<KeyValue>,
}

impl QueuedKey {
    /// Puts the key of `lease` at the end of the queue `name`, unless it is there already.
    pub async fn put(store: &Client, name: &[u8], lease: i64, value: Bytes) -> Result<PutOutcome, Status> {
        let prefix = prefix(name);
        let key = Bytes::from([prefix.as_slice(), format!("{lease:x}").as_bytes()].concat());
        let oldest = op(Request::RequestRange(edge(&prefix, SortOrder::Ascend)));
        let put = pb::PutRequest { key: key.clone(), value, lease, ..Default::default() };
        let own = pb::RangeRequest { key: key.clone(), ..Default::default() };
        let txn = pb::TxnRequest {
            compare: vec![created(&key, 0)],
            success: vec![op(Request::RequestPut(put)), oldest.clone()],
            failure: vec![op(Request::RequestRange(own)), oldest],
        };
        let answer = store.txn(txn).await.map_err(to_status)?;
        let header = answer.header;
        let [own, first] = answer.responses.try_into().map_err(|_| Status::internal("a txn was answered in part"))?;
        let before = kv(own);
        let create_revision = before.as_ref().map_or(header.unwrap_or_default().revision, |kv| kv.create_revision);
        Ok(PutOutcome { queued: QueuedKey { prefix, key, create_revision }, header, before, first: kv(first) })
    }

    /// Does `then` if the key is still the one that was queued, and says whether it did.
    pub async fn if_held(&self, store: &Client, then: Request) -> Result<(bool, Option<pb::ResponseHeader>), Status> {
        let txn = pb::TxnRequest {
            compare: vec![created(&self.key, self.create_revision)],
            success: vec![op(then)],
            failure: vec![],
        };
        let answer = store.txn(txn).await.map_err(to_status)?;
        Ok((answer.succeeded, answer.header))
    }

    /// Deletes the key, if it is still the one that was queued.
    pub async fn resign(&self, store: &Client) -> Result<Option<pb::ResponseHeader>, Status> {
        let delete = pb::DeleteRangeRequest { key: self.key.clone(), ..Default::default() };
        self.if_held(store, Request::RequestDeleteRange(delete)).await.map(|(_, header)| header)
    }
}

/// Deletes a queued key when it is dropped before [`keep`](KeyGuard::keep): the caller has left while it waited for its
/// turn, and its key must not keep others waiting for as long as its lease lives.
pub(super) struct KeyGuard {
    world: World,
    store: Client,
    queued: Option<QueuedKey>,
}

impl KeyGuard {
    pub fn from(world: &World, store: &Client, queued: &QueuedKey) -> KeyGuard {
        KeyGuard { world: world.clone(), store: store.clone(), queued: Some(queued.clone()) }
    }

    pub fn keep(mut self) {
        self.queued = None;
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        let Some(queued) = self.queued.take() else { return };
        let store = self.store.clone();
        self.world.spawner.task(async move {
            if let Err(error) = queued.resign(&store).await {
                tracing::warn!(%error, "a key of a caller that left stays until its lease ends");
            }
        });
    }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn created(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

fn kv(response: pb::ResponseOp) -> Option<KeyValue> {
    match response.response {
        Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    }
}
