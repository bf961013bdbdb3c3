//! `v3electionpb.Election`: the caller whose key is the oldest in the queue is the leader, and the value of the key is
//! what the leader proclaims.

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::range_request::SortOrder;
use chorus_proto::etcdserverpb::request_op::Request;
use chorus_proto::mvccpb::KeyValue;
use chorus_proto::v3electionpb as election;
use tonic::Status;

use super::queue::{KeyGuard, PutOutcome, QueuedKey};
use super::{edge, prefix, session, to_status, wait};
use crate::store::client::Client;
use crate::world::World;

/// Resolves when the caller leads.
pub(in crate::etcd) async fn campaign(
    world: &World,
    store: &Client,
    request: election::CampaignRequest,
) -> Result<election::CampaignResponse, Status> {
    let election::CampaignRequest { name, lease, value } = request;
    let lease = session(store, lease).await?;
    let PutOutcome { queued, header, before, .. } = QueuedKey::put(store, &name, lease, value.clone()).await?;
    let guard = KeyGuard::from(world, store, &queued);
    if before.is_some_and(|before| before.value != value) {
        put(store, &queued, lease, value).await?;
    }
    let turn = wait::turn(store, &queued).await;
    // After an error the caller may campaign again with its lease, and keeps its key in the queue.
    guard.keep();
    turn?;
    let leader = election::LeaderKey { name, key: queued.key, rev: queued.create_revision, lease };
    Ok(election::CampaignResponse { header, leader: Some(leader) })
}

pub(in crate::etcd) async fn proclaim(
    store: &Client,
    request: election::ProclaimRequest,
) -> Result<election::ProclaimResponse, Status> {
    let leader = request.leader.ok_or_else(leader_missing)?;
    let lease = session(store, leader.lease).await?;
    let header = put(store, &queued_key(leader), lease, request.value).await?;
    Ok(election::ProclaimResponse { header })
}

/// Changes what the leader whose key is `queued` proclaims.
async fn put(
    store: &Client,
    queued: &QueuedKey,
    lease: i64,
    value: Bytes,
) -> Result<Option<pb::ResponseHeader>, Status> {
    let put = pb::PutRequest { key: queued.key.clone(), value, lease, ..Default::default() };
    match queued.if_held(store, Request::RequestPut(put)).await? {
        (true, header) => Ok(header),
        (false, _) => Err(Status::unknown("election: not leader")),
    }
}

pub(in crate::etcd) async fn resign(
    store: &Client,
    request: election::ResignRequest,
) -> Result<election::ResignResponse, Status> {
    let leader = request.leader.ok_or_else(leader_missing)?;
    let header = queued_key(leader).resign(store).await?;
    Ok(election::ResignResponse { header })
}

pub(in crate::etcd) async fn leader(
    store: &Client,
    request: election::LeaderRequest,
) -> Result<election::LeaderResponse, Status> {
    let (header, kv) = oldest(store, &prefix(&request.name)).await?;
    let kv = Some(kv.ok_or_else(|| Status::unknown("election: no leader"))?);
    Ok(election::LeaderResponse { header, kv })
}

/// The leader's key, if there is a leader.
pub(super) async fn oldest(
    store: &Client,
    prefix: &[u8],
) -> Result<(Option<pb::ResponseHeader>, Option<KeyValue>), Status> {
    let answer = store.range(edge(prefix, SortOrder::Ascend)).await.map_err(to_status)?;
    Ok((answer.header, answer.kvs.into_iter().next()))
}

/// The key that a caller says it leads by.
fn queued_key(leader: election::LeaderKey) -> QueuedKey {
    QueuedKey { prefix: prefix(&leader.name), key: leader.key, create_revision: leader.rev }
}

fn leader_missing() -> Status {
    Status::unknown("\"leader\" field must be provided")
}
