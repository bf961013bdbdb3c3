//! Which code answers a request: gRPC by path when the content type says so, else plain HTTP.

use std::sync::Arc;

use ::http::{Request, Response, StatusCode, Version, header};
use tonic::Status;

use super::body::{Body, RequestBody};
use super::connection::{Connection, Serves};
use super::rpc::Rpc;
use super::{dispatch, http, status};
use crate::store::error::Error;

pub(super) async fn answer(
    connection: Arc<Connection>,
    request: Request<RequestBody>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let server = &connection.server;
    match protocol(&connection, &request) {
        Protocol::Grpc => (),
        Protocol::Http => return Ok(Box::pin(http::answer(&connection, request)).await),
        Protocol::Neither => return Ok(not_grpc(&request)),
    }
    Ok(match Rpc::find(request.uri().path()) {
        Some(rpc) => dispatch::call(server, rpc, request).await,
        None => unknown(request.uri().path()).into_http(),
    })
}

/// The answer while clients have left too many bytes unread for any other.
pub(super) fn too_much<B>(request: &Request<B>) -> Response<Body> {
    if is_grpc(request) {
        return status::of(&Error::TooManyRequests).into_http();
    }
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

enum Protocol {
    Grpc,
    Http,
    /// HTTP/2 without TLS is for gRPC alone.
    Neither,
}

fn protocol(connection: &Connection, request: &Request<RequestBody>) -> Protocol {
    let is_http2 = request.version() == Version::HTTP_2;
    match connection.serves {
        Serves::GrpcAndHttp | Serves::Grpc if is_http2 && is_grpc(request) => Protocol::Grpc,
        Serves::Grpc => Protocol::Neither,
        _ if is_http2 && !connection.secure => Protocol::Neither,
        _ => Protocol::Http,
    }
}

fn not_grpc(request: &Request<RequestBody>) -> Response<Body> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let refused = Status::internal(format!("invalid gRPC request content-type {:?}", content_type.unwrap_or_default()));
    let mut response = refused.into_http();
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A path that is no RPC, in the words of the gRPC library that etcd uses.
fn unknown(path: &str) -> Status {
    match path.trim_start_matches('/').rsplit_once('/') {
        Some((service, method)) if Rpc::ALL.iter().any(|rpc| rpc.service() == service) => {
            Status::unimplemented(format!("unknown method {method} for service {service}"))
        }
        Some((service, _)) => Status::unimplemented(format!("unknown service {service}")),
        None => Status::unimplemented(format!("malformed method name: {path:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_paths_are_named() {
        for (path, text) in [
            ("/etcdserverpb.KV/Nope", "unknown method Nope for service etcdserverpb.KV"),
            ("/nope.KV/Range", "unknown service nope.KV"),
            ("/nope", "malformed method name: \"/nope\""),
        ] {
            assert_eq!(unknown(path).message(), text);
        }
    }
}
