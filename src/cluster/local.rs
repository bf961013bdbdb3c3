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
use super::pki::{Pki, PkiError, hosts};
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
    Api(#[from] crate::kube::client::RemoteError),
    #[error("there is no cluster in {0}: start one with `chorus up --data-dir {0}`")]
    NoCluster(PathBuf),
    #[error(
        "{dir} holds a cluster with another configuration ({dir}/cluster.toml): name another --data-dir, or remove this one"
    )]
    OtherConfiguration { dir: PathBuf },
    #[error("there is no node {name:?}; the cluster has {known}")]
    NoNode { name: String, known: String },
    #[error("node {name} is not running: start it with `chorus start {name}`")]
    NotRunning { name: String },
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
    /// What was added to its command line.
    pub extra: Vec<String>,
}

impl LocalCluster {
    /// Opens the cluster in `dir`, creating it from `config` where there is none. Without `config` an existing
    /// cluster keeps its own, and a new one has three nodes.
    pub fn create(world: &World, dir: &Path, config: Option<ClusterConfig>) -> Result<LocalCluster, LocalError> {
        let disk = &world.disk;
        let stored = dir.join("cluster.toml");
        let config = if disk.exists(&stored) {
            let existing = ClusterConfig::read(disk, &stored)?;
            if config.is_some_and(|config| config != existing) {
                return Err(LocalError::OtherConfiguration { dir: dir.to_owned() });
            }
            existing
        } else {
            let config = config.unwrap_or_else(ClusterConfig::three_local_nodes);
            disk.create_dir_all(dir, Access::Everyone)?;
            let text = toml::to_string_pretty(&config).expect("a configuration serializes");
            disk.replace(&stored, text.as_bytes(), Access::Everyone)?;
            config
        };
        let pki = open_pki(world, dir, &config)?;
        if let Some(text) = kubeconfig::admin(&config, &pki) {
            disk.replace(&dir.join("kubeconfig"), text.as_bytes(), Access::Owner)?;
        }
        for node in &config.nodes {
            disk.create_dir_all(&dir.join(&node.name), Access::Owner)?;
        }
        Ok(LocalCluster { dir: dir.to_owned(), config, disk: disk.clone() })
    }

    /// Opens the cluster that is in `dir`.
    pub fn open(world: &World, dir: &Path) -> Result<LocalCluster, LocalError> {
        let stored = dir.join("cluster.toml");
        if !world.disk.exists(&stored) {
            return Err(LocalError::NoCluster(dir.to_owned()));
        }
        let config = ClusterConfig::read(&world.disk, &stored)?;
        Ok(LocalCluster { dir: dir.to_owned(), config, disk: world.disk.clone() })
    }

    pub fn pki(&self, world: &World) -> Result<Pki, LocalError> {
        Ok(open_pki(world, &self.dir, &self.config)?)
    }

    pub fn node(&self, name: &str) -> Result<&NodeConfig, LocalError> {
        self.config.node(name).ok_or_else(|| LocalError::NoNode {
            name: name.to_owned(),
            known: self.config.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", "),
        })
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

    /// Starts a node's process with `extra` added to its command line, and `once` for this time only; one that runs
    /// already is an error.
    pub fn start(&self, name: &str, extra: &[String], once: &[&str]) -> Result<Process, LocalError> {
        self.node(name)?;
        if let Some((process, _)) = self.process(name) {
            return Err(LocalError::AlreadyRunning { name: name.to_owned(), pid: process.pid });
        }
        let program = std::env::current_exe()?;
        let mut args: Vec<OsString> = vec!["node".into(), "--config".into(), self.dir.join("cluster.toml").into()];
        args.extend(["--name".into(), name.into(), "--data-dir".into(), self.dir.clone().into()]);
        args.extend(extra.iter().map(OsString::from));
        args.extend(once.iter().map(OsString::from));
        let process = Process::start(&program, args, &self.log_file(name))?;
        self.write_record(name, &Record { process: Some(process), wanted: true, extra: extra.to_vec() })?;
        Ok(process)
    }

    /// Sends `signal` to a running node. A node that is told to end is no longer wanted, so that nobody restarts it.
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

    /// The nodes whose process is gone though it is meant to run.
    pub fn fallen(&self) -> Vec<String> {
        let fallen = |name: &&String| self.record(name).wanted && self.process(name).is_none();
        self.config.nodes.iter().map(|node| &node.name).filter(fallen).cloned().collect()
    }

    fn record_file(&self, name: &str) -> PathBuf {
        self.node_dir(name).join("process")
    }

    fn write_record(&self, name: &str, record: &Record) -> Result<(), LocalError> {
        let bytes = serde_json::to_vec(record).expect("a record serializes");
        Ok(self.disk.replace(&self.record_file(name), &bytes, Access::Everyone)?)
    }
}

/// The certificates of the cluster in `dir`, made where there are none.
pub fn open_pki(world: &World, dir: &Path, config: &ClusterConfig) -> Result<Pki, PkiError> {
    let mut names = hosts(config.nodes.iter().filter_map(|node| node.api.as_ref()));
    names.push("127.0.0.1".to_owned());
    Pki::open(&world.disk, &world.random, &dir.join("pki"), &names)
}
