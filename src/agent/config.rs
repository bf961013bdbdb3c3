//! The configuration of an agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::world::tls;

/// Which engine runs the containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// Docker if an engine answers; otherwise hollow, with a warning in the log.
    #[default]
    Auto,
    /// Docker, or refuse to start.
    Docker,
    /// No containers: every pod appears to run.
    Hollow,
}

/// What a machine, or an agent's share of one, can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub storage_bytes: u64,
    pub pods: u32,
}

/// Where an agent's capacity comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapacitySource {
    /// This machine, shared by so many agents (at least one).
    Machine { agents: u32 },
    /// Exactly this much: for simulations, and for nodes that stand for bigger ones.
    Fixed(Capacity),
}

/// An agent's configuration.
#[derive(Clone)]
pub struct Config {
    /// The name of the Node object; a DNS name.
    pub node_name: String,
    /// Tells this cluster's containers from another cluster's on the same engine. It must stay the same when the
    /// agent starts again, or containers of the former run are never cleaned away.
    pub cluster: String,
    pub runtime: RuntimeChoice,
    pub capacity: CapacitySource,
    /// Volumes, termination messages and the notebook live below it. Absolute: the engine mounts from it.
    pub data_dir: PathBuf,
    /// The node's InternalIP, and its pods' hostIP.
    pub address: IpAddr,
    /// Where container logs are served, `host:port`; port 0 takes a free one. The Node object names it.
    pub listen: String,
    /// The agent's certificate at its port, and the authorities it trusts. Without TLS clients need a token.
    pub tls: Option<tls::Options>,
    /// Added to the Node's own labels (hostname, os, arch).
    pub labels: BTreeMap<String, String>,
    /// How long a renewal of the node's Lease holds: the node controller's grace period. It is renewed four times as
    /// often.
    pub node_lease_duration: Duration,
    /// Whether pods are written down on disk, for a start while no frontend answers.
    pub notebook: bool,
}
