//! etcd's JSON gateway: every RPC as an HTTP POST, transcoded into the same call that a gRPC client makes.
//!
//! ```text
//!   POST /v3/kv/range {JSON} ──▶ Rpc ──▶ Codec: JSON ─▶ framed protobuf ──▶ router::call ──▶ gRPC response
//!                                                                                                  │
//!                {JSON} ◀── unary: one object; stream: a line {"result":…} a message ◀── Codec ◀───┘
//!   WebSocket message = a line of a streamed request or answer
//! ```
//!
//! It knows no RPC: paths are in the table of all RPCs, and the messages come from the descriptors of the .proto files.
//! A gateway call waits its turn as if all of them shared one gRPC connection, with that connection's limit of streams.
//!
//! - `codec`: JSON from and to framed messages
//! - `reader`: a JSON object as a message
//! - `split`: where one JSON value of a stream of them ends
//! - `metadata`: HTTP headers as gRPC metadata
//! - `unary`, `lines`, `websocket`: one answer, many in one body, many over a socket
//! - `refusal`: gRPC statuses as HTTP

mod codec;
mod lines;
mod metadata;
mod reader;
mod refusal;
mod split;
mod unary;
mod websocket;

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Request, Response};
use tonic::{Code, Status};

use self::codec::Codec;
use super::body::{Body, RequestBody};
use super::frontend::Shared;
use super::rpc::{Kind, Rpc};
use super::status as statuses;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The gateway shows the metadata of gRPC answers, and this is all there is.
const METADATA: (HeaderName, HeaderValue) =
    (HeaderName::from_static("grpc-metadata-content-type"), HeaderValue::from_static("application/grpc"));

/// How often a message of JSON may be larger than the gRPC message it stands for: base64 takes a third more.
const JSON_OVERHEAD: usize = 2;

/// Whether `path` is the gateway's to answer.
pub(super) fn serves(path: &str) -> bool {
    path.starts_with("/v3/")
}

/// Answers `request`, whose `path` may differ from the one in its URI.
pub(super) async fn answer(shared: &Arc<Shared>, path: &str, request: Request<RequestBody>) -> Response<Body> {
    let Some(rpc) = Rpc::find_json(path) else {
        return refusal::whole(&Status::not_found("Not Found"));
    };
    if websocket::is_asked(request.headers()) {
        return websocket::answer(shared.clone(), rpc, request);
    }
    if request.method() != Method::POST {
        return refusal::whole(&Status::unimplemented("Method Not Allowed"));
    }
    let (parts, body) = request.into_parts();
    let call = match Call::new(shared, rpc, &parts.headers) {
        Ok(call) => call,
        Err(refused) => return refusal::whole(&refused),
    };
    match rpc.kind() {
        Kind::Unary => unary::answer(call, body).await,
        Kind::ServerStream | Kind::BidiStream => lines::answer(call, body).await,
    }
}

/// One call of the gateway.
struct Call {
    shared: Arc<Shared>,
    rpc: Rpc,
    codec: Codec,
    headers: http::HeaderMap,
}

impl Call {
    fn new(shared: &Arc<Shared>, rpc: Rpc, headers: &http::HeaderMap) -> Result<Call, Status> {
        let headers = metadata::from_http(headers)?;
        Ok(Call { shared: shared.clone(), rpc, codec: Codec::of(rpc), headers })
    }

    fn json_bytes_max(&self) -> usize {
        self.shared.config.limits.receive_bytes_max.saturating_mul(JSON_OVERHEAD)
    }

    /// Makes the call. Its failure is either the status in the response's headers, or the end of its body.
    async fn send(&mut self, body: RequestBody) -> Result<Response<Body>, Status> {
        let mut request = Request::new(body);
        *request.headers_mut() = std::mem::take(&mut self.headers);
        let response = super::router::call(&self.shared, self.rpc, request).await;
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != Code::Ok => Err(status),
            _ => Ok(response),
        }
    }
}

fn too_large(bytes: usize, bytes_max: usize) -> Status {
    statuses::message_too_large(bytes, bytes_max)
}
