//! `v3lockpb.Lock`: whoever's key is the oldest of the queue holds the lock.

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::v3lockpb;
use tonic::Status;

use super::place::{Place, Retreat, Taken};
use super::{session, told, wait};
use crate::store::client::Client;
use crate::world::World;

/// Resolves when the caller holds the lock.
pub(in crate::etcd) async fn lock(
    world: &World,
    store: &Client,
    request: v3lockpb::LockRequest,
) -> Result<v3lockpb::LockResponse, Status> {
    let lease = session(store, request.lease).await?;
    let Taken { place, header, first, .. } = Place::take(store, &request.name, lease, Bytes::new()).await?;
    if first.is_none_or(|first| first.create_revision == place.since) {
        return Ok(v3lockpb::LockResponse { header, key: place.key });
    }
    let retreat = Retreat::from(world, store, &place);
    wait::turn(store, &place).await?;
    // The lease may have ended while it waited, and the key with it.
    let own = pb::RangeRequest { key: place.key.clone(), ..Default::default() };
    let answer = store.range(own).await.map_err(told)?;
    retreat.keep();
    if answer.kvs.is_empty() {
        return Err(Status::unknown("mutex: session is expired"));
    }
    Ok(v3lockpb::LockResponse { header: answer.header, key: place.key })
}

pub(in crate::etcd) async fn unlock(
    store: &Client,
    request: v3lockpb::UnlockRequest,
) -> Result<v3lockpb::UnlockResponse, Status> {
    let delete = pb::DeleteRangeRequest { key: request.key, ..Default::default() };
    let answer = store.delete_range(delete).await.map_err(told)?;
    Ok(v3lockpb::UnlockResponse { header: answer.header })
}
