//! Which code answers a request: gRPC by path when the content type says so, else plain HTTP.

use std::sync::Arc;

use ::http::{Request, Response, StatusCode, Version, header};
use tonic::Status;

use super::body::{Body, RequestBody};
use super::concurrency::{election, lock, observe};
use super::frontend::Shared;
use super::listen::{Connection, Serves};
use super::rpc::Rpc;
use super::{caller, health, http, lease, range, range_stream, snapshot, status, stream, unary, watch};
use crate::store::client::Client;
use crate::store::error::Error;
use crate::store::rpcs::rpcs;

pub(super) async fn answer(
    connection: Arc<Connection>,
    request: Request<RequestBody>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let shared = &connection.shared;
    match protocol(&connection, &request) {
        Protocol::Grpc => (),
        Protocol::Http => return Ok(Box::pin(http::answer(&connection, request)).await),
        Protocol::Neither => return Ok(not_grpc(&request)),
    }
    Ok(match Rpc::find(request.uri().path()) {
        Some(rpc) => call(shared, rpc, request).await,
        None => unknown(request.uri().path()).into_http(),
    })
}

/// Answers while nothing can be answered: too much waits to be read.
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

/// Answers one call of an RPC, from a connection or from the gateway.
pub(super) async fn call(shared: &Arc<Shared>, rpc: Rpc, request: Request<RequestBody>) -> Response<Body> {
    let store = caller::store(shared, rpc, &request);
    match rpc {
        // The two that decide how fast a store is stay unboxed, and the future of a call small.
        Rpc::Put => unary::answer(shared, rpc, request, async |m| told(store.put(m).await)).await,
        Rpc::Range => range::answer(shared, &store, request).await,
        _ => Box::pin(answer_rpc(shared, &store, rpc, request)).await,
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

async fn answer_rpc(shared: &Arc<Shared>, store: &Client, rpc: Rpc, request: Request<RequestBody>) -> Response<Body> {
    let world = &shared.world;
    match rpc {
        Rpc::Watch => watch::answer(shared, store, request).await,
        Rpc::LeaseKeepAlive => lease::keep_alive(shared, store, request).await,
        Rpc::RangeStream => range_stream::answer(shared, store, request).await,
        Rpc::Snapshot => snapshot::answer(shared, store, request).await,
        Rpc::Lock => unary::answer(shared, rpc, request, async |m| lock::lock(world, store, m).await).await,
        Rpc::Unlock => unary::answer(shared, rpc, request, async |m| lock::unlock(store, m).await).await,
        Rpc::Campaign => unary::answer(shared, rpc, request, async |m| election::campaign(world, store, m).await).await,
        Rpc::Proclaim => unary::answer(shared, rpc, request, async |m| election::proclaim(store, m).await).await,
        Rpc::Leader => unary::answer(shared, rpc, request, async |m| election::leader(store, m).await).await,
        Rpc::Resign => unary::answer(shared, rpc, request, async |m| election::resign(store, m).await).await,
        Rpc::Observe => stream::server(shared, rpc, request, async |m| Ok(observe::observe(store.clone(), m))).await,
        Rpc::HealthCheck => unary::answer(shared, rpc, request, async |m| health::check(shared, &m)).await,
        Rpc::HealthWatch => health::watch(shared, request).await,
        rpc => pass_on(shared, store, rpc, request).await,
    }
}

macro_rules! calls {
    (
        given {}
        unary { $($part:ident { $(
            $(#[$doc:meta])*
            $name:ident $path:literal $method:ident($request:ident) -> $response:ident,
            $rule:ident, $again:ident, $($json:literal)|+;
        )* })* }
        own { $($own:tt)* }
    ) => {
        /// What the store answers with one message.
        async fn pass_on(
            shared: &Arc<Shared>,
            store: &Client,
            rpc: Rpc,
            request: Request<RequestBody>,
        ) -> Response<Body> {
            match rpc {
                $($(Rpc::$name => {
                    unary::answer(shared, rpc, request, async |m| told(store.$method(m).await)).await
                })*)*
                own => unreachable!("{own:?} has an answer of its own"),
            }
        }
    };
}

rpcs!(calls {});

fn told<T>(answered: Result<T, Error>) -> Result<T, Status> {
    answered.map_err(|error| status::of(&error))
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
