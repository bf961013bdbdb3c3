//! One JSON object in, one out.

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body_util::{BodyExt, Full};
use tonic::Status;

use super::call::Call;
use super::response;
use crate::actor::Share;
use crate::etcd::body::{Body, RequestBody};
use crate::etcd::server::EtcdServer;
use crate::etcd::status as statuses;

pub(super) async fn answer(call: Call, body: RequestBody) -> Response<Body> {
    match run(call, body).await {
        Ok(json) => response::answer(Body::Text(Full::new(json))),
        Err(status) => response::refused(&status),
    }
}

pub(super) async fn run(mut call: Call, body: RequestBody) -> Result<Bytes, Status> {
    let server = call.server.clone();
    let (json, _share) = collect(&server, body, call.json_bytes_max()).await?;
    let framed = call.codec.request(&json)?;
    drop(json);
    let _permit = server.gateway_calls.wait().await;
    let mut response = call.send(RequestBody::framed(futures::stream::iter([Ok(framed)]))).await?;
    match response.body_mut().frame().await {
        Some(Ok(frame)) => match frame.into_data() {
            Ok(framed) => call.codec.response(&framed, "", ""),
            Err(_) => Err(Status::internal("a call was answered without a message")),
        },
        Some(Err(status)) => Err(status),
        None => Err(Status::internal("a call was answered without a message")),
    }
}

/// The whole of a body of at most `bytes_max`, and its share of the memory for bodies.
pub(super) async fn collect(
    server: &EtcdServer,
    mut body: RequestBody,
    bytes_max: usize,
) -> Result<(Bytes, Share), Status> {
    let (mut held, mut share) = (BytesMut::new(), server.bodies.share());
    while let Some(frame) = body.next(&server.world.clock).await {
        let Ok(data) = frame?.into_data() else { continue };
        held.extend_from_slice(&data);
        if held.len() > bytes_max {
            return Err(statuses::message_too_large(held.len(), bytes_max));
        }
        share.grow_to(held.len() as u64).map_err(|_| statuses::too_many_requests())?;
    }
    Ok((held.freeze(), share))
}
