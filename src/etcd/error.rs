//! Why a frontend does not start.

use std::io;

use crate::world::net::BadAddress;
use crate::world::tls;

/// Why a frontend did not start. Surface it: the operator has to change something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process listens there: choose another address or stop the other process.
    #[error("{address} is in use: {cause}")]
    InUse { address: String, cause: io::Error },
    /// The address is not one of this machine, is malformed, or may not be used by this user.
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: String, cause: io::Error },
    #[error("no address to listen on is given")]
    NoAddress,
    /// The text is no address.
    #[error("cannot listen on {0}")]
    Address(#[from] BadAddress),
    #[error("TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme")]
    NoCertificate { url: String },
    #[error("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url")]
    NoMetricsCertificate,
    #[error("cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}")]
    BothOnOne { url: String },
    #[error(transparent)]
    Tls(#[from] tls::Error),
}
