//! Probes by gRPC's health service, `grpc.health.v1.Health/Check`, in the words of the kubelet.

use std::error::Error as _;
use std::net::IpAddr;

use chorus_proto::health::HealthCheckRequest;
use chorus_proto::health::health_check_response::ServingStatus;
use chorus_proto::health::health_client::HealthClient;
use k8s_openapi::api::core::v1::GRPCAction;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::result::{ProbeResult, USER_AGENT, join};
use crate::world::World;
use crate::world::net::NotConnected;

/// Checks the health of `action`'s service, or of the whole server if it names none.
pub async fn check(world: &World, action: &GRPCAction, address: IpAddr) -> ProbeResult {
    let Ok(port) = u16::try_from(action.port) else { return ProbeResult::Unknown(format!("no port {}", action.port)) };
    let server = join(&address.to_string(), port);
    let endpoint =
        Endpoint::from_shared(format!("http://{server}")).and_then(|endpoint| endpoint.user_agent(USER_AGENT));
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(error) => return ProbeResult::Unknown(error.to_string()),
    };
    let mut client = HealthClient::new(world.net.channel(endpoint));
    let request = HealthCheckRequest { service: action.service.clone().unwrap_or_default() };
    match client.check(request).await {
        Ok(response) => match response.into_inner().status() {
            ServingStatus::Serving => ProbeResult::Success,
            other => ProbeResult::Failure(format!("service unhealthy (responded with {:?})", other.as_str_name())),
        },
        Err(status) => ProbeResult::Failure(failure(&status, &server)),
    }
}

fn failure(status: &Status, server: &str) -> String {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(not_connected) = error.downcast_ref::<NotConnected>() {
            return format!("error: failed to connect service at {server:?}: {not_connected}");
        }
        cause = error.source();
    }
    let said = status.message();
    match status.code() {
        Code::Unimplemented => {
            format!("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {said}")
        }
        code => format!("error: health rpc probe failed: rpc error: code = {code:?} desc = {said}"),
    }
}

#[cfg(test)]
mod tests {
    use chorus_proto::health::HealthCheckResponse;
    use chorus_proto::health::health_server::{Health, HealthServer};
    use tonic::{Request, Response};

    use super::*;
    use crate::world::MemoryDisk;

    /// Serves `web`, not `sick`, and nothing else.
    struct Service;

    type Watch = futures::stream::Empty<Result<HealthCheckResponse, Status>>;

    #[async_trait::async_trait]
    impl Health for Service {
        type WatchStream = Watch;

        async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
            let status = match request.into_inner().service.as_str() {
                "web" => ServingStatus::Serving,
                "sick" => ServingStatus::NotServing,
                _ => return Err(Status::not_found("unknown service")),
            };
            Ok(Response::new(HealthCheckResponse { status: status.into() }))
        }

        async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
            Err(Status::unimplemented("no watches"))
        }
    }

    #[tokio::test]
    async fn the_service_that_is_named_is_asked_for() {
        let world = World { net: crate::world::Network::real(), ..World::simulated(1, MemoryDisk::new()) };
        let listener = world.net.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clock = world.clock.clone();
        let incoming = futures::stream::unfold((listener, clock), |(listener, clock)| async move {
            let (stream, _) = listener.next(&clock).await;
            Some((Ok::<_, std::io::Error>(stream), (listener, clock)))
        });
        let server = tonic::transport::Server::builder().add_service(HealthServer::new(Service));
        let serving = world.spawner.task(server.serve_with_incoming(incoming));
        let ask = |service: &str| {
            let service = Some(service.to_owned()).filter(|service| !service.is_empty());
            let action = GRPCAction { port: address.port().into(), service };
            let world = world.clone();
            async move { check(&world, &action, address.ip()).await }
        };
        assert_eq!(ask("web").await, ProbeResult::Success);
        let sick = "service unhealthy (responded with \"NOT_SERVING\")";
        assert_eq!(ask("sick").await, ProbeResult::Failure(sick.to_owned()));
        let unknown = "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service";
        assert_eq!(ask("").await, ProbeResult::Failure(unknown.to_owned()));
        serving.abort();
        let ProbeResult::Failure(why) = ask("web").await else { panic!("nobody is there") };
        assert!(why.starts_with("error: "), "{why}");
    }
}
