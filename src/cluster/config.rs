//! A cluster's configuration: which nodes there are, what runs on each, and where they listen.
//!
//! The file is TOML (see `cluster-configs/`). Unknown and missing fields are errors that name file, line and field.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::world::{Disk, tls};

/// Why a configuration cannot be used. Surface it: the user must mend the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the cluster configuration: {0}: name the right file with --config")]
    Read(#[from] std::io::Error),
    #[error("{path}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("{path}: {message}")]
    Invalid { path: PathBuf, message: String },
    /// The user must name a smaller one.
    #[error("--port-offset {offset} is too much: {message}")]
    PortOffset { offset: u16, message: String },
}

/// A whole cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClusterConfig {
    /// The cluster's name: the context in the kubeconfig, the token from which etcd's cluster ID is derived.
    pub name: String,
    /// What is added to every port of the nodes in the file, so that clusters of one configuration run side by side.
    /// The addresses below have it already.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub port_offset: u16,
    #[serde(default)]
    pub timing: Timing,
    #[serde(default)]
    pub kubernetes: Kubernetes,
    /// Client URLs of a store outside this cluster, any etcd v3, for clusters without a `store` node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub store_endpoints: Vec<String>,
    /// For those of them that are `https`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub store_tls: TlsFiles,
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: Tls,
    #[serde(rename = "node")]
    pub nodes: Vec<NodeConfig>,
}

fn is_zero(number: &u16) -> bool {
    *number == 0
}

/// Files for one end of TLS, as PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TlsFiles {
    /// Whose signature the other end's certificate has; the system's authorities otherwise.
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl TlsFiles {
    /// For connections that are made.
    pub fn options(&self) -> tls::Options {
        tls::Options {
            trusted_ca_file: self.ca_file.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
            ..tls::Options::default()
        }
    }

    /// For a port whose clients have to show a certificate of that authority.
    pub fn mutual(&self) -> tls::Options {
        tls::Options { client_cert_auth: true, ..self.options() }
    }
}

/// What is spoken on the store's ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Tls {
    /// Between members: mutual TLS, unless this says otherwise or the cluster was made by a release that spoke plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Security>,
    /// To etcd clients. The default is mutual TLS, and plain text as well on a loopback address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Security>,
}

/// How the two ends of a connection know each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// By TLS, each end with a certificate.
    Mutual,
    /// Not at all.
    Plain,
}

impl Security {
    /// The scheme of such a port's URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            Security::Mutual => "https",
            Security::Plain => "http",
        }
    }
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeConfig {
    pub name: String,
    /// What runs here. The default is everything.
    #[serde(default = "all_roles")]
    pub roles: BTreeSet<Role>,
    /// Where etcd clients connect, `host:port`. Needed by the `store` role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Where other members of the store connect, `host:port`. Needed by the `store` role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Where the Kubernetes API is served, `host:port`. Needed by the `apiserver` role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Where the agent serves container logs, `host:port`. Needed by the `agent` role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<String>,
    /// What the member of the store shows its clients, instead of a certificate of the cluster's own authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_tls: Option<TlsFiles>,
    /// What the member shows other members, both ways, instead of a certificate of the cluster's own authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_tls: Option<TlsFiles>,
}

/// A group of actors that run on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A member of the replicated store, with its etcd frontend.
    Store,
    /// A Kubernetes API frontend.
    Apiserver,
    Scheduler,
    Controllers,
    /// The node agent that runs pods.
    Agent,
}

/// As the file names it.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Store => "store",
            Role::Apiserver => "apiserver",
            Role::Scheduler => "scheduler",
            Role::Controllers => "controllers",
            Role::Agent => "agent",
        })
    }
}

/// Intervals of the store's consensus, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Timing {
    pub heartbeat_ms: u64,
    pub election_ms: u64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { heartbeat_ms: 100, election_ms: 1000 }
    }
}

impl Timing {
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    pub fn election(&self) -> Duration {
        Duration::from_millis(self.election_ms)
    }
}

/// Settings of the control plane. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Kubernetes {
    /// Cluster IPs of services are drawn from here.
    pub service_cidr: String,
    /// How long a node may miss its heartbeats before it counts as unreachable.
    pub node_grace_s: u64,
    /// How long pods stay on a node that is not ready before they are replaced.
    pub eviction_s: u64,
    /// How long after its last sign of life a scheduler or controller that led is still taken for alive.
    pub leader_lease_s: u64,
}

impl Default for Kubernetes {
    fn default() -> Kubernetes {
        Kubernetes { service_cidr: "10.96.0.0/16".to_owned(), node_grace_s: 40, eviction_s: 300, leader_lease_s: 15 }
    }
}

fn all_roles() -> BTreeSet<Role> {
    use Role::*;
    BTreeSet::from([Store, Apiserver, Scheduler, Controllers, Agent])
}

impl NodeConfig {
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    fn listeners(&self) -> [(Role, &'static str, &Option<String>); 4] {
        [
            (Role::Store, "client", &self.client),
            (Role::Store, "peer", &self.peer),
            (Role::Apiserver, "api", &self.api),
            (Role::Agent, "kubelet", &self.kubelet),
        ]
    }

    /// Where the node listens: the field of the configuration, and its address.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let used = self.listeners().into_iter().filter(|(role, ..)| self.has(*role));
        used.filter_map(|(_, field, address)| Some((field, address.as_deref()?)))
    }
}

/// The port of a `host:port`.
pub fn port(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

impl ClusterConfig {
    /// Reads and checks a configuration file.
    pub fn read(disk: &Disk, path: &Path) -> Result<ClusterConfig, ConfigError> {
        let bytes = disk.read(path)?;
        let text = String::from_utf8(bytes).map_err(|_| ConfigError::Parse {
            path: path.to_owned(),
            message: "the file is not UTF-8 text".to_owned(),
        })?;
        ClusterConfig::parse(path, &text)
    }

    /// Parses and checks a configuration; `path` is for error texts.
    pub fn parse(path: &Path, text: &str) -> Result<ClusterConfig, ConfigError> {
        let config: ClusterConfig = toml::from_str(text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let offset = config.port_offset;
        let config = config.check().and_then(|()| config.moved_by(i32::from(offset)));
        config.map_err(|message| ConfigError::Invalid { path: path.to_owned(), message })
    }

    /// The file of this configuration.
    pub fn to_toml(&self) -> String {
        let written = self.moved_by(-i32::from(self.port_offset)).expect("the ports were there before");
        toml::to_string_pretty(&written).expect("a configuration serializes")
    }

    /// The same cluster, with `offset` added to the ports that its file names.
    pub fn with_port_offset(&self, offset: u16) -> Result<ClusterConfig, ConfigError> {
        let moved = self.moved_by(i32::from(offset) - i32::from(self.port_offset));
        let moved = moved.map_err(|message| ConfigError::PortOffset { offset, message })?;
        Ok(ClusterConfig { port_offset: offset, ..moved })
    }

    /// The same with every port moved.
    fn moved_by(&self, ports: i32) -> Result<ClusterConfig, String> {
        let mut config = self.clone();
        for node in &mut config.nodes {
            for address in [&mut node.client, &mut node.peer, &mut node.api, &mut node.kubelet].into_iter().flatten() {
                let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
                let moved = i32::from(port.parse::<u16>().unwrap_or_default()) + ports;
                if !(1..=i32::from(u16::MAX)).contains(&moved) {
                    return Err(format!("node {:?}: there is no port {moved} for {address}", node.name));
                }
                *address = format!("{host}:{moved}");
            }
        }
        Ok(config)
    }

    /// The configuration that `chorus up` uses when none is named: three equal nodes on this machine.
    pub fn three_local_nodes() -> ClusterConfig {
        ClusterConfig::parse(
            Path::new("cluster-configs/three-node.toml"),
            include_str!("../../cluster-configs/three-node.toml"),
        )
        .expect("the configuration in the repository is valid")
    }

    pub fn node(&self, name: &str) -> Option<&NodeConfig> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The names of all nodes, for error texts.
    pub fn names(&self) -> String {
        self.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The nodes with `role`, in the order of the file.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &NodeConfig> {
        self.nodes.iter().filter(move |node| node.has(role))
    }

    /// What clients speak to a member: plain text where that is spoken, if only among other things.
    pub fn client_security(&self, node: &NodeConfig) -> Security {
        let local = node.client.as_deref().is_some_and(is_loopback);
        self.tls.client.unwrap_or(if local { Security::Plain } else { Security::Mutual })
    }

    /// The URL at which the clients of a member reach it.
    pub fn client_url(&self, node: &NodeConfig) -> Option<String> {
        Some(format!("{}://{}", self.client_security(node).scheme(), node.client.as_ref()?))
    }

    /// Where frontends reach the store: over TLS, unless the configuration says otherwise.
    pub fn store_urls(&self) -> Vec<String> {
        let scheme = self.tls.client.unwrap_or(Security::Mutual).scheme();
        let members = self.with_role(Role::Store).filter_map(|node| node.client.as_ref());
        self.store_endpoints.iter().cloned().chain(members.map(|client| format!("{scheme}://{client}"))).collect()
    }

    fn check(&self) -> Result<(), String> {
        if self.nodes.is_empty() {
            return Err("the cluster has no [[node]]".to_owned());
        }
        if self.timing.election_ms < 5 * self.timing.heartbeat_ms || self.timing.heartbeat_ms == 0 {
            return Err(format!(
                "timing.election-ms ({}) must be at least five times timing.heartbeat-ms ({}), which must not be 0",
                self.timing.election_ms, self.timing.heartbeat_ms
            ));
        }
        let mut names = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for node in &self.nodes {
            if !names.insert(&node.name) {
                return Err(format!("two nodes are called {:?}", node.name));
            }
            check_name(&node.name)?;
            for (role, field, address) in node.listeners() {
                match address {
                    None if node.has(role) => {
                        return Err(format!("node {:?} has the role {role} but no `{field}` address", node.name));
                    }
                    Some(address) => {
                        check_address(address).map_err(|why| format!("node {:?}: {field}: {why}", node.name))?;
                        if !addresses.insert(address) {
                            return Err(format!("node {:?}: {field}: {address} is used twice", node.name));
                        }
                    }
                    None => {}
                }
            }
        }
        for node in &self.nodes {
            for (field, files) in [("client-tls", &node.client_tls), ("peer-tls", &node.peer_tls)] {
                let whole =
                    |files: &TlsFiles| files.cert_file.is_some() && files.key_file.is_some() && files.ca_file.is_some();
                if files.as_ref().is_some_and(|files| !whole(files)) {
                    return Err(format!("node {:?}: {field} needs ca-file, cert-file and key-file", node.name));
                }
            }
        }
        let has = |role| self.with_role(role).next().is_some();
        if !has(Role::Store) && self.store_endpoints.is_empty() {
            return Err("no node has the role store, and store-endpoints names no other store".to_owned());
        }
        for role in [Role::Scheduler, Role::Controllers, Role::Agent] {
            if has(role) && !has(Role::Apiserver) {
                return Err(format!("the role {role} needs a node with the role apiserver"));
            }
        }
        Ok(())
    }
}

/// Node names become Kubernetes object names and directories.
fn check_name(name: &str) -> Result<(), String> {
    let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if name.len() <= 63 && name.chars().all(label) && edge(name.chars().next()) && edge(name.chars().last()) {
        return Ok(());
    }
    Err(format!("node name {name:?} must be lower-case letters, digits and '-', as in a DNS label"))
}

fn check_address(address: &str) -> Result<(), String> {
    match address.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(port))) if !host.is_empty() && port != 0 => Ok(()),
        _ => Err(format!("{address:?} is not host:port")),
    }
}

/// Only this machine reaches such an address.
pub fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: [&str; 4] = [
        include_str!("../../cluster-configs/one-node.toml"),
        include_str!("../../cluster-configs/three-node.toml"),
        include_str!("../../cluster-configs/five-node.toml"),
        include_str!("../../cluster-configs/frontends.toml"),
    ];

    fn error_of(text: &str) -> String {
        ClusterConfig::parse(Path::new("c.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn every_shipped_configuration_is_valid() {
        for text in SHIPPED {
            ClusterConfig::parse(Path::new("shipped.toml"), text).unwrap();
        }
    }

    #[test]
    fn ports_move_and_stay_moved() {
        let config = ClusterConfig::three_local_nodes();
        let moved = config.with_port_offset(100).unwrap();
        assert_eq!(
            moved.nodes[1].addresses().map(|(_, a)| port(a).unwrap()).collect::<Vec<_>>(),
            [22479, 22480, 16543, 11350]
        );
        let read = ClusterConfig::parse(Path::new("c.toml"), &moved.to_toml()).unwrap();
        assert_eq!(read, moved);
        assert_eq!(read.with_port_offset(0).unwrap(), config);
        let error = config.with_port_offset(40_000).unwrap_err().to_string();
        assert!(error.starts_with("--port-offset 40000 is too much: node \"n3\": there is no port 72379"), "{error}");
    }

    #[test]
    fn shipped_ports_are_given_to_nobody_else() {
        let kernels_own = 32768..=60999;
        for config in SHIPPED.map(|text| ClusterConfig::parse(Path::new("shipped.toml"), text).unwrap()) {
            for (_, address) in config.nodes.iter().flat_map(NodeConfig::addresses) {
                assert!(!kernels_own.contains(&port(address).unwrap()), "{address}");
            }
        }
    }

    #[test]
    fn plain_text_is_spoken_on_loopback_or_where_the_configuration_says_so() {
        let config = |tls: &str, host: &str| {
            let text = format!(
                "name = \"a\"\n{tls}[[node]]\nname = \"n1\"\nroles = [\"store\"]\nclient = \"{host}:1\"\npeer = \"{host}:2\""
            );
            ClusterConfig::parse(Path::new("c.toml"), &text).unwrap()
        };
        let (plain, mutual) = ("[tls]\nclient = \"plain\"\n", "[tls]\nclient = \"mutual\"\n");
        for (tls, host, clients, frontends) in [
            ("", "127.0.0.1", "http", "https"),
            ("", "localhost", "http", "https"),
            ("", "192.0.2.1", "https", "https"),
            (plain, "192.0.2.1", "http", "http"),
            (mutual, "127.0.0.1", "https", "https"),
        ] {
            let config = config(tls, host);
            assert_eq!(config.client_url(&config.nodes[0]), Some(format!("{clients}://{host}:1")), "{tls}{host}");
            assert_eq!(config.store_urls(), [format!("{frontends}://{host}:1")], "{tls}{host}");
        }
    }

    #[test]
    fn errors_name_the_file_and_the_field() {
        let node = "name = \"a\"\n[[node]]\nname = \"n1\"\n";
        for (text, expected) in [
            ("name = 3", "c.toml"),
            ("name = \"a\"\nnode = []", "no [[node]]"),
            ("name = \"a\"\ncolour = 1\n", "colour"),
            (node, "the role store but no `client` address"),
            (&format!("{node}client = \"nonsense\""), "\"nonsense\" is not host:port"),
            ("name = \"a\"\n[tls]\npeer = \"none\"\n", "none"),
            (
                &format!("{node}client = \"h:1\"\npeer = \"h:2\"\napi = \"h:3\"\nkubelet = \"h:4\"\npeer-tls = {{}}"),
                "peer-tls needs ca-file, cert-file and key-file",
            ),
            ("name = \"a\"\n[[node]]\nname = \"N 1\"\nroles = []", "DNS label"),
        ] {
            let error = error_of(text);
            assert!(error.contains(expected) && error.starts_with("c.toml"), "{error}");
        }
    }
}
