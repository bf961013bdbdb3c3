//! `chorus up`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::cluster::config::{ClusterConfig, NodeConfig, Role};
use crate::cluster::launcher::{self, Progress};
use crate::cluster::local::LocalCluster;
use crate::cluster::ports;
use crate::world::World;
use crate::world::net::ports::ephemeral;

use super::data_dir::{DATA_DIR, DataDir};
use super::signals::interrupted_or_hung_up;
use super::terminal::{ProgressLines, green, note, print};

/// How long a cluster may take to come up.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub struct Args {
    /// Cluster configuration; without it, the directory's own, or three nodes in a new one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    dir: DataDir,
    /// Add this to every port of a new cluster, which remembers it; so two clusters can run side by side
    #[arg(long, value_name = "N")]
    port_offset: Option<u16>,
    /// What runs containers: docker, hollow (none: pods only appear to run), or docker where an engine answers
    /// [default: auto]
    #[arg(long, value_enum)]
    runtime: Option<Runtime>,
    /// Leave the cluster running and return; `chorus down` ends it
    #[arg(long)]
    detach: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Runtime {
    Auto,
    Docker,
    Hollow,
}

pub async fn run(world: World, args: Args) -> anyhow::Result<ExitCode> {
    let began = world.clock.now();
    let config = args.config.as_deref().map(|path| ClusterConfig::read(&world.disk, path)).transpose()?;
    let dir = std::path::absolute(&args.dir.data_dir)?;
    let cluster = LocalCluster::plan(&world, &dir, config, args.port_offset)?;
    if let Some(warning) = ports::warning(&cluster.config, ephemeral()) {
        note(format!("warning: {warning}"));
    }
    let runtime = format!("{:?}", args.runtime.unwrap_or(Runtime::Auto)).to_lowercase();
    let extra = ["--runtime".to_owned(), runtime];
    if args.runtime.is_some() {
        cluster.check_running_with(&extra)?;
    }
    ports::check(&world, &cluster).await?;
    cluster.create(&world)?;

    let names: Vec<&str> = cluster.config.nodes.iter().map(|node| node.name.as_str()).collect();
    let (name, nodes) = (&cluster.config.name, plural(names.len(), "node"));
    note(format!("Launching {name} ({nodes}) in {}", args.dir.data_dir.display()));
    let lines = ProgressLines::new(&names);
    let mut interrupt = std::pin::pin!(interrupted_or_hung_up(&world));
    let started = async {
        launcher::start(&cluster, &extra)?;
        let show = |progress: Progress<'_>| {
            if let Progress::Node { name, health } = progress {
                lines.show(name, &health.to_string(), health.is_ready());
            }
        };
        launcher::wait_until_ready(&world, &cluster, LIMIT, show).await
    };
    let outcome = tokio::select! {
        ready = started => ready,
        () = &mut interrupt => {
            lines.clear();
            note("Interrupted: ending the nodes");
            launcher::stop(&world, &cluster).await?;
            return Ok(ExitCode::FAILURE);
        }
    };
    if let Err(error) = outcome {
        lines.clear();
        launcher::stop(&world, &cluster).await?;
        return Err(error.into());
    }
    let took = began.elapsed().as_secs_f64();
    let ready = format!("{} in {took:.1} s\n\n{}", green("Ready"), next_steps(&cluster, &args.dir.data_dir));
    if args.detach {
        print(ready)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Err(unread) = print(format!("{ready}\nCtrl-C ends the cluster; its data stays.\n")) {
        end(&world, &cluster).await?;
        return Err(unread.into());
    }
    watch(&world, &cluster, &args.dir.data_dir, &extra, interrupt).await?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps the nodes running until `interrupt`, which ends them, or until another command has ended them.
async fn watch(
    world: &World,
    cluster: &LocalCluster,
    dir: &Path,
    extra: &[String],
    interrupt: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut down = false;
    launcher::watch(world, cluster, extra, interrupt, |progress| match progress {
        Progress::Restarted { name } => {
            note(format!("{name} ended by itself and was started again: `chorus logs {name}{}` shows why", own(dir)));
        }
        Progress::Down => down = true,
        Progress::Node { .. } => {}
    })
    .await?;
    if down {
        note("\nThe cluster was ended by another command");
        return Ok(());
    }
    note("\nEnding the nodes");
    end(world, cluster).await
}

async fn end(world: &World, cluster: &LocalCluster) -> anyhow::Result<()> {
    launcher::stop(world, cluster).await?;
    launcher::remove_pods(world, cluster).await?;
    Ok(())
}

/// The flag that other commands need to find a cluster in `dir`.
fn own(dir: &Path) -> String {
    if dir == Path::new(DATA_DIR) { String::new() } else { format!(" --data-dir {}", dir.display()) }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn next_steps(cluster: &LocalCluster, dir: &Path) -> String {
    let config = &cluster.config;
    let endpoints = |role: Role, address: fn(&NodeConfig) -> Option<&String>| {
        config.with_role(role).filter_map(address).cloned().collect::<Vec<_>>().join(",")
    };
    let store = endpoints(Role::Store, |node| node.client.as_ref());
    let api = endpoints(Role::Apiserver, |node| node.api.as_ref());
    let mut text = String::new();
    if !store.is_empty() {
        text += &format!("etcd        {store}\n");
    }
    if !api.is_empty() {
        text += &format!("Kubernetes  {api}\n");
    }
    text += "\nTry:\n";
    if !store.is_empty() {
        text += &format!("  etcdctl {} endpoint health\n", reaching_the_store(config, dir, &store));
    }
    if !api.is_empty() {
        text += &format!("  kubectl --kubeconfig {} get nodes\n", dir.join("kubeconfig").display());
    }
    let own = own(dir);
    if !store.is_empty() {
        text += &format!("  chorus kv put greeting hello{own}\n");
    }
    text + &format!("  chorus status{own}\n")
}

/// The flags by which a client of etcd reaches the store.
fn reaching_the_store(config: &ClusterConfig, dir: &Path, plain: &str) -> String {
    let urls: Vec<String> = config.with_role(Role::Store).filter_map(|node| config.client_url(node)).collect();
    if urls.iter().all(|url| url.starts_with("http:")) {
        return format!("--endpoints={plain}");
    }
    let file = |name: &str| dir.join("pki").join(name).display().to_string();
    let (authority, certificate, key) = (file("ca.crt"), file("admin.crt"), file("admin.key"));
    format!("--endpoints={} --cacert={authority} --cert={certificate} --key={key}", urls.join(","))
}
