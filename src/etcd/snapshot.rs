//! Snapshot: the member's database in chunks.

use std::sync::Arc;

use chorus_proto::etcdserverpb as pb;
use futures::StreamExt;
use http::{Request, Response};

use super::body::{Body, RequestBody};
use super::rpc::Rpc;
use super::server::EtcdServer;
use super::{status, stream};
use crate::store::client::Client;

pub(super) async fn answer(server: &Arc<EtcdServer>, store: &Client, request: Request<RequestBody>) -> Response<Body> {
    stream::server_stream(server, Rpc::Snapshot, request, async |_: pb::SnapshotRequest| {
        let chunks = store.snapshot().await.map_err(|error| status::of(&error))?;
        Ok(chunks.map(|chunk| chunk.map_err(|error| status::of(&error))).boxed())
    })
    .await
}
