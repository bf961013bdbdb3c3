//! One node's pods: the agent that registers the node, runs the pods bound to it and tells how they fare.
//!
//! ```text
//!   API ──watch: pods of this node──▶ Agent ──one each──▶ PodActor ──▶ ContainerRuntime (docker | hollow)
//!    ▲                                  ▲                   │  ▲
//!    │                                  └── engine events ──┘  └── probes
//!    ├──────────── pod status, events, deletion confirmed ─────┘
//!    └──────────── node status, lease ── Heartbeat
//! ```
//!
//! - [`config`]: what an agent is told at start
//! - [`error`]: what can go wrong, and what to do about it
//! - [`image`]: image names
//! - [`pod`]: one pod, from specification to actions and status
//! - [`runtime`]: the engines that turn pods into processes

pub mod config;
pub mod error;
mod image;
pub mod pod;
pub mod runtime;

use std::net::SocketAddr;

use crate::actor::Shutdown;
use crate::kube::client::Client;
use crate::world::World;

pub use config::{Capacity, CapacitySource, Config, RuntimeChoice};
pub use error::Error;

/// A running agent. It ends with the [`Shutdown`] it was started with; its pods run on, and the next agent of the same
/// node finds them.
#[derive(Clone, Debug)]
pub struct Handle {
    runtime: &'static str,
    logs_address: Option<SocketAddr>,
}

impl Handle {
    /// `docker` or `hollow`.
    pub fn runtime(&self) -> &'static str {
        self.runtime
    }

    /// Where container logs are served.
    pub fn logs_address(&self) -> Option<SocketAddr> {
        self.logs_address
    }
}

/// Starts the agent of one node. It returns as soon as the engine has answered: the API may come up later.
pub async fn start(world: World, client: Client, config: Config, shutdown: Shutdown) -> Result<Handle, Error> {
    let _ = (client, shutdown);
    let runtime = runtime::hollow::Hollow::new(&config.node_name, world.clock.clone());
    Ok(Handle { runtime: runtime::ContainerRuntime::name(&runtime), logs_address: None })
}
