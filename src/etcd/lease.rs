//! Lease keep-alive: each request of a stream is one call of the store, answered in order.

use std::sync::Arc;

use chorus_proto::etcdserverpb as pb;
use futures::{StreamExt, stream};
use http::{Request, Response};
use prost::Message;
use tonic::codec::Streaming;

use super::body::{Body, RequestBody};
use super::rpc::Rpc;
use super::server::EtcdServer;
use super::status;
use super::stream as streams;
use crate::store::client::Client;

pub(super) async fn keep_alive(
    server: &Arc<EtcdServer>,
    store: &Client,
    request: Request<RequestBody>,
) -> Response<Body> {
    streams::bidi_stream(
        server,
        Rpc::LeaseKeepAlive,
        request,
        async |messages: Streaming<pb::LeaseKeepAliveRequest>| {
            let answers =
                stream::try_unfold((messages, server.clone(), store.clone()), async |(mut messages, server, store)| {
                    let Some(request) = messages.message().await? else { return Ok(None) };
                    server.metrics.received(Rpc::LeaseKeepAlive, request.encoded_len());
                    let answer = store.lease_keep_alive(request).await.map_err(|error| status::of(&error))?;
                    Ok(Some((answer, (messages, server, store))))
                });
            Ok(answers.boxed())
        },
    )
    .await
}
