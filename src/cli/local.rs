//! `chorus status`, `down`, `kill`, `pause`, `resume`, `start`, `logs`: inspect and disturb a local cluster.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;

use crate::cluster::health::Prober;
use crate::cluster::launcher;
use crate::cluster::local::LocalCluster;
use crate::world::World;
use crate::world::disk::Open;
use crate::world::process::ProcessState;
use crate::world::roster::{Backlog, Component};

use super::data_dir::DataDir;
use super::terminal::{OutputError, bytes, line, print, table};

/// How often a followed log is read.
const FOLLOW: Duration = Duration::from_millis(200);
/// How often to check whether a killed process is gone.
const ENDED: Duration = Duration::from_millis(5);

#[derive(clap::Args)]
pub struct Cluster {
    #[command(flatten)]
    dir: DataDir,
}

#[derive(clap::Args)]
pub struct Status {
    #[command(flatten)]
    cluster: Cluster,
    /// Show the actors and tasks of each node: whether they run, how often and why they restarted, how much work waits
    #[arg(long)]
    actors: bool,
}

#[derive(clap::Args)]
pub struct Node {
    /// The node
    name: String,
    #[command(flatten)]
    dir: DataDir,
}

#[derive(clap::Args)]
pub struct Start {
    #[command(flatten)]
    node: Node,
    /// If the files of its store are damaged, move them aside and have the other members replace this one
    #[arg(long)]
    heal_from_peers: bool,
}

#[derive(clap::Args)]
pub struct Logs {
    #[command(flatten)]
    node: Node,
    /// Go on printing as the node writes
    #[arg(short, long)]
    follow: bool,
}

fn open(world: &World, dir: &Path) -> anyhow::Result<LocalCluster> {
    Ok(LocalCluster::open(world, &std::path::absolute(dir)?)?)
}

pub async fn status(world: World, args: Status) -> anyhow::Result<ExitCode> {
    let cluster = open(&world, &args.cluster.dir.data_dir)?;
    let prober = Prober::new(&world, &cluster)?;
    if args.actors {
        return Ok(actors(&cluster, prober.components().await)?);
    }
    let (health, stores) = (prober.probe().await, prober.store_status().await);
    let mut rows = vec![
        ["NAME", "PROCESS", "STATE", "ETCD", "KUBERNETES", "LEADER", "TERM", "REVISION", "DATA", "MEMORY"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut all_ready = true;
    for ((node, health), store) in cluster.config.nodes.iter().zip(health).zip(stores) {
        let process = cluster.process(&node.name);
        let state = match process {
            None => "stopped".to_owned(),
            Some((_, ProcessState::Paused)) => "paused".to_owned(),
            Some(_) => health.to_string(),
        };
        all_ready &= state == "ready";
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        rows.push(vec![
            node.name.clone(),
            or_dash(process.map(|(process, _)| process.pid.to_string())),
            state,
            or_dash(node.client.clone()),
            or_dash(node.api.clone()),
            or_dash(store.as_ref().map(|store| if store.is_leader { "yes" } else { "no" }.to_owned())),
            or_dash(store.as_ref().map(|store| store.term.to_string())),
            or_dash(store.as_ref().map(|store| store.revision.to_string())),
            or_dash(store.as_ref().map(|store| bytes(store.bytes.unsigned_abs()))),
            or_dash(process.and_then(|(process, _)| process.resident_bytes()).map(bytes)),
        ]);
    }
    print(table(&rows))?;
    Ok(if all_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the long-lived components of each node.
fn actors(cluster: &LocalCluster, nodes: Vec<Option<Vec<Component>>>) -> Result<ExitCode, OutputError> {
    let mut rows = vec![
        ["NODE", "NAME", "LANE", "STATE", "AGE", "RESTARTS", "WAITING", "LIMIT", "WAITED", "LAST EXIT"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut all_run = true;
    for (node, components) in cluster.config.nodes.iter().zip(nodes) {
        let Some(components) = components else {
            all_run = false;
            rows.push([node.name.as_str(), "-", "-", "no answer"].map(str::to_owned).to_vec());
            continue;
        };
        rows.extend(components.into_iter().map(|component| {
            let backlog = |show: fn(Backlog) -> String| component.backlog.map_or_else(|| "-".to_owned(), show);
            vec![
                node.name.clone(),
                component.name.clone(),
                component.lane.map_or_else(|| "shared".to_owned(), |lane| format!("{lane:?}").to_lowercase()),
                if component.running { "running" } else { "ended" }.to_owned(),
                format!("{}s", component.age.as_secs()),
                component.restarts.to_string(),
                backlog(|backlog| backlog.waiting.to_string()),
                backlog(|backlog| backlog.limit.to_string()),
                backlog(|backlog| format!("{:.1}ms", backlog.age.as_secs_f64() * 1e3)),
                component.last_exit.unwrap_or_else(|| "-".to_owned()),
            ]
        }));
    }
    print(table(&rows))?;
    Ok(if all_run { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub async fn down(world: World, args: Cluster) -> anyhow::Result<ExitCode> {
    let cluster = open(&world, &args.dir.data_dir)?;
    let ended = launcher::stop(&world, &cluster).await?;
    let pods = launcher::remove_pods(&world, &cluster).await?;
    match ended.is_empty() {
        true => line("Nothing was running")?,
        false => line(format!("Ended {}", ended.join(", ")))?,
    }
    if pods > 0 {
        line(format!("Removed the containers of {pods} pods; `chorus up` starts them again"))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn kill(world: World, args: Node) -> anyhow::Result<ExitCode> {
    let process = open(&world, &args.dir.data_dir)?.signal(&args.name, Signal::KILL)?;
    // The next command may need its ports, or rely on its connections being closed.
    while process.state() != ProcessState::Gone {
        world.clock.sleep(ENDED).await;
    }
    line(format!("Killed {} (process {})", args.name, process.pid))?;
    Ok(ExitCode::SUCCESS)
}

pub fn pause(world: World, args: Node) -> anyhow::Result<ExitCode> {
    signal(&world, &args, Signal::STOP, "Paused")
}

pub fn resume(world: World, args: Node) -> anyhow::Result<ExitCode> {
    signal(&world, &args, Signal::CONT, "Resumed")
}

fn signal(world: &World, args: &Node, signal: Signal, done: &str) -> anyhow::Result<ExitCode> {
    let process = open(world, &args.dir.data_dir)?.signal(&args.name, signal)?;
    line(format!("{done} {} (process {})", args.name, process.pid))?;
    Ok(ExitCode::SUCCESS)
}

pub async fn start(world: World, args: Start) -> anyhow::Result<ExitCode> {
    let Node { name, dir } = args.node;
    let cluster = open(&world, &dir.data_dir)?;
    let once: &[&str] = if args.heal_from_peers { &["--heal-from-peers"] } else { &[] };
    let process = cluster.start(&name, &cluster.record(&name).extra, once)?;
    line(format!("Started {name} (process {})", process.pid))?;
    Ok(ExitCode::SUCCESS)
}

pub async fn logs(world: World, args: Logs) -> anyhow::Result<ExitCode> {
    let cluster = open(&world, &args.node.dir.data_dir)?;
    cluster.node(&args.node.name)?;
    let file = world.disk.open(&cluster.log_file(&args.node.name), Open::Read);
    let file = file.with_context(|| format!("node {} has no log, since it was never started", args.node.name))?;
    let mut printed = 0;
    loop {
        let mut chunk = vec![0; usize::try_from(file.len()?.saturating_sub(printed))?];
        file.read_exact_at(&mut chunk, printed)?;
        print(&chunk)?;
        printed += chunk.len() as u64;
        if !args.follow {
            return Ok(ExitCode::SUCCESS);
        }
        world.clock.sleep(FOLLOW).await;
    }
}
