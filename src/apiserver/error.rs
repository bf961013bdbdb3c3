//! Why a frontend could not be started.

use std::io;

/// Why a frontend could not be started. All of them need the operator: surface and stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: io::Error },
    #[error("TLS material: {0}")]
    Tls(String),
    #[error("service-account key: {0}")]
    TokenKey(String),
    #[error("service CIDR {0:?} is not an IPv4 network with at least four addresses")]
    ServiceCidr(String),
}
