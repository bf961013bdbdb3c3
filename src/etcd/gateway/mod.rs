//! etcd's JSON gateway: every RPC as an HTTP POST, transcoded into the same call that a gRPC client makes.
//!
//! ```text
//!   POST /v3/kv/range {JSON} ──▶ Rpc ──▶ Codec: JSON ─▶ framed protobuf ──▶ dispatch ──▶ gRPC response
//!                                                                                             │
//!                {JSON} ◀── unary: one object; stream: a line {"result":…} a message ◀── Codec ◀┘
//!   WebSocket message = a line of a streamed request or answer
//! ```
//!
//! It knows no RPC: paths are in the table of all RPCs, and the messages come from the descriptors of the .proto files.
//! The calls of the gateway have one bound together, the limit of streams that one gRPC connection has.
//!
//! - `codec`: JSON from and to framed messages
//! - `reader`: a JSON object as a message
//! - `split`: where one JSON value of a stream of them ends
//! - `metadata`: HTTP headers as gRPC metadata
//! - `unary`, `lines`, `websocket`: one answer, many in one body, many over a socket
//! - `call`: one call, made as a gRPC client makes it
//! - `response`: answers and gRPC statuses as HTTP

mod call;
mod codec;
mod lines;
mod metadata;
mod reader;
mod response;
mod split;
mod unary;
mod websocket;

use std::sync::Arc;

use http::{Method, Request, Response};
use tonic::Status;

use self::call::Call;
use super::body::{Body, RequestBody};
use super::rpc::{Kind, Rpc};
use super::server::EtcdServer;

/// Whether the gateway answers `path`.
pub(super) fn serves(path: &str) -> bool {
    path.starts_with("/v3/")
}

/// Answers `request`, whose `path` may differ from the one in its URI.
pub(super) async fn answer(server: &Arc<EtcdServer>, path: &str, request: Request<RequestBody>) -> Response<Body> {
    let Some(rpc) = Rpc::find_json(path) else {
        return response::refused(&Status::not_found("Not Found"));
    };
    if websocket::is_asked(request.headers()) {
        return websocket::answer(server.clone(), rpc, request);
    }
    if request.method() != Method::POST {
        return response::refused(&Status::unimplemented("Method Not Allowed"));
    }
    let (parts, body) = request.into_parts();
    let call = match Call::new(server, rpc, &parts.headers) {
        Ok(call) => call,
        Err(refused) => return response::refused(&refused),
    };
    match rpc.kind() {
        Kind::Unary => unary::answer(call, body).await,
        Kind::ServerStream | Kind::BidiStream => lines::answer(call, body).await,
    }
}
