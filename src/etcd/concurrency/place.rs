//! A key in a queue: whose turn it is follows from when the keys under one prefix were created.

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use chorus_proto::etcdserverpb::range_request::SortOrder;
use chorus_proto::etcdserverpb::request_op::Request;
use chorus_proto::etcdserverpb::response_op::Response;
use chorus_proto::mvccpb::KeyValue;
use tonic::Status;

use super::{edge, prefix, told};
use crate::store::client::Client;
use crate::world::World;

/// The key of one lease in one queue.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub prefix: Vec<u8>,
    pub key: Bytes,
    /// The revision at which the key was created.
    pub since: i64,
}

/// What taking a place showed.
pub(super) struct Taken {
    pub place: Place,
    pub header: Option<pb::ResponseHeader>,
    /// The key that was already there, with the same lease.
    pub before: Option<KeyValue>,
    /// The oldest key of the queue.
    pub first: Option<KeyValue>,
}

impl Place {
    /// Puts the key of `lease` at the end of the queue `name`, unless it stands there already.
    pub async fn take(store: &Client, name: &[u8], lease: i64, value: Bytes) -> Result<Taken, Status> {
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
        let answer = store.txn(txn).await.map_err(told)?;
        let header = answer.header;
        let [own, first] = answer.responses.try_into().map_err(|_| Status::internal("a txn was answered in part"))?;
        let before = kv(own);
        let since = before.as_ref().map_or(header.unwrap_or_default().revision, |kv| kv.create_revision);
        Ok(Taken { place: Place { prefix, key, since }, header, before, first: kv(first) })
    }

    /// Does `then` if the key is still the one that took this place; `None` if it is not.
    pub async fn if_held(&self, store: &Client, then: Request) -> Result<(bool, Option<pb::ResponseHeader>), Status> {
        let txn =
            pb::TxnRequest { compare: vec![created(&self.key, self.since)], success: vec![op(then)], failure: vec![] };
        let answer = store.txn(txn).await.map_err(told)?;
        Ok((answer.succeeded, answer.header))
    }

    /// Gives the place up, if it is still held.
    pub async fn resign(&self, store: &Client) -> Result<Option<pb::ResponseHeader>, Status> {
        let delete = pb::DeleteRangeRequest { key: self.key.clone(), ..Default::default() };
        self.if_held(store, Request::RequestDeleteRange(delete)).await.map(|(_, header)| header)
    }
}

/// Gives up a place when it is dropped before [`keep`](Retreat::keep): the caller has left while waiting for its turn,
/// and its key must not keep others waiting for as long as its lease lives.
pub(super) struct Retreat {
    world: World,
    store: Client,
    place: Option<Place>,
}

impl Retreat {
    pub fn from(world: &World, store: &Client, place: &Place) -> Retreat {
        Retreat { world: world.clone(), store: store.clone(), place: Some(place.clone()) }
    }

    pub fn keep(mut self) {
        self.place = None;
    }
}

impl Drop for Retreat {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let store = self.store.clone();
        self.world.spawner.task(async move {
            if let Err(error) = place.resign(&store).await {
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
