//! The configuration of a frontend. The defaults are etcd's.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::actor::metrics::Sources;
use crate::store::version;
use crate::world::tls;

/// The configuration of one member's frontend.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen for clients, as URLs: `http`, `https`, `unix` or `unixs`. A bare `host:port` is one of `http`;
    /// port 0 takes a free one; several may name one address.
    pub listen: Vec<String>,
    /// Where to listen for HTTP only. If there are any, `listen` serves gRPC only.
    pub listen_http: Vec<String>,
    /// Where to listen for monitors: metrics and health only.
    pub listen_metrics: Vec<String>,
    /// For the URLs with TLS.
    pub tls: tls::Options,
    /// The member's name, for logs.
    pub name: String,
    pub versions: Versions,
    pub limits: Limits,
    pub http: Http,
    /// The metrics that `/metrics` shows beside those of the frontend.
    pub metrics: Sources,
    /// A call that takes longer is logged; etcd's `--warning-unary-request-duration`.
    pub slow_call: Duration,
    /// The features that can be turned on and off, for metrics.
    pub features: Vec<Feature>,
    /// Raft's election timeout: a stream that requires a leader is cut after three of them without one, and
    /// `/health` waits for its read as long as any request waits.
    pub election_timeout: Duration,
}

/// Something that can be turned on and off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// Its maturity, as metrics name it: `ALPHA`, `BETA` or `DEPRECATED`.
    pub stage: &'static str,
    pub enabled: bool,
}

/// The version a frontend claims, as `/version` and the metrics show it. The version of the cluster is in the store.
#[derive(Clone, Debug)]
pub struct Versions {
    /// The etcd version whose interface this is.
    pub server: String,
}

/// The plain HTTP endpoints.
#[derive(Clone, Debug)]
pub struct Http {
    /// Whether RPCs are served as JSON under `/v3/`.
    pub gateway: bool,
    /// The origins whose scripts may read answers; `*` or none means all.
    pub cors: BTreeSet<String>,
    /// The names of this server that requests without TLS may use; `*` or none means all.
    pub host_whitelist: BTreeSet<String>,
    /// Whether `/debug/pprof/` is answered.
    pub profiling: bool,
    /// Whether `/metrics` also shows how long calls take.
    pub extensive_metrics: bool,
}

impl Default for Http {
    fn default() -> Http {
        Http {
            gateway: true,
            cors: BTreeSet::new(),
            host_whitelist: BTreeSet::new(),
            profiling: false,
            extensive_metrics: false,
        }
    }
}

/// Bounds on what clients may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A larger write is refused by the store; watch responses are cut into fragments of about this size.
    pub request_bytes_max: usize,
    /// A larger gRPC message is refused before it is decoded.
    pub receive_bytes_max: usize,
    /// Bytes of the bodies of all requests that are being read or answered.
    pub body_bytes_max: u64,
    /// Bytes that the gateway's large answers take until they are sent; one that needs more than all has them alone.
    pub answer_bytes_max: u64,
    /// Streams a client may have open on one connection.
    pub concurrent_streams_max: u32,
    /// How often a client may ping while calls are under way; the connection of one that does so more often is closed.
    /// Zero is no limit.
    pub ping_interval_min: Duration,
    /// How long a connection may be silent before it is probed.
    pub keep_alive_interval: Duration,
    /// How long a probe may stay unanswered before the connection is closed.
    pub keep_alive_timeout: Duration,
    /// How long calls under way may take once the node ends.
    pub drain: Duration,
}

/// What etcd adds to `max-request-bytes` for the rest of a gRPC message.
const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: vec!["127.0.0.1:2379".into()],
            listen_http: Vec::new(),
            listen_metrics: Vec::new(),
            tls: tls::Options::default(),
            name: "default".into(),
            versions: Versions::default(),
            limits: Limits::default(),
            http: Http::default(),
            metrics: Sources::default(),
            slow_call: Duration::from_millis(300),
            features: Vec::new(),
            election_timeout: Duration::from_secs(1),
        }
    }
}

impl Default for Versions {
    fn default() -> Versions {
        Versions::of(version::ETCD_VERSION)
    }
}

impl Versions {
    /// The versions that a server of this release claims.
    pub fn of(server: &str) -> Versions {
        Versions { server: server.to_owned() }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::for_requests_of(1536 * 1024)
    }
}

impl Limits {
    /// The default limits around writes of at most `request_bytes_max`.
    pub fn for_requests_of(request_bytes_max: usize) -> Limits {
        Limits {
            request_bytes_max,
            receive_bytes_max: request_bytes_max + GRPC_OVERHEAD_BYTES,
            body_bytes_max: 256 << 20,
            answer_bytes_max: 512 << 20,
            concurrent_streams_max: u32::MAX,
            ping_interval_min: Duration::from_secs(5),
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(20),
            drain: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// How long etcd lets any request take: five seconds and two elections.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + self.election_timeout * 2
    }
}
