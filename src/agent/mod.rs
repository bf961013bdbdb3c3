//! The agent of one node, in the kubelet's place: it registers the node, runs the pods bound to it and reports their
//! status.
//!
//! ```text
//!   API ──watch: pods of this node──▶ Agent ──one each──▶ PodActor ──▶ ContainerRuntime (docker | hollow)
//!    ▲                                  ▲                   │  ▲
//!    │                                  └── engine events ──┘  └── probes
//!    ├──────────── pod status, events, deletion confirmed ─────┘
//!    └──────────── node status, lease ── Heartbeat
//! ```
//!
//! - [`agent`]: the actor of the node's pods as a whole
//! - [`config`]: its configuration
//! - [`error`]: what can go wrong, and what to do about it
//! - [`context`]: what all pod actors share
//! - [`image`]: image names
//! - [`server`]: the agent's own port; [`access`]: authentication and authorization; [`logs`]: container logs;
//!   [`answer`]: the form of responses
//! - [`node`]: the node as the API sees it
//! - [`pod`]: one pod, from specification to actions and status
//! - [`runtime`]: the engines that turn pods into processes

mod access;
#[allow(clippy::module_inception, reason = "an actor's file is named for what it keeps")]
mod agent;
mod answer;
pub mod config;
mod context;
pub mod error;
mod image;
mod logs;
mod node;
pub mod pod;
pub mod runtime;
mod server;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::{Pod, Service};
use tokio::sync::Semaphore;

use self::access::Auth;
use self::agent::Agent;
use self::context::Context;
use self::logs::Logs;
use self::node::capacity;
use self::node::heartbeat::{Heartbeat, Round};
use self::node::object::Facts;
use self::pod::page::Page;
use self::pod::sources::Sources;
use self::runtime::ContainerRuntime;
use self::runtime::docker::Docker;
use self::runtime::hollow::Hollow;
use self::server::Server;
use crate::actor::{Shutdown, Supervisor};
use crate::disk::notebook::Notebook;
use crate::kube::client::Client;
use crate::kube::events::Recorder;
use crate::kube::informer::Informer;
use crate::world::disk::Access;
use crate::world::{Lane, World, tls};

pub use config::{Capacity, CapacitySource, Config, RuntimeChoice};
pub use error::Error;

/// A running agent. It ends with the [`Shutdown`] it was started with; its pods run on, and the next agent of the same
/// node finds them.
#[derive(Clone, Debug)]
pub struct Handle {
    runtime: &'static str,
    logs_address: SocketAddr,
}

impl Handle {
    /// `docker` or `hollow`.
    pub fn runtime(&self) -> &'static str {
        self.runtime
    }

    /// Where container logs are served.
    pub fn logs_address(&self) -> SocketAddr {
        self.logs_address
    }
}

/// Starts the agent of one node. It returns as soon as the engine has answered: the API may come up later.
pub async fn start(world: World, client: Client, config: Config, shutdown: Shutdown) -> Result<Handle, Error> {
    // The engine mounts from it, and does not know this process's working directory.
    let config = Config { data_dir: std::path::absolute(&config.data_dir)?, ..config };
    world.disk.create_dir_all(&config.data_dir, Access::Owner)?;
    let runtime = choose_runtime(&world, &config).await?;
    start_with(world, client, config, runtime, shutdown).await
}

/// As [`start`], with a given runtime.
pub async fn start_with(
    world: World,
    client: Client,
    config: Config,
    runtime: Arc<dyn ContainerRuntime>,
    shutdown: Shutdown,
) -> Result<Handle, Error> {
    let listen_error = |source| Error::Listen { address: config.listen.clone(), source };
    let listener = world.net.listen(&config.listen).await.map_err(listen_error)?;
    let logs_address = listener.local_addr().map_err(listen_error)?;
    let capacity = capacity::capacity(config.capacity, &config.data_dir)?;
    let machine = match config.capacity {
        CapacitySource::Machine { .. } => capacity::machine(&world.disk),
        CapacitySource::Fixed(_) => {
            capacity::Machine { architecture: capacity::architecture(), ..capacity::Machine::default() }
        }
    };
    let facts = Facts {
        name: config.node_name.clone(),
        labels: config.labels.clone(),
        address: config.address,
        port: logs_address.port(),
        capacity,
        machine,
        engine: runtime.version().await?,
        lease_duration: config.node_lease_duration,
    };
    let server = Server {
        world: world.clone(),
        tls: config.tls.clone().map(|options| tls::Server::new(&world, options)).transpose()?,
        access: Arc::new(Auth { clock: world.clock.clone(), client: client.clone(), node: config.node_name.clone() }),
        logs: Logs { clock: world.clock.clone(), runtime: runtime.clone() },
    };
    server.start(listener, shutdown.clone());
    let supervisor = Supervisor::new(&world, &shutdown);
    let round = Arc::new(Round {
        world: world.clone(),
        client: client.clone(),
        facts,
        data_dir: config.data_dir.clone(),
        watches_pressure: matches!(config.capacity, CapacitySource::Machine { .. }),
    });
    let end = shutdown.clone();
    supervisor.actor(Lane::Agent, "agent/heartbeat", None, move |_| Heartbeat::new(round.clone(), end.clone()));
    let pods = Informer::of(&client.api::<Pod>())
        .fields(&format!("spec.nodeName={}", config.node_name))
        .start(&world, &shutdown);
    let (notebook, noted_pods) = open_notebook(&world, &config).await?;
    let noted_pods = Arc::new(Mutex::new(noted_pods));
    let trust_any = tls::Options { insecure_skip_verify: true, ..tls::Options::default() };
    let context = Arc::new(Context {
        notebook,
        events: Recorder::start(&world, &client, "kubelet", &config.node_name, &shutdown),
        services: Informer::of(&client.api::<Service>()).start(&world, &shutdown),
        pulls: Arc::new(Semaphore::new(context::PULLS_MAX)),
        data_dir: config.data_dir,
        address: config.address,
        capacity,
        any_server: tls::Client::new(&world, trust_any).map_err(|error| Error::Config(error.to_string()))?,
        runtime: runtime.clone(),
        client,
        world: world.clone(),
    });
    supervisor.actor(Lane::Agent, "agent", None, move |_| {
        Agent::new(context.clone(), pods.clone(), noted_pods.clone(), shutdown.clone())
    });
    Ok(Handle { runtime: runtime.name(), logs_address })
}

/// The notebook, and the pods in it.
async fn open_notebook(world: &World, config: &Config) -> Result<(Option<Notebook>, Vec<(Pod, Sources)>), Error> {
    if !config.notebook {
        return Ok((None, Vec::new()));
    }
    let (world_there, path) = (world.clone(), config.data_dir.join("notebook"));
    let opened = world.spawner.blocking(move || {
        let notebook = Notebook::open(&world_there, &path)?;
        let pages = notebook.all::<Page>()?;
        Ok::<_, crate::disk::Error>((notebook, pages))
    });
    let (notebook, pages) = opened.await.map_err(|error| Error::Notebook(error.to_string()))?;
    Ok((Some(notebook), pages.into_iter().filter_map(|(_, page)| page.open()).collect()))
}

async fn choose_runtime(world: &World, config: &Config) -> Result<Arc<dyn ContainerRuntime>, Error> {
    let hollow = || Arc::new(Hollow::new(&config.node_name, world.clock.clone()));
    if config.runtime == RuntimeChoice::Hollow {
        return Ok(hollow());
    }
    match Docker::connect(&config.node_name, &config.cluster, world.clock.clone()).await {
        Ok(docker) => Ok(Arc::new(docker)),
        Err(error) if config.runtime == RuntimeChoice::Docker => Err(error),
        Err(error) => {
            tracing::warn!("pods will only appear to run (runtime `hollow`): {error}");
            Ok(hollow())
        }
    }
}

/// Removes every container that the node's agent ever started and did not remove; how many pods they were. For the end
/// of a cluster: no agent of the node may run. `cluster` and `data_dir` are those of the agent's [`Config`].
pub async fn remove_all_pods(world: &World, node_name: &str, cluster: &str, data_dir: &Path) -> Result<usize, Error> {
    let docker = Docker::connect(node_name, cluster, world.clock.clone()).await?;
    let pods = docker.pods().await?;
    for pod in &pods {
        let view = docker.view(&pod.uid).await?;
        for id in view.containers.iter().map(|c| &c.id).chain(view.sandboxes.iter().map(|s| &s.id)) {
            docker.remove(id).await?;
        }
    }
    // Volumes in memory; those on the disk stay, as the node's other files do.
    world.disk.unmount_below(&pod::volumes::pods_dir(&std::path::absolute(data_dir)?))?;
    Ok(pods.len())
}
