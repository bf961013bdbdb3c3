//! One message in, one message out: the hot path.
//!
//! Calls by the thousand pay for every layer between the socket and the store, so this is gRPC's framing written out:
//! the request is decoded from the frame it came in, without a copy, and the answer is one buffer and its trailers.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, Request, Response, header};
use hyper::body::Body as _;
use prost::Message;
use tonic::{Code, Status};

use super::body::{Body, RequestBody};
use super::frame::{PREFIX_BYTES, frame, length_of};
use super::metadata::Metadata;
use super::rpc::Rpc;
use super::server::EtcdServer;
use super::{slow, status};
use crate::actor::Share;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Answers `request` with what `call` makes of its message.
pub(super) async fn answer<Q: Message + Default, R: Message>(
    server: &EtcdServer,
    rpc: Rpc,
    request: Request<RequestBody>,
    call: impl AsyncFnOnce(Q) -> Result<R, Status>,
) -> Response<Body> {
    let mut counted = server.metrics.start(rpc);
    let began = server.world.clock.now();
    let answered = run(server, rpc, request, call).await;
    slow::log(server, rpc, began, answered.as_ref().ok());
    match answered {
        Ok(message) => {
            let framed = frame(&message);
            counted.sent(framed.len() - PREFIX_BYTES);
            counted.end(Code::Ok);
            respond(Body::message(framed))
        }
        Err(status) => {
            counted.end(status.code());
            status.into_http()
        }
    }
}

pub(super) fn respond(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    response
}

/// Reads the message of a call and gives what `call` makes of it.
pub(super) async fn run<Q: Message + Default, R>(
    server: &EtcdServer,
    rpc: Rpc,
    request: Request<RequestBody>,
    call: impl AsyncFnOnce(Q) -> Result<R, Status>,
) -> Result<R, Status> {
    let (parts, body) = request.into_parts();
    let metadata = Metadata::read(&parts.headers)?;
    server.metrics.client_request(rpc, metadata.client_api_version);
    if metadata.require_leader {
        require_leader(server).await?;
    }
    let mut share = server.bodies.share();
    let framed = collect(server, body, &mut share).await?;
    server.metrics.received(rpc, framed.len());
    let message = Q::decode(framed).map_err(|error| Status::internal(format!("malformed message: {error}")))?;
    match metadata.timeout {
        None => call(message).await,
        Some(limit) => match server.world.clock.timeout(limit, call(message)).await {
            Ok(answered) => answered,
            Err(_) => Err(status::deadline_exceeded()),
        },
    }
}

/// Fails while the member knows no leader.
pub(super) async fn require_leader(server: &EtcdServer) -> Result<(), Status> {
    let known = server.store.status(Default::default()).await.map_err(|error| status::of(&error))?;
    if known.leader == 0 { Err(status::no_leader()) } else { Ok(()) }
}

/// Smaller bodies are not counted: the bound on calls bounds them.
const COUNTED_BYTES: usize = 4 << 10;

/// The one message of a request body, without its prefix.
async fn collect(server: &EtcdServer, mut body: RequestBody, share: &mut Share) -> Result<Bytes, Status> {
    let bytes_max = server.config.limits.receive_bytes_max;
    let mut held = Bytes::new();
    while !body.is_end_stream() {
        let Some(frame) = body.next(&server.world.clock).await else { break };
        let Ok(data) = frame?.into_data() else { continue };
        held = join(held, data);
        check_prefix(&held, bytes_max)?;
        if held.len() >= COUNTED_BYTES {
            share.grow_to(held.len() as u64).map_err(|_| status::too_many_requests())?;
        }
    }
    message_of(held)
}

fn join(held: Bytes, more: Bytes) -> Bytes {
    if held.is_empty() {
        return more;
    }
    // A message over several frames is rare; `try_into_mut` keeps the buffer of the previous joins.
    let mut joined = held.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    joined.extend_from_slice(&more);
    joined.freeze()
}

/// Refuses a message too large or compressed as soon as its prefix is there.
fn check_prefix(held: &[u8], bytes_max: usize) -> Result<(), Status> {
    let Some((prefix, rest)) = held.split_first_chunk::<PREFIX_BYTES>() else { return Ok(()) };
    let length = length_of(prefix);
    if prefix[0] != 0 {
        return Err(Status::unimplemented("compressed messages are not supported: send without grpc-encoding"));
    }
    if length > bytes_max {
        return Err(status::message_too_large(length, bytes_max));
    }
    if rest.len() > length {
        return Err(Status::internal("more than one message in a unary call"));
    }
    Ok(())
}

fn message_of(mut held: Bytes) -> Result<Bytes, Status> {
    let Some((prefix, rest)) = held.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(Status::internal("the call ended before its message"));
    };
    if rest.len() != length_of(prefix) {
        return Err(Status::internal("the call ended in the middle of its message"));
    }
    held.advance(PREFIX_BYTES);
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(held: &[u8], bytes_max: usize) -> Result<Bytes, Status> {
        check_prefix(held, bytes_max)?;
        message_of(Bytes::copy_from_slice(held))
    }

    #[test]
    fn one_whole_message_is_taken_from_its_frame() {
        assert_eq!(parts(&[0, 0, 0, 0, 2, 8, 1], 2).unwrap(), &[8, 1][..]);
        assert_eq!(parts(&[0, 0, 0, 0, 0], 2).unwrap(), &[][..]);
    }

    #[test]
    fn anything_else_is_refused() {
        for (held, code) in [
            (&[][..], Code::Internal),
            (&[0, 0, 0][..], Code::Internal),
            (&[0, 0, 0, 0, 2, 8][..], Code::Internal),
            (&[0, 0, 0, 0, 1, 8, 1][..], Code::Internal),
            (&[1, 0, 0, 0, 1, 8][..], Code::Unimplemented),
            (&[0, 0, 0, 0, 3, 8, 1, 1][..], Code::ResourceExhausted),
        ] {
            assert_eq!(parts(held, 2).unwrap_err().code(), code, "{held:?}");
        }
    }

    #[test]
    fn a_message_too_large_is_refused_from_its_prefix_alone() {
        let refused = check_prefix(&[0, 0, 32, 0, 1], 2_097_152).unwrap_err();
        assert_eq!(refused.message(), "grpc: received message larger than max (2097153 vs. 2097152)");
    }

    #[test]
    fn frames_are_joined_in_order() {
        let joined =
            [&b"ab"[..], b"c", b"", b"de"].into_iter().fold(Bytes::new(), |held, more| join(held, more.into()));
        assert_eq!(joined, "abcde");
    }
}
