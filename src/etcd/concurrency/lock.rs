//! `v3lockpb.Lock`: the caller whose key is the oldest in the queue holds the lock.

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::v3lockpb;
use tonic::Status;

use super::queue::{KeyGuard, PutOutcome, QueuedKey};
use super::{session, to_status, wait};
use crate::store::client::Client;
use crate::world::World;

/// Resolves when the caller holds the lock.
pub(in crate::etcd) async fn lock(
    world: &World,
    store: &Client,
    request: v3lockpb::LockRequest,
) -> Result<v3lockpb::LockResponse, Status> {
    let lease = session(store, request.lease).await?;
    let PutOutcome { queued, header, first, .. } = QueuedKey::put(store, &request.name, lease, Bytes::new()).await?;
    if first.is_none_or(|first| first.create_revision == queued.create_revision) {
        return Ok(v3lockpb::LockResponse { header, key: queued.key });
    }
    let guard = KeyGuard::from(world, store, &queued);
    wait::turn(store, &queued).await?;
    // The lease may have ended while it waited, and the key with it.
    let own = pb::RangeRequest { key: queued.key.clone(), ..Default::default() };
    let answer = store.range(own).await.map_err(to_status)?;
    guard.keep();
    if answer.kvs.is_empty() {
        return Err(Status::unknown("mutex: session is expired"));
    }
    Ok(v3lockpb::LockResponse { header: answer.header, key: queued.key })
}

pub(in crate::etcd) async fn unlock(
    store: &Client,
    request: v3lockpb::UnlockRequest,
) -> Result<v3lockpb::UnlockResponse, Status> {
    let delete = pb::DeleteRangeRequest { key: request.key, ..Default::default() };
    let answer = store.delete_range(delete).await.map_err(to_status)?;
    Ok(v3lockpb::UnlockResponse { header: answer.header })
}
