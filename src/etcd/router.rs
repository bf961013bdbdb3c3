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
    match rpc {
        Rpc::DeleteRange => unary::answer(shared, rpc, request, async |m| told(store.delete_range(m).await)).await,
        Rpc::Txn => unary::answer(shared, rpc, request, async |m| told(store.txn(m).await)).await,
        Rpc::Compact => unary::answer(shared, rpc, request, async |m| told(store.compact(m).await)).await,
        Rpc::LeaseGrant => unary::answer(shared, rpc, request, async |m| told(store.lease_grant(m).await)).await,
        Rpc::LeaseRevoke => unary::answer(shared, rpc, request, async |m| told(store.lease_revoke(m).await)).await,
        Rpc::LeaseTimeToLive => {
            unary::answer(shared, rpc, request, async |m| told(store.lease_time_to_live(m).await)).await
        }
        Rpc::LeaseLeases => unary::answer(shared, rpc, request, async |m| told(store.lease_leases(m).await)).await,
        Rpc::MemberList => unary::answer(shared, rpc, request, async |m| told(store.member_list(m).await)).await,
        Rpc::MemberAdd => unary::answer(shared, rpc, request, async |m| told(store.member_add(m).await)).await,
        Rpc::MemberRemove => unary::answer(shared, rpc, request, async |m| told(store.member_remove(m).await)).await,
        Rpc::MemberUpdate => unary::answer(shared, rpc, request, async |m| told(store.member_update(m).await)).await,
        Rpc::MemberPromote => unary::answer(shared, rpc, request, async |m| told(store.member_promote(m).await)).await,
        Rpc::MoveLeader => unary::answer(shared, rpc, request, async |m| told(store.move_leader(m).await)).await,
        Rpc::Downgrade => unary::answer(shared, rpc, request, async |m| told(store.downgrade(m).await)).await,
        Rpc::Status => unary::answer(shared, rpc, request, async |m| told(store.status(m).await)).await,
        Rpc::Alarm => unary::answer(shared, rpc, request, async |m| told(store.alarm(m).await)).await,
        Rpc::HashKv => unary::answer(shared, rpc, request, async |m| told(store.hash_kv(m).await)).await,
        Rpc::Hash => unary::answer(shared, rpc, request, async |m| told(store.hash(m).await)).await,
        Rpc::Defragment => unary::answer(shared, rpc, request, async |m| told(store.defragment(m).await)).await,
        Rpc::HealthCheck => unary::answer(shared, rpc, request, async |m| health::check(shared, &m)).await,
        Rpc::HealthWatch => health::watch(shared, request).await,
        Rpc::Watch => watch::answer(shared, store, request).await,
        Rpc::LeaseKeepAlive => lease::keep_alive(shared, store, request).await,
        Rpc::RangeStream => range_stream::answer(shared, store, request).await,
        Rpc::Snapshot => snapshot::answer(shared, store, request).await,
        rpc if rpc.service() == Rpc::Authenticate.service() => answer_auth(shared, store, rpc, request).await,
        _ => answer_recipe(shared, store, rpc, request).await,
    }
}

/// Users, roles and tokens.
async fn answer_auth(shared: &Arc<Shared>, store: &Client, rpc: Rpc, request: Request<RequestBody>) -> Response<Body> {
    match rpc {
        Rpc::AuthEnable => unary::answer(shared, rpc, request, async |m| told(store.auth_enable(m).await)).await,
        Rpc::AuthDisable => unary::answer(shared, rpc, request, async |m| told(store.auth_disable(m).await)).await,
        Rpc::AuthStatus => unary::answer(shared, rpc, request, async |m| told(store.auth_status(m).await)).await,
        Rpc::Authenticate => unary::answer(shared, rpc, request, async |m| told(store.authenticate(m).await)).await,
        Rpc::UserAdd => unary::answer(shared, rpc, request, async |m| told(store.user_add(m).await)).await,
        Rpc::UserGet => unary::answer(shared, rpc, request, async |m| told(store.user_get(m).await)).await,
        Rpc::UserList => unary::answer(shared, rpc, request, async |m| told(store.user_list(m).await)).await,
        Rpc::UserDelete => unary::answer(shared, rpc, request, async |m| told(store.user_delete(m).await)).await,
        Rpc::UserChangePassword => {
            unary::answer(shared, rpc, request, async |m| told(store.user_change_password(m).await)).await
        }
        Rpc::UserGrantRole => unary::answer(shared, rpc, request, async |m| told(store.user_grant_role(m).await)).await,
        Rpc::UserRevokeRole => {
            unary::answer(shared, rpc, request, async |m| told(store.user_revoke_role(m).await)).await
        }
        Rpc::RoleAdd => unary::answer(shared, rpc, request, async |m| told(store.role_add(m).await)).await,
        Rpc::RoleGet => unary::answer(shared, rpc, request, async |m| told(store.role_get(m).await)).await,
        Rpc::RoleList => unary::answer(shared, rpc, request, async |m| told(store.role_list(m).await)).await,
        Rpc::RoleDelete => unary::answer(shared, rpc, request, async |m| told(store.role_delete(m).await)).await,
        Rpc::RoleGrantPermission => {
            unary::answer(shared, rpc, request, async |m| told(store.role_grant_permission(m).await)).await
        }
        Rpc::RoleRevokePermission => {
            unary::answer(shared, rpc, request, async |m| told(store.role_revoke_permission(m).await)).await
        }
        _ => not_served(shared, rpc).into_http(),
    }
}

/// Locks and elections.
async fn answer_recipe(
    shared: &Arc<Shared>,
    store: &Client,
    rpc: Rpc,
    request: Request<RequestBody>,
) -> Response<Body> {
    let world = &shared.world;
    match rpc {
        Rpc::Lock => unary::answer(shared, rpc, request, async |m| lock::lock(world, store, m).await).await,
        Rpc::Unlock => unary::answer(shared, rpc, request, async |m| lock::unlock(store, m).await).await,
        Rpc::Campaign => unary::answer(shared, rpc, request, async |m| election::campaign(world, store, m).await).await,
        Rpc::Proclaim => unary::answer(shared, rpc, request, async |m| election::proclaim(store, m).await).await,
        Rpc::Leader => unary::answer(shared, rpc, request, async |m| election::leader(store, m).await).await,
        Rpc::Resign => unary::answer(shared, rpc, request, async |m| election::resign(store, m).await).await,
        Rpc::Observe => stream::server(shared, rpc, request, async |m| Ok(observe::observe(store.clone(), m))).await,
        _ => not_served(shared, rpc).into_http(),
    }
}

fn told<T>(answered: Result<T, Error>) -> Result<T, Status> {
    answered.map_err(|error| status::of(&error))
}

/// An RPC of etcd's interface that this frontend does not offer.
fn not_served(shared: &Shared, rpc: Rpc) -> Status {
    let refused = Status::unimplemented(format!("{}/{} is not served by this server", rpc.service(), rpc.method()));
    shared.metrics.start(rpc).end(refused.code());
    refused
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
