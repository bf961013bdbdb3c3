//! `Observe`: who leads now and what it proclaims, then every change.

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::mvccpb::KeyValue;
use chorus_proto::mvccpb::event::EventType;
use chorus_proto::v3electionpb::{LeaderRequest, LeaderResponse};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tonic::Status;

use super::election::oldest;
use super::{after, prefix, wait};
use crate::store::client::Client;

type Leaders = BoxStream<'static, Result<LeaderResponse, Status>>;

/// Never ends by itself: while an election has no leader, it waits for one.
pub(in crate::etcd) fn observe(store: Client, request: LeaderRequest) -> Leaders {
    let prefix = prefix(&request.name);
    let reigns = stream::try_unfold((store, prefix), async |(store, prefix)| {
        let (header, kv) = current(&store, &prefix).await?;
        let changes = changes(&store, kv.key.clone(), header.revision + 1).await?;
        let first = LeaderResponse { header: Some(header), kv: Some(kv) };
        let reign = stream::iter([Ok(first)]).chain(changes);
        Ok::<_, Status>(Some((reign, (store, prefix))))
    });
    reigns.try_flatten().boxed()
}

/// The leader, as soon as there is one.
async fn current(store: &Client, prefix: &[u8]) -> Result<(pb::ResponseHeader, KeyValue), Status> {
    let (header, kv) = oldest(store, prefix).await?;
    let header = header.unwrap_or_default();
    if let Some(kv) = kv {
        return Ok((header, kv));
    }
    let create = pb::WatchCreateRequest {
        key: Bytes::copy_from_slice(prefix),
        range_end: after(prefix),
        start_revision: header.revision,
        ..Default::default()
    };
    let mut watched = wait::watch(store, create).await?;
    while let Some(response) = watched.next().await {
        let response = response?;
        if let Some(kv) = puts(response.events).next() {
            // The response may hold later revisions than the one that made this key.
            let header = pb::ResponseHeader { revision: kv.mod_revision, ..response.header.unwrap_or_default() };
            return Ok((header, kv));
        }
    }
    Err(super::to_status(crate::store::error::Error::Stopped))
}

fn puts(events: Vec<chorus_proto::mvccpb::Event>) -> impl Iterator<Item = KeyValue> {
    events.into_iter().filter(|event| event.r#type() == EventType::Put).filter_map(|event| event.kv)
}

/// The proclamations of the leader that holds `key`, from `revision` on. Ends when the key is deleted.
async fn changes(store: &Client, key: Bytes, revision: i64) -> Result<Leaders, Status> {
    let create = pb::WatchCreateRequest { key, start_revision: revision, ..Default::default() };
    let watched = wait::watch(store, create).await?;
    let answers = watched.map_ok(|mut response| {
        let deleted = response.events.iter().position(|event| event.r#type() == EventType::Delete);
        response.events.truncate(deleted.unwrap_or(response.events.len()));
        let header = response.header;
        let proclaimed = puts(response.events).map(move |kv| LeaderResponse { header, kv: Some(kv) });
        let proclaimed: Vec<_> = proclaimed.map(|answer| Ok(Some(answer))).collect();
        let end = deleted.map(|_| Ok(None));
        stream::iter(proclaimed.into_iter().chain(end))
    });
    let until_deleted = answers.try_flatten().try_take_while(|answer| std::future::ready(Ok(answer.is_some())));
    Ok(until_deleted.try_filter_map(|answer| std::future::ready(Ok(answer))).boxed())
}
