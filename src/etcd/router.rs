//! Which code answers a request: gRPC by path when the content type says so, else plain HTTP.

use std::sync::Arc;

use chorus_proto::etcdserverpb as pb;
use http::{Request, Response, header};
use hyper::body::Incoming;
use tonic::Status;

use super::body::Body;
use super::frontend::Shared;
use super::rpc::Rpc;
use super::{alarm, health, http as plain, lease, range_stream, status, unary, watch};
use crate::store::client::Client;
use crate::store::error::Error;

pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::convert::Infallible> {
    if !is_grpc(&request) {
        return Ok(Box::pin(plain::answer(&shared, request)).await);
    }
    Ok(match Rpc::find(request.uri().path()) {
        // The two that decide how fast a store is are not boxed.
        Some(Rpc::Put) => call(&shared, Rpc::Put, request, async |store, put| store.put(put).await).await,
        Some(Rpc::Range) => call(&shared, Rpc::Range, request, async |store, range| store.range(range).await).await,
        Some(rpc) => Box::pin(answer_rpc(shared, rpc, request)).await,
        None => unknown(request.uri().path()).into_http(),
    })
}
