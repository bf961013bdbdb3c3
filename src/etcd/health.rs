//! The standard gRPC health service. A member that answers at all is serving; whether its cluster is healthy is what
//! `/health` and `/readyz` say.

use std::sync::Arc;

use chorus_proto::health as pb;
use chorus_proto::health::health_check_response::ServingStatus;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{Request, Response};
use tonic::{Code, Status};

use super::body::{Body, RequestBody};
use super::rpc::Rpc;
use super::server::EtcdServer;
use super::{status, stream as streams};
use crate::store::error::Error;

pub(super) fn check(server: &EtcdServer, request: &pb::HealthCheckRequest) -> Result<pb::HealthCheckResponse, Status> {
    if server.store.is_learner() {
        return Err(status::of(&Error::NotSupportedForLearner));
    }
    status_of(request)
}

fn status_of(request: &pb::HealthCheckRequest) -> Result<pb::HealthCheckResponse, Status> {
    if request.service.is_empty() {
        Ok(serving(ServingStatus::Serving))
    } else {
        Err(Status::new(Code::NotFound, "unknown service"))
    }
}

/// The status now, and then silence: it does not change while the frontend lives.
pub(super) async fn watch(server: &Arc<EtcdServer>, request: Request<RequestBody>) -> Response<Body> {
    streams::server_stream(server, Rpc::HealthWatch, request, async |asked: pb::HealthCheckRequest| {
        let now = status_of(&asked).unwrap_or_else(|_| serving(ServingStatus::ServiceUnknown));
        let answers: BoxStream<'static, _> = stream::iter([Ok(now)]).chain(stream::pending()).boxed();
        Ok(answers)
    })
    .await
}

fn serving(status: ServingStatus) -> pb::HealthCheckResponse {
    pb::HealthCheckResponse { status: status as i32 }
}
