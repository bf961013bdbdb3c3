//! `chorus node`: one node in the foreground, until a signal ends it.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::agent::{CapacitySource, RuntimeChoice};
use crate::cluster::config::{ClusterConfig, Role};
use crate::cluster::local::open_pki;
use crate::cluster::node::{Node, Plan};
use crate::cluster::ports;
use crate::world::World;
use crate::world::net::ports::ephemeral;

use super::data_dir::DataDir;
use super::signals::interrupted;
use super::up::Runtime;

/// What is logged unless `CHORUS_LOG` says otherwise. openraft logs every failed attempt to reach a peer.
const LOG: &str = "info,openraft=error";

#[derive(clap::Args)]
pub struct Args {
    /// Cluster configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which of its nodes to run
    #[arg(long)]
    name: String,
    #[command(flatten)]
    dir: DataDir,
    /// What runs containers
    #[arg(long, value_enum, default_value_t = Runtime::Auto)]
    runtime: Runtime,
    /// How many agents share this machine; by default, all of the configuration
    #[arg(long)]
    agents_on_machine: Option<u32>,
    /// If the files of its store are damaged, move them aside and have the other members replace this one
    #[arg(long)]
    heal_from_peers: bool,
}

pub async fn run(world: World, args: Args) -> anyhow::Result<ExitCode> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CHORUS_LOG").unwrap_or_else(|_| LOG.into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A failure to write the log cannot be logged.
    log.log_internal_errors(false).init();

    let cluster = ClusterConfig::read(&world.disk, &args.config)?;
    if let Some(warning) = ports::warning(&cluster, ephemeral()) {
        tracing::warn!("{warning}");
    }
    let dir = std::path::absolute(&args.dir.data_dir)?;
    let pki = open_pki(&world, &dir, &cluster)?;
    let agents = args.agents_on_machine.unwrap_or(cluster.with_role(Role::Agent).count().try_into()?);
    let plan = Plan {
        data_dir: dir.join(&args.name),
        name: args.name.clone(),
        cluster,
        pki,
        tls: true,
        runtime: match args.runtime {
            Runtime::Auto => RuntimeChoice::Auto,
            Runtime::Docker => RuntimeChoice::Docker,
            Runtime::Hollow => RuntimeChoice::Hollow,
        },
        capacity: CapacitySource::Machine { agents },
        heal_from_peers: args.heal_from_peers,
        log: Default::default(),
    };
    let end = interrupted();
    let node = Node::start(world, plan).await?;
    tracing::info!(node = args.name, runtime = node.runtime(), "ready to serve client requests");
    end.await;
    tracing::info!(node = args.name, "ending");
    node.stop().await;
    Ok(ExitCode::SUCCESS)
}
