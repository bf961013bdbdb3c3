//! One call of an RPC, whether it came from a connection or from the gateway: which code answers it, in whose name.

use std::sync::Arc;

use http::{Request, Response};
use tonic::Status;

use super::body::{Body, RequestBody};
use super::concurrency::{election, lock, observe};
use super::rpc::Rpc;
use super::server::EtcdServer;
use super::{caller, health, lease, range, range_stream, snapshot, status, stream, unary, watch};
use crate::store::client::Client;
use crate::store::error::Error;
use crate::store::rpcs::rpcs;

/// Answers one call of `rpc`.
pub(super) async fn call(server: &Arc<EtcdServer>, rpc: Rpc, request: Request<RequestBody>) -> Response<Body> {
    let store = caller::store(server, rpc, &request);
    match rpc {
        // The two calls that decide how fast a store is are not boxed. The others are, so that futures stay small.
        Rpc::Put => unary::answer(server, rpc, request, async |m| with_status(store.put(m).await)).await,
        Rpc::Range => range::answer(server, &store, request).await,
        _ => Box::pin(answer_rpc(server, &store, rpc, request)).await,
    }
}

async fn answer_rpc(
    server: &Arc<EtcdServer>,
    store: &Client,
    rpc: Rpc,
    request: Request<RequestBody>,
) -> Response<Body> {
    let world = &server.world;
    match rpc {
        Rpc::Watch => watch::answer(server, store, request).await,
        Rpc::LeaseKeepAlive => lease::keep_alive(server, store, request).await,
        Rpc::RangeStream => range_stream::answer(server, store, request).await,
        Rpc::Snapshot => snapshot::answer(server, store, request).await,
        Rpc::Lock => unary::answer(server, rpc, request, async |m| lock::lock(world, store, m).await).await,
        Rpc::Unlock => unary::answer(server, rpc, request, async |m| lock::unlock(store, m).await).await,
        Rpc::Campaign => unary::answer(server, rpc, request, async |m| election::campaign(world, store, m).await).await,
        Rpc::Proclaim => unary::answer(server, rpc, request, async |m| election::proclaim(store, m).await).await,
        Rpc::Leader => unary::answer(server, rpc, request, async |m| election::leader(store, m).await).await,
        Rpc::Resign => unary::answer(server, rpc, request, async |m| election::resign(store, m).await).await,
        Rpc::Observe => {
            stream::server_stream(server, rpc, request, async |m| Ok(observe::observe(store.clone(), m))).await
        }
        Rpc::HealthCheck => unary::answer(server, rpc, request, async |m| health::check(server, &m)).await,
        Rpc::HealthWatch => health::watch(server, request).await,
        rpc => pass_on(server, store, rpc, request).await,
    }
}

macro_rules! calls {
    (
        given {}
        unary { $($part:ident { $(
            $(#[$doc:meta])*
            $name:ident $path:literal $method:ident($request:ident) -> $response:ident,
            $rule:ident, $retry:ident, $($json:literal)|+;
        )* })* }
        own { $($own:tt)* }
    ) => {
        /// Passes on a call that the store answers with one message.
        async fn pass_on(
            server: &Arc<EtcdServer>,
            store: &Client,
            rpc: Rpc,
            request: Request<RequestBody>,
        ) -> Response<Body> {
            match rpc {
                $($(Rpc::$name => {
                    unary::answer(server, rpc, request, async |m| with_status(store.$method(m).await)).await
                })*)*
                _ => {
                    let (method, service) = (rpc.method(), rpc.service());
                    Status::unimplemented(format!("unknown method {method} for service {service}")).into_http()
                }
            }
        }
    };
}

rpcs!(calls {});

fn with_status<T>(answered: Result<T, Error>) -> Result<T, Status> {
    answered.map_err(|error| status::of(&error))
}
