//! TLS as etcd has it: certificates in files that are read again at every handshake, client certificates that may be
//! required, narrowed to names and checked against a revocation list.
//!
//! ```text
//!   Options (paths and rules) ──▶ Server ── handshake ──▶ Stream + Certificate, or Rejected with etcd's words
//!                             └─▶ Client ── handshake ──▶ Stream
//!        files ──material──▶ rustls configs, kept until a file's content changes
//! ```
//!
//! - [`Options`]: what an operator says; [`Error`]: what is wrong with it
//! - [`server`], [`client`]: the two ends of a handshake
//! - `material`: the files; `cipher`: suites and versions; `verify`: whom to believe
//! - `certificate`: what is read out of the other end's certificate
//! - `clock`: the time by which certificates are valid
//! - `words`: failures in the words of etcd's TLS library, which operators and tests look for
//! - [`self_signed`]: certificates made here, for those who want TLS without an authority

mod certificate;
mod cipher;
pub mod client;
mod clock;
mod material;
pub mod self_signed;
pub mod server;
#[cfg(test)]
mod tests;
mod verify;
mod words;

use std::path::PathBuf;

pub use certificate::Certificate;
pub use cipher::{Version, check_suites};
pub use client::Client;
pub use server::{Accepted, Rejected, Server};

/// Files and rules of one side, for the connections it accepts and for those it makes, as etcd's flags name them.
/// `None` and empty lists are "not given".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Shown to clients; to servers as well, unless `client_cert_file` is given.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Shown to servers in place of `cert_file`.
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    /// Whose signatures are believed. A server that has it wants to see a certificate from every client. Without it
    /// the authorities of the system are believed.
    pub trusted_ca_file: Option<PathBuf>,
    /// Every client must show a certificate.
    pub client_cert_auth: bool,
    /// Clients without a certificate are let in, although there is an authority that would have signed one: they tell
    /// by other means who they are.
    pub client_cert_optional: bool,
    /// A revocation list in DER. Connections of those on it are refused.
    pub crl_file: Option<PathBuf>,
    /// The other end's certificate must have one of these common names.
    pub allowed_common_names: Vec<String>,
    /// The other end's certificate must be valid for one of these names or addresses.
    pub allowed_hostnames: Vec<String>,
    /// A server asks whether a client's certificate is valid for the address that the client connects from.
    pub verify_client_address: bool,
    /// By their Go names; empty means all. They say nothing of TLS 1.3, whose suites are fixed.
    pub cipher_suites: Vec<String>,
    pub min_version: Option<Version>,
    pub max_version: Option<Version>,
    /// A client believes any server.
    pub insecure_skip_verify: bool,
    /// The name that a server's certificate must have, in place of the name that was dialled.
    pub server_name: Option<String>,
    /// HTTP/2 is not offered.
    pub http1_only: bool,
}

impl Options {
    /// No certificate is given: there can be no TLS listener.
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_none() && self.key_file.is_none()
    }

    /// The protocols to agree on, the better one first.
    fn protocols(&self) -> Vec<Vec<u8>> {
        let all: &[&[u8]] = if self.http1_only { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
        all.iter().map(|name| name.to_vec()).collect()
    }
}

/// TLS cannot be set up as asked. Surface it: the operator has to change a file or a flag.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    HalfAPair { key: String, cert: String },
    #[error("ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: {cert}]")]
    HalfAClientPair { key: String, cert: String },
    #[error("AllowedCNs and AllowedHostnames are mutually exclusive (cns={names:?}, hostnames={hostnames:?})")]
    BothAllowed { names: Vec<String>, hostnames: Vec<String> },
    #[error("open {path}: {reason}")]
    Unreadable { path: String, reason: String, missing: bool },
    /// The file is there, but is not what it is named for.
    #[error("{path}: {reason}")]
    Malformed { path: String, reason: String },
    #[error("{key} does not belong to {cert}: tls: private key does not match public key")]
    NotAPair { key: String, cert: String },
    #[error("unexpected TLS cipher suite {0:?}")]
    UnknownSuite(String),
    #[error("none of the TLS cipher suites {0:?} is offered by this server")]
    NoSuite(Vec<String>),
    #[error("unexpected TLS version {0:?} (must be one of: TLS1.2, TLS1.3)")]
    UnknownVersion(String),
    #[error("the TLS versions do not fit together: no version from {min} to {max}")]
    NoVersion { min: Version, max: Version },
    #[error("selfSignedCertValidity is invalid,it should be greater than 0")]
    NoValidity,
    #[error("cannot make a certificate in {directory}: {reason}")]
    NotMade { directory: String, reason: String },
}
