//! Container runtimes: how pods become processes.
//!
//! A runtime keeps its containers by itself, so an agent that starts again finds its pods there: labels name the node,
//! pod and container, and the restart count. Nothing here decides; the pod actor does.
//!
//! - [`docker`]: containers of a Docker engine, a pause container a pod
//! - [`hollow`]: no containers, plausible answers

pub mod docker;
pub mod hollow;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

use super::error::Error;

/// The pod that a container belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodId {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    pub container_port: u16,
    pub host_port: u16,
    pub host_ip: Option<String>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// The sandbox of a pod, which holds the namespaces of its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Counts the sandboxes of one pod, from 0.
    pub attempt: u32,
    pub hostname: String,
    /// Follows the host name in the fully qualified one; may be empty.
    pub domain: String,
    pub host_network: bool,
    pub host_ipc: bool,
    pub host_pid: bool,
    pub ports: Vec<PortMapping>,
    /// `/etc/hosts` lines, `name:address`.
    pub extra_hosts: Vec<String>,
    pub dns_servers: Vec<String>,
    pub dns_searches: Vec<String>,
    pub dns_options: Vec<String>,
    pub sysctls: Vec<(String, String)>,
}

/// A directory or file of the node inside a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub host_path: PathBuf,
    pub container_path: String,
    pub read_only: bool,
    pub propagation: Propagation,
}

/// Who sees mounts that are made later below this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    None,
    HostToContainer,
    Bidirectional,
}

/// A seccomp or AppArmor profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// The engine's own.
    #[default]
    Default,
    Unconfined,
    /// A profile that is loaded on the node.
    Named(String),
}

/// The SELinux labels of a container's processes; the engine chooses those that are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelinuxOptions {
    pub user: String,
    pub role: String,
    pub kind: String,
    pub level: String,
}

/// Limits, as the kernel takes them. Zero means none, except for `cpu_shares`, which is a weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub cpu_shares: i64,
    pub cpu_quota_us: i64,
    pub cpu_period_us: i64,
    pub memory_bytes_max: i64,
    pub oom_score_adj: i64,
}

/// The user of a container's processes, and what they may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// `uid` or `uid:gid`; `None` leaves it to the image.
    pub user: Option<String>,
    pub extra_groups: Vec<String>,
    pub privileged: bool,
    pub no_new_privileges: bool,
    pub read_only_root: bool,
    pub capabilities_added: Vec<String>,
    pub capabilities_dropped: Vec<String>,
    pub seccomp: Profile,
    pub apparmor: Profile,
    pub selinux: SelinuxOptions,
    /// Nothing of /proc is hidden or made read-only.
    pub unmasked_proc: bool,
}

/// Whose processes a container sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PidNamespace {
    /// Its own alone.
    #[default]
    Container,
    /// Its pod's.
    Pod,
    /// The node's.
    Node,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    pub name: String,
    /// How many times it was started before: the restart count.
    pub attempt: u32,
    pub sandbox: String,
    pub pid_namespace: PidNamespace,
    pub host_ipc: bool,
    /// The image as the pod names it.
    pub image: String,
    /// The ID of the image that was found; if empty, the image that has the name now.
    pub image_id: String,
    /// Replaces the image's entry point unless empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments unless empty.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    /// The stop signal; `None` leaves it to the image.
    pub stop_signal: Option<String>,
    pub mounts: Vec<Mount>,
    pub limits: Limits,
    pub privileges: Privileges,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    /// A digest of the container's specification: a container with another one is out of date.
    pub hash: String,
    /// The node's file that the container sees as its termination message.
    pub termination_message: Option<PathBuf>,
}

/// A sandbox as the engine shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub running: bool,
    /// `None` while not running, and on the host's network.
    pub ip: Option<IpAddr>,
    pub created: Timestamp,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: i32,
    pub out_of_memory: bool,
    /// The engine's own error, where the process could not even start.
    pub error: String,
    pub started: Option<Timestamp>,
    pub finished: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Its process was never started.
    Created,
    Running {
        started: Timestamp,
    },
    Exited(Exit),
}

/// A container as the engine shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Without a scheme.
    pub id: String,
    pub name: String,
    pub attempt: u32,
    pub sandbox: String,
    pub image: String,
    pub image_id: String,
    pub hash: String,
    pub created: Timestamp,
    pub state: ContainerState,
    pub termination_message: Option<PathBuf>,
}

impl Container {
    pub fn is_running(&self) -> bool {
        matches!(self.state, ContainerState::Running { .. })
    }
}

/// All that the engine holds of one pod. Sandboxes and containers are in the order of their attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodView {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<Container>,
}

impl PodView {
    /// The sandbox that holds the pod's namespaces now.
    pub fn active_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.iter().rev().find(|sandbox| sandbox.running)
    }

    /// The latest container of that name.
    pub fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().rev().find(|container| container.name == name)
    }

    /// The container of that name before the latest.
    pub fn previous(&self, name: &str) -> Option<&Container> {
        self.containers.iter().rev().filter(|container| container.name == name).nth(1)
    }

    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }
}

/// An image that the engine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    /// The user of its processes: `uid`, `name`, either with `:group`, or nothing for root.
    pub user: String,
}

/// What came of creating and starting a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedContainer {
    pub id: String,
    /// Why its process did not start, if it did not. The container stays, with this in its [`Exit`].
    pub failure: Option<String>,
}

/// A signal that ends a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The image's stop signal, SIGTERM unless it names another.
    Stop,
    /// SIGKILL.
    Kill,
}

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub registry: String,
    pub username: String,
    pub password: String,
}

/// Which part of a log to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub follow: bool,
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    /// Seconds since the Unix epoch.
    pub since: Option<i64>,
}

/// The result of a command inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutcome {
    pub exit_code: i64,
    /// Both streams, cut at a few kilobytes.
    pub output: String,
}

/// Something happened to a pod's containers: sync it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLifecycleEvent {
    pub uid: String,
}

/// An engine's name and version, for the Node object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineVersion {
    /// `docker://20.10.24`.
    pub runtime: String,
    pub kernel: String,
    pub os_image: String,
}

/// What the pod actor needs from an engine. Each call has its own deadline inside; [`Error`] tells whether a failed one
/// may have taken effect.
#[async_trait]
pub trait ContainerRuntime: Send + Sync + 'static {
    /// `docker` or `hollow`; also the scheme of container IDs.
    fn name(&self) -> &'static str;

    /// Whether there are processes behind the containers. Where not, probes and hooks count as successful.
    fn has_processes(&self) -> bool;

    async fn version(&self) -> Result<EngineVersion, Error>;

    /// The pods of this node that the engine holds anything of.
    async fn pods(&self) -> Result<Vec<PodId>, Error>;

    /// All that the engine holds of one pod.
    async fn view(&self, uid: &str) -> Result<PodView, Error>;

    /// Creates and starts a sandbox; returns its ID.
    async fn start_sandbox(&self, pod: &PodId, spec: &SandboxSpec) -> Result<String, Error>;

    /// The image of this name or ID, where the engine has it.
    async fn find_image(&self, image: &str) -> Result<Option<Image>, Error>;

    /// Pulls an image; returns its ID.
    async fn pull_image(&self, image: &str, credentials: Option<&Credentials>) -> Result<String, Error>;

    /// Creates and starts a container.
    async fn start_container(&self, pod: &PodId, spec: &ContainerSpec) -> Result<CreatedContainer, Error>;

    /// Signals a container or a sandbox. One that does not run is left alone.
    async fn signal(&self, id: &str, signal: Signal) -> Result<(), Error>;

    /// Removes a container or a sandbox, running or not. One that is gone already is a success.
    async fn remove(&self, id: &str) -> Result<(), Error>;

    /// Runs a command in a container, for at most `limit`: [`Error::TimedOut`] after that.
    async fn exec(&self, id: &str, command: &[String], limit: Duration) -> Result<ExecOutcome, Error>;

    /// A container's log, both streams in the order they were written.
    async fn logs(&self, id: &str, options: LogOptions) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error>;

    /// Events as they happen. The stream ends with its connection: open it again, then sync every pod.
    async fn events(&self) -> Result<BoxStream<'static, Result<PodLifecycleEvent, Error>>, Error>;
}
