//! What a proxy is configured with.

use std::time::Duration;

use crate::world::tls;

/// The configuration of a proxy.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` to listen on for clients.
    pub listen: String,
    /// URL to listen on for monitors.
    pub listen_metrics: Option<String>,
    /// For clients; without it they are served in plain text.
    pub tls: Option<tls::Options>,
    /// The members, as URLs or as `host:port`.
    pub endpoints: Vec<String>,
    /// For members; without it they are called in plain text.
    pub upstream_tls: Option<tls::Options>,
    /// How often the proxy asks the members for the list of members.
    pub sync_interval: Option<Duration>,
    /// The prefix of every key.
    pub namespace: Vec<u8>,
    /// The address of this proxy that `MemberList` shows to clients.
    pub advertise: String,
    /// How proxies that run beside each other find each other.
    pub resolver: Option<Resolver>,
    pub concurrent_streams_max: u32,
    /// Bytes of one request.
    pub request_bytes_max: usize,
}

/// The keys under which proxies register, so that clients of one learn of all.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// The prefix of the keys.
    pub prefix: String,
    /// Seconds after which a proxy that has gone is forgotten.
    pub ttl: i64,
}
