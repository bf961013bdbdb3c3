//! `v3electionpb.Election`: whoever's key is the oldest of the queue is the leader, and the key's value is what the
//! leader proclaims.

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::range_request::SortOrder;
use chorus_proto::etcdserverpb::request_op::Request;
use chorus_proto::mvccpb::KeyValue;
use chorus_proto::v3electionpb as election;
use tonic::Status;

use super::place::{Place, Retreat, Taken};
use super::{edge, prefix, session, told, wait};
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
    let Taken { place, header, before, .. } = Place::take(store, &name, lease, value.clone()).await?;
    let retreat = Retreat::from(world, store, &place);
    if before.is_some_and(|before| before.value != value) {
        put(store, &place, lease, value).await?;
    }
    let turn = wait::turn(store, &place).await;
    // After an error the caller may campaign again with its lease, and keep its place.
    retreat.keep();
    turn?;
    let leader = election::LeaderKey { name, key: place.key, rev: place.since, lease };
    Ok(election::CampaignResponse { header, leader: Some(leader) })
}

pub(in crate::etcd) async fn proclaim(
    store: &Client,
    request: election::ProclaimRequest,
) -> Result<election::ProclaimResponse, Status> {
    let leader = request.leader.ok_or_else(leader_missing)?;
    let lease = session(store, leader.lease).await?;
    let header = put(store, &resumed(leader), lease, request.value).await?;
    Ok(election::ProclaimResponse { header })
}

/// Changes what the holder of `place` proclaims.
async fn put(store: &Client, place: &Place, lease: i64, value: Bytes) -> Result<Option<pb::ResponseHeader>, Status> {
    let put = pb::PutRequest { key: place.key.clone(), value, lease, ..Default::default() };
    match place.if_held(store, Request::RequestPut(put)).await? {
        (true, header) => Ok(header),
        (false, _) => Err(Status::unknown("election: not leader")),
    }
}

pub(in crate::etcd) async fn resign(
    store: &Client,
    request: election::ResignRequest,
) -> Result<election::ResignResponse, Status> {
    let leader = request.leader.ok_or_else(leader_missing)?;
    let header = resumed(leader).resign(store).await?;
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
    let answer = store.range(edge(prefix, SortOrder::Ascend)).await.map_err(told)?;
    Ok((answer.header, answer.kvs.into_iter().next()))
}

/// The place that a caller says it has.
fn resumed(leader: election::LeaderKey) -> Place {
    Place { prefix: prefix(&leader.name), key: leader.key, since: leader.rev }
}

fn leader_missing() -> Status {
    Status::unknown("\"leader\" field must be provided")
}
