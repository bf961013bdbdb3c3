//! A local cluster's directory: its configuration, its certificates, and which process is which node.
//!
//! ```text
//!   DIR/cluster.toml    the configuration it was started with
//!   DIR/kubeconfig      for kubectl
//!   DIR/pki/            certificates and keys
//!   DIR/NODE/           the node's data
//!   DIR/NODE/node.log   what its process printed
//!   DIR/NODE/process    which process it is, and whether it is meant to run
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::config::{ClusterConfig, ConfigError, NodeConfig};
use super::kubeconfig;
use super::pki::{Pki, PkiError};
use crate::world::disk::Access;
use crate::world::process::{Process, ProcessState};
use crate::world::{Disk, World};

/// What went wrong with a local cluster. Surface it.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Store(#[from] crate::store::BadEndpoint),
    #[error(transparent)]
    Api(#[from] super::remote::ClientError),
    #[error(
        "there is no cluster in {0}: start one with `chorus up --data-dir {0}`, or name its directory with --data-dir"
    )]
    NoCluster(PathBuf),
    #[error(
        "{dir} holds a cluster with another configuration ({dir}/cluster.toml): name another --data-dir, or remove this one"
    )]
    OtherConfiguration { dir: PathBuf },
    #[error(
        "the cluster in {dir} has the port offset {offset} and keeps it: name another --data-dir for another cluster"
    )]
    OtherPorts { dir: PathBuf, offset: u16 },
    #[error("there is no node {name:?}; the cluster has {known}")]
    NoNode { name: String, known: String },
    #[error("node {name} is not running: start it with `chorus start {name}`")]
    NotRunning { name: String },
    #[error("node {name} is paused: `chorus resume {name}` lets it go on")]
    Paused { name: String },
    #[error("cannot make the cluster's directory: {0}; name another one with --data-dir")]
    NotMade(#[source] std::io::Error),
    #[error("node {name} runs with `{extra}` until it ends: end the cluster first (`chorus down --data-dir {dir}`)")]
    OtherArguments { name: String, extra: String, dir: PathBuf },
    #[error("node {name} is already running (process {pid})")]
    AlreadyRunning { name: String, pid: i32 },
}

/// A cluster of processes on this machine.
#[derive(Clone, Debug)]
pub struct LocalCluster {
    pub dir: PathBuf,
    pub config: ClusterConfig,
    disk: Disk,
}

/// The process of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    process: Option<Process>,
    /// Whether it is meant to run: a launcher that watches restarts it if so.
    pub wanted: bool,
    /// Whether it was ended with the whole cluster: a launcher that watches has nothing to watch any more.
    #[serde(default)]
    pub down: bool,
    /// What was added to its command line.
    pub extra: Vec<String>,
}

impl LocalCluster {
    /// The cluster that is in `dir`, or, where there is none, the one that [`create`](LocalCluster::create) would make
    /// there. Without `config` an existing cluster keeps its own, and a new one has three nodes; without
    /// `port_offset` an existing one keeps its own, and a new one has that of its configuration.
    pub fn plan(
        world: &World,
        dir: &Path,
        config: Option<ClusterConfig>,
        port_offset: Option<u16>,
    ) -> Result<LocalCluster, LocalError> {
        let Some(existing) = LocalCluster::find(world, dir)? else {
            let config = config.unwrap_or_else(ClusterConfig::three_local_nodes);
            let config = config.with_port_offset(port_offset.unwrap_or(config.port_offset))?;
            return Ok(LocalCluster { dir: dir.to_owned(), config, disk: world.disk.clone() });
        };
        let offset = existing.config.port_offset;
        if port_offset.is_some_and(|wanted| wanted != offset) {
            return Err(LocalError::OtherPorts { dir: dir.to_owned(), offset });
        }
        match config.map(|config| config.with_port_offset(offset)).transpose()? {
            Some(config) if config != existing.config => Err(LocalError::OtherConfiguration { dir: dir.to_owned() }),
            _ => Ok(existing),
        }
    }

    /// Makes what is missing of the cluster's directory.
    pub fn create(&self, world: &World) -> Result<(), LocalError> {
        if !self.exists() {
            self.disk.create_dir_all(&self.dir, Access::Everyone).map_err(LocalError::NotMade)?;
            let config = self.config.to_toml();
            let written = self.disk.replace(&self.config_file(), config.as_bytes(), Access::Everyone);
            written.map_err(LocalError::NotMade)?;
        }
        let pki = self.pki(world)?;
        if let Some(text) = kubeconfig::admin(&self.config, &pki)? {
            self.disk.replace(&self.dir.join("kubeconfig"), text.as_bytes(), Access::Owner)?;
        }
        for node in &self.config.nodes {
            self.disk.create_dir_all(&self.dir.join(&node.name), Access::Owner)?;
        }
        Ok(())
    }

    /// Whether its directory was made.
    pub fn exists(&self) -> bool {
        self.disk.exists(&self.config_file())
    }

    /// The cluster that is in `dir`, if there is one.
    pub fn find(world: &World, dir: &Path) -> Result<Option<LocalCluster>, LocalError> {
        let stored = config_file(dir);
        if !world.disk.exists(&stored) {
            return Ok(None);
        }
        let config = ClusterConfig::read(&world.disk, &stored)?;
        Ok(Some(LocalCluster { dir: dir.to_owned(), config, disk: world.disk.clone() }))
    }

    /// Opens the cluster that is in `dir`.
    pub fn open(world: &World, dir: &Path) -> Result<LocalCluster, LocalError> {
        LocalCluster::find(world, dir)?.ok_or_else(|| LocalError::NoCluster(dir.to_owned()))
    }

    pub fn pki(&self, world: &World) -> Result<Pki, LocalError> {
        Ok(open_pki(world, &self.dir, &self.config)?)
    }

    pub fn node(&self, name: &str) -> Result<&NodeConfig, LocalError> {
        self.config.node(name).ok_or_else(|| LocalError::NoNode { name: name.to_owned(), known: self.config.names() })
    }

    /// Where a node keeps its files.
    pub fn node_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn log_file(&self, name: &str) -> PathBuf {
        self.node_dir(name).join("node.log")
    }

    /// What is known of a node's process.
    pub fn record(&self, name: &str) -> Record {
        let read = || serde_json::from_slice(&self.disk.read(&self.record_file(name)).ok()?).ok();
        read().unwrap_or_default()
    }

    pub fn process(&self, name: &str) -> Option<(Process, ProcessState)> {
        let process = self.record(name).process?;
        match process.state() {
            ProcessState::Gone => None,
            state => Some((process, state)),
        }
    }

    /// Whether the nodes that run were started with `extra`, which they keep until they end.
    pub fn check_running_with(&self, extra: &[String]) -> Result<(), LocalError> {
        let mut running = self.config.nodes.iter().filter(|node| self.process(&node.name).is_some());
        let other =
            running.find_map(|node| Some((node, self.record(&node.name).extra)).filter(|(_, had)| had != extra));
        match other {
            None => Ok(()),
            Some((node, had)) => {
                Err(LocalError::OtherArguments { name: node.name.clone(), extra: had.join(" "), dir: self.dir.clone() })
            }
        }
    }

    /// Starts a node's process with `extra` added to its command line, and `once` for this time only; one that runs
    /// already is an error.
    pub fn start(&self, name: &str, extra: &[String], once: &[&str]) -> Result<Process, LocalError> {
        self.node(name)?;
        match self.process(name) {
            None => {}
            Some((_, ProcessState::Paused)) => return Err(LocalError::Paused { name: name.to_owned() }),
            Some((process, _)) => return Err(LocalError::AlreadyRunning { name: name.to_owned(), pid: process.pid }),
        }
        let program = std::env::current_exe()?;
        let mut args: Vec<OsString> = vec!["node".into(), "--config".into(), self.config_file().into()];
        args.extend(["--name".into(), name.into(), "--data-dir".into(), self.dir.clone().into()]);
        args.extend(extra.iter().map(OsString::from));
        args.extend(once.iter().map(OsString::from));
        let process = Process::start(&program, args, &self.log_file(name))?;
        let record = Record { process: Some(process), wanted: true, down: false, extra: extra.to_vec() };
        self.write_record(name, &record)?;
        Ok(process)
    }

    /// Sends `signal` to a running node. A node that has to end is no longer wanted, so that nobody restarts it.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<Process, LocalError> {
        self.node(name)?;
        let Some((process, _)) = self.process(name) else {
            return Err(LocalError::NotRunning { name: name.to_owned() });
        };
        if matches!(signal, Signal::KILL | Signal::TERM) {
            self.write_record(name, &Record { wanted: false, ..self.record(name) })?;
        }
        process.signal(signal)?;
        Ok(process)
    }

    /// Notes that the whole cluster is to end, and nobody is to restart a node of it.
    pub fn begin_down(&self) -> Result<(), LocalError> {
        let names = self.config.nodes.iter().map(|node| &node.name);
        let mut known = names.filter(|name| self.disk.exists(&self.dir.join(name)));
        known.try_for_each(|name| self.write_record(name, &Record { wanted: false, down: true, ..self.record(name) }))
    }

    /// Whether the whole cluster was ended, and nothing of it runs.
    pub fn is_down(&self) -> bool {
        let down = |name: &str| self.record(name).down && self.process(name).is_none();
        self.config.nodes.iter().all(|node| down(&node.name))
    }

    /// The nodes whose process is gone though it is meant to run.
    pub fn fallen(&self) -> Vec<String> {
        let fallen = |name: &&String| self.record(name).wanted && self.process(name).is_none();
        self.config.nodes.iter().map(|node| &node.name).filter(fallen).cloned().collect()
    }

    fn config_file(&self) -> PathBuf {
        config_file(&self.dir)
    }

    fn record_file(&self, name: &str) -> PathBuf {
        self.node_dir(name).join("process")
    }

    fn write_record(&self, name: &str, record: &Record) -> Result<(), LocalError> {
        let bytes = serde_json::to_vec(record).expect("a record serializes");
        Ok(self.disk.replace(&self.record_file(name), &bytes, Access::Everyone)?)
    }
}

fn config_file(dir: &Path) -> PathBuf {
    dir.join("cluster.toml")
}

/// The certificates of the cluster in `dir`, made where there are none.
pub fn open_pki(world: &World, dir: &Path, config: &ClusterConfig) -> Result<Pki, PkiError> {
    Pki::open(&world.disk, &dir.join("pki"), config)
}
