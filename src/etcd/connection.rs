//! What the room knows of one connection: what its listener serves, and who the client is by its certificate.

use std::sync::Arc;

use super::server::EtcdServer;

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    GrpcAndHttp,
    /// gRPC alone, where HTTP has addresses of its own.
    Grpc,
    Http,
    /// Metrics and health only.
    Metrics,
}

impl Serves {
    /// The name that etcd's log lines use.
    pub fn traffic(self) -> &'static str {
        match self {
            Serves::GrpcAndHttp => "grpc+http",
            Serves::Grpc => "grpc",
            Serves::Http => "http",
            Serves::Metrics => "metrics",
        }
    }
}

/// The common name of the certificate that a connection was accepted with: an extension of its requests. Requests that
/// the gateway makes have none.
#[derive(Clone, Debug)]
pub(super) struct CommonName(pub Arc<str>);

/// A connection that was accepted.
pub(super) struct Connection {
    pub server: Arc<EtcdServer>,
    pub serves: Serves,
    /// Over TLS.
    pub secure: bool,
    /// From the certificate that the client had to show.
    pub common_name: Option<CommonName>,
}
