//! scheduler: gives every pod a node.
//!
//! ```text
//!   nodes, pods, namespaces (informers) ──Change──▶ Scheduler (actor)
//!                                                     │ Core: Queue ─pop─▶ filters ─▶ scores ─▶ assume
//!                                                     ├─▶ bind in a task ──Bound / failed──▶ Scheduler
//!                                                     └─▶ condition PodScheduled, Events
//!   Leadership (a Lease) ─▶ only one of several schedulers decides; the others follow along
//! ```
//!
//! - [`actor`]: the `Scheduler` actor
//! - [`config`]: what it is told at start
//! - [`core`]: changes in, decisions out; pure, as is all below it
//! - [`queue`]: pods without a node, and when each is tried again
//! - [`cluster`]: nodes and the pods on them, assumed ones included
//! - [`pod`], [`node`], [`resources`], [`terms`]: what the scheduler reads out of objects
//! - [`filters`], [`topology`]: which nodes can take a pod
//! - [`rejection`]: why the others can't
//! - [`scores`]: which node is best
//! - [`preemption`]: who has to go, so that a more important pod fits
//! - [`diagnosis`]: refusals in upstream's words

mod actor;
mod cluster;
mod config;
mod core;
mod diagnosis;
mod filters;
mod node;
mod pod;
mod preemption;
mod queue;
mod rejection;
mod resources;
mod scores;
#[cfg(test)]
mod scripts;
mod terms;
mod topology;

use crate::actor::Shutdown;
use crate::kube::client::Client;
use crate::kube::leader_election::Leadership;
use crate::world::World;

pub use config::Config;

/// Starts a scheduler, until `shutdown`. It follows along at once and decides while the answer says that it leads.
pub fn start(world: &World, client: Client, config: Config, shutdown: Shutdown) -> Leadership {
    let leadership = Leadership::campaign(world, &client, config.election.clone(), &shutdown);
    actor::start(world, client, config, leadership.clone(), shutdown);
    leadership
}

#[cfg(test)]
mod tests;
