//! The configuration of a frontend.

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

use crate::world::tls;

/// The configuration of a frontend. Its debug form leaves secrets out.
#[derive(Clone)]
pub struct Config {
    /// `host:port`; without one the frontend serves in-process components only.
    pub listen: Option<String>,
    /// Without it the listener speaks plain HTTP, and its users are anonymous or have a token.
    pub tls: Option<Tls>,
    /// The address for the endpoints of the `kubernetes` Service. Without one, that Service has no endpoint for this
    /// frontend.
    pub advertise: Option<(IpAddr, u16)>,
    /// Signs and verifies service-account tokens: an EC P-256 private key, PKCS#8 PEM. The same on every frontend.
    pub token_key_pem: String,
    /// The public half, PEM.
    pub token_public_pem: String,
    /// `iss` of service-account tokens, and their default audience.
    pub token_issuer: String,
    /// Where cluster IPs come from, IPv4 `address/bits`. The same on every frontend.
    pub service_cidr: String,
    pub node_ports: Range<u16>,
    /// How long pods stay on a node that is not ready or unreachable, unless they have their own tolerations.
    pub toleration_seconds: u64,
    /// The frontend's client certificate for agents, from which it reads logs, and the authority of their
    /// certificates. Without it, the frontend speaks plain HTTP to agents.
    pub agent_tls: Option<tls::Options>,
}

/// The certificate of a frontend, and the authority whose client certificates it accepts.
#[derive(Clone)]
pub struct Tls {
    pub certificate_pem: String,
    pub key_pem: String,
    pub client_ca_pem: String,
}

impl Config {
    /// The defaults of a cluster: `https://kubernetes.default.svc`, 10.96.0.0/16, node ports 30000 to 32767.
    pub fn new(token_key_pem: String, token_public_pem: String) -> Config {
        Config {
            listen: None,
            tls: None,
            advertise: None,
            token_key_pem,
            token_public_pem,
            token_issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            service_cidr: "10.96.0.0/16".to_owned(),
            node_ports: 30000..32768,
            toleration_seconds: 300,
            agent_tls: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("tls", &self.tls.is_some())
            .field("advertise", &self.advertise)
            .field("token_issuer", &self.token_issuer)
            .field("service_cidr", &self.service_cidr)
            .field("node_ports", &self.node_ports)
            .finish_non_exhaustive()
    }
}
