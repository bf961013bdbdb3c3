//! One JSON object in, one out.

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use http::Response;
use http_body_util::{BodyExt, Full};
use tonic::Status;

use super::call::Call;
use super::codec::Codec;
use super::response;
use crate::actor::Share;
use crate::etcd::body::{Body, RequestBody};
use crate::etcd::server::EtcdServer;
use crate::etcd::status as statuses;

/// Smaller answers are not counted, and made where the call is: the bound on calls bounds them.
const LARGE_BYTES: usize = 64 << 10;
/// How much more memory an answer takes than its gRPC message: the message, its fields, and JSON with a third more.
const MEMORY_FACTOR: u64 = 4;
/// Of a large answer, what the connection gets at once.
const PIECE_BYTES: usize = 256 << 10;

/// An answer, and its share of the memory for answers.
pub(super) struct Answer {
    pub json: Bytes,
    _share: Share,
}

impl Answer {
    /// A body that holds the share until it is sent, or given up.
    fn into_body(self) -> Body {
        if self.json.len() < LARGE_BYTES {
            return Body::Text(Full::new(self.json));
        }
        let pieces = stream::unfold(self, |mut rest| async move {
            let piece = rest.json.split_to(rest.json.len().min(PIECE_BYTES));
            (!piece.is_empty()).then_some((piece, rest))
        });
        Body::Lines(pieces.boxed())
    }
}

pub(super) async fn answer(call: Call, body: RequestBody) -> Response<Body> {
    match run(call, body).await {
        Ok(answer) => response::answer(answer.into_body()),
        Err(status) => response::refused(&status),
    }
}

pub(super) async fn run(mut call: Call, body: RequestBody) -> Result<Answer, Status> {
    let server = call.server.clone();
    let (json, _share) = collect(&server, body, call.json_bytes_max()).await?;
    let framed = call.codec.request(&json)?;
    drop(json);
    let _permit = server.gateway_calls.wait().await;
    let mut response = call.send(RequestBody::framed(futures::stream::iter([Ok(framed)]))).await?;
    match response.body_mut().frame().await {
        Some(Ok(frame)) => match frame.into_data() {
            Ok(framed) => write(&server, call.codec, framed).await,
            Err(_) => Err(Status::internal("a call was answered without a message")),
        },
        Some(Err(status)) => Err(status),
        None => Err(Status::internal("a call was answered without a message")),
    }
}

/// A framed message as JSON: a large one where no other call waits for it, if there is memory for it.
async fn write(server: &EtcdServer, codec: Codec, framed: Bytes) -> Result<Answer, Status> {
    let mut share = server.answers.share();
    if framed.len() < LARGE_BYTES {
        return Ok(Answer { json: codec.response(&framed, "", "")?, _share: share });
    }
    share.grow_to(framed.len() as u64 * MEMORY_FACTOR).map_err(|_| statuses::too_many_requests())?;
    // When the client goes away, this goes on and keeps its share until it is done.
    let write = move || codec.response(&framed, "", "").map(|json| Answer { json, _share: share });
    server.world.spawner.blocking(write).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::Budget;

    #[tokio::test]
    async fn a_large_answer_has_its_memory_until_it_is_sent() {
        let budget = Budget::new(1);
        let json = Bytes::from((0..PIECE_BYTES * 2 + 1).map(|at| at as u8).collect::<Vec<u8>>());
        let answer = || Answer { json: json.clone(), _share: budget.take(1).unwrap() };
        let mut body = answer().into_body();
        let mut sent = Vec::new();
        while let Some(frame) = body.frame().await {
            assert_eq!(budget.taken(), 1);
            sent.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        assert_eq!((sent == json, budget.taken()), (true, 0));
        let given_up = answer().into_body();
        assert_eq!(budget.taken(), 1);
        drop(given_up);
        assert_eq!(budget.taken(), 0);
    }
}
