//! Launches a local cluster, tells how it comes up, watches it, and ends it.
//!
//! ```text
//!   up ──▶ start every node's process ──▶ poll until each is ready ──▶ watch: restart what falls ──▶ end all
//! ```

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use rustix::process::Signal;

use super::config::Role;
use super::health::{self, Health};
use super::local::{LocalCluster, LocalError};
use crate::agent;
use crate::world::process::ProcessState;
use crate::world::{Instant, World};

/// How often a node that is coming up is asked.
const POLL: Duration = Duration::from_millis(50);
/// How often the processes of a cluster that is up are looked at.
const WATCH: Duration = Duration::from_millis(500);
/// How long nodes may take to end before they are killed.
const GRACE: Duration = Duration::from_secs(15);
/// A node that falls again within this time waits as long before it is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(2);

/// What a caller learns while a cluster comes up and runs.
pub enum Progress<'a> {
    /// How far a node has come.
    Node { name: &'a str, health: Health },
    /// A node's process ended by itself and was started again.
    Restarted { name: &'a str },
    /// Somebody else has ended the whole cluster.
    Down,
}

/// Why a cluster did not come up.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error("node {name} ended while it started; the end of {log} says:\n{tail}")]
    Fell { name: String, log: String, tail: String },
    /// Nothing is left to be done.
    #[error("somebody ended the cluster while it started")]
    Down,
    #[error("the cluster was not ready within {}: {waiting} (`chorus logs NODE` tells more)", humane(.limit))]
    NotReady { limit: Duration, waiting: String },
}

fn humane(limit: &Duration) -> String {
    format!("{} s", limit.as_secs())
}

/// Starts the nodes that do not run yet. `extra` is added to their command lines.
pub fn start(cluster: &LocalCluster, extra: &[String]) -> Result<(), LaunchError> {
    for node in &cluster.config.nodes {
        match cluster.process(&node.name) {
            Some((process, ProcessState::Paused)) => process.signal(Signal::CONT).map_err(LocalError::Io)?,
            Some(_) => {}
            None => drop(cluster.start(&node.name, extra, &[])?),
        }
    }
    Ok(())
}

/// Waits until every node is ready, telling how each comes along.
pub async fn wait_until_ready(
    world: &World,
    cluster: &LocalCluster,
    limit: Duration,
    mut tell: impl FnMut(Progress<'_>),
) -> Result<(), LaunchError> {
    let deadline = world.clock.now() + limit;
    let prober = health::Prober::new(world, cluster)?;
    let mut seen: BTreeMap<&str, Health> = BTreeMap::new();
    loop {
        let now = prober.probe().await;
        for (node, health) in cluster.config.nodes.iter().zip(now) {
            if cluster.process(&node.name).is_none() {
                return Err(match cluster.record(&node.name).down {
                    true => LaunchError::Down,
                    false => fell(world, cluster, &node.name),
                });
            }
            if seen.insert(&node.name, health) != Some(health) {
                tell(Progress::Node { name: &node.name, health });
            }
        }
        if seen.values().all(|health| health.is_ready()) {
            return Ok(());
        }
        if world.clock.now() >= deadline {
            let waiting = seen.iter().filter(|(_, health)| !health.is_ready());
            let waiting: Vec<_> = waiting.map(|(name, health)| format!("{name} is {health}")).collect();
            return Err(LaunchError::NotReady { limit, waiting: waiting.join(", ") });
        }
        world.clock.sleep(POLL).await;
    }
}

/// Restarts nodes that fall, until `end` resolves or somebody else has ended the whole cluster.
pub async fn watch(
    world: &World,
    cluster: &LocalCluster,
    extra: &[String],
    end: impl Future<Output = ()>,
    mut tell: impl FnMut(Progress<'_>),
) -> Result<(), LaunchError> {
    tokio::pin!(end);
    let mut restarted: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        tokio::select! {
            () = &mut end => return Ok(()),
            () = world.clock.sleep(WATCH) => {}
        }
        if cluster.is_down() {
            tell(Progress::Down);
            return Ok(());
        }
        for name in cluster.fallen() {
            let now = world.clock.now();
            if restarted.get(&name).is_some_and(|last| now - *last < RESTART_PAUSE) {
                continue;
            }
            cluster.start(&name, extra, &[])?;
            restarted.insert(name.clone(), now);
            tell(Progress::Restarted { name: &name });
        }
    }
}

/// Removes the containers of all pods: what the cluster starts on this machine it also stops. How many pods they were.
/// The nodes must have ended; those that come back start their pods again.
pub async fn remove_pods(world: &World, cluster: &LocalCluster) -> Result<usize, LaunchError> {
    let uid = cluster.pki(world)?.cluster_uid();
    let mut pods = 0;
    for node in cluster.config.with_role(Role::Agent) {
        // Without an engine there are no containers.
        pods += agent::remove_all_pods(world, &node.name, &uid, &cluster.node_dir(&node.name)).await.unwrap_or(0);
    }
    Ok(pods)
}

/// Ends all nodes: asks them first, and kills those that have not ended after a while. Returns their names.
pub async fn stop(world: &World, cluster: &LocalCluster) -> Result<Vec<String>, LaunchError> {
    let mut ending = Vec::new();
    cluster.begin_down()?;
    for node in &cluster.config.nodes {
        if let Some((process, state)) = cluster.process(&node.name) {
            cluster.signal(&node.name, Signal::TERM)?;
            if state == ProcessState::Paused {
                process.signal(Signal::CONT).map_err(LocalError::Io)?;
            }
            ending.push((node.name.clone(), process));
        }
    }
    let deadline = world.clock.now() + GRACE;
    while ending.iter().any(|(_, process)| process.state() != ProcessState::Gone) {
        if world.clock.now() >= deadline {
            for (_, process) in ending.iter().filter(|(_, process)| process.state() != ProcessState::Gone) {
                process.signal(Signal::KILL).map_err(LocalError::Io)?;
            }
        }
        world.clock.sleep(POLL).await;
    }
    Ok(ending.into_iter().map(|(name, _)| name).collect())
}

fn fell(world: &World, cluster: &LocalCluster, name: &str) -> LaunchError {
    let log = cluster.log_file(name);
    let bytes = world.disk.read(&log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(5)..].join("\n");
    LaunchError::Fell { name: name.to_owned(), log: log.display().to_string(), tail }
}
