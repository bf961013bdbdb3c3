//! Waiting until keys are gone.

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::range_request::SortOrder;
use chorus_proto::etcdserverpb::watch_request::RequestUnion;
use chorus_proto::mvccpb::event::EventType;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tonic::Status;

use super::queue::QueuedKey;
use super::{edge, to_status};
use crate::store::client::Client;
use crate::store::error::Error;

/// Waits until no key of the queue is older than `queued`. Only the next older one is watched, so that a lock that is
/// released wakes one waiter.
pub(super) async fn turn(store: &Client, queued: &QueuedKey) -> Result<(), Status> {
    loop {
        let newest = pb::RangeRequest {
            max_create_revision: queued.create_revision - 1,
            ..edge(&queued.prefix, SortOrder::Descend)
        };
        let answer = store.range(newest).await.map_err(to_status)?;
        let Some(before) = answer.kvs.into_iter().next() else { return Ok(()) };
        gone(store, before.key, answer.header.unwrap_or_default().revision).await?;
    }
}

/// Waits until `key` is deleted at or after `revision`.
async fn gone(store: &Client, key: Bytes, revision: i64) -> Result<(), Status> {
    let mut watched =
        watch(store, pb::WatchCreateRequest { key, start_revision: revision, ..Default::default() }).await?;
    while let Some(response) = watched.next().await {
        if response?.events.iter().any(|event| event.r#type() == EventType::Delete) {
            return Ok(());
        }
    }
    Err(to_status(Error::Stopped))
}

/// The responses of one watch, until it is cancelled, which is the last item and an error.
pub(super) async fn watch(
    store: &Client,
    create: pb::WatchCreateRequest,
) -> Result<impl Stream<Item = Result<pb::WatchResponse, Status>> + Send + Unpin + use<>, Status> {
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests: BoxStream<'static, _> = stream::iter([create]).chain(stream::pending()).boxed();
    let responses = store.watch(requests).await.map_err(to_status)?;
    Ok(responses.map(|response| response.map_err(to_status).and_then(uncancelled)))
}

fn uncancelled(response: pb::WatchResponse) -> Result<pb::WatchResponse, Status> {
    match response {
        response if !response.canceled => Ok(response),
        response if response.compact_revision != 0 => Err(to_status(Error::Compacted)),
        response if response.cancel_reason.is_empty() => Err(to_status(Error::FutureRevision)),
        response => Err(Status::unknown(response.cancel_reason)),
    }
}
