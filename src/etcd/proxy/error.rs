//! Why a proxy does not start.

use std::io;

use crate::store::BadEndpoint;
use crate::world::{net, tls};

/// Why a proxy did not start. Surface it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: String, cause: io::Error },
    #[error(transparent)]
    Address(#[from] net::BadAddress),
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// Members would take every client of the proxy for the user of that name.
    #[error("cert has non empty Common Name ({name}): {path}")]
    CommonName { name: String, path: String },
}
