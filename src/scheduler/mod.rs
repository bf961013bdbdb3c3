//! scheduler: gives every pod a node.
//!
//! ```text
//!   nodes, pods, namespaces (informers) ──Change──▶ Scheduler (actor)
//!                                                     │ Core: SchedulingQueue ─pop─▶ filters ─▶ scores ─▶ assume
//!                                                     ├─▶ bind in a task ──Bound / failed──▶ Scheduler
//!                                                     └─▶ condition PodScheduled, Events
//!   Leadership (a Lease) ─▶ only one of several schedulers decides; the others keep their caches up to date
//! ```
//!
//! - [`actor`]: the `Scheduler` actor
//! - [`config`]: its configuration
//! - [`core`]: changes in, decisions out; pure, as is all below it
//! - [`queue`]: pods without a node, and when each is tried next (PrioritySort)
//! - [`cache`]: nodes and the pods on them, assumed ones included
//! - [`pod`], [`node`], [`resources`], [`terms`]: what the scheduler reads out of objects
//! - [`filters`], [`topology`]: which nodes can take a pod; [`topology`] counts other pods for PodTopologySpread and
//!   InterPodAffinity
//! - [`rejection`]: why the others can't
//! - [`scores`]: which node is best
//! - [`preemption`]: which pods must end, so that a more important one fits (DefaultPreemption)
//! - [`diagnosis`]: why no node can take a pod, in upstream's words

mod actor;
mod cache;
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

/// Starts a scheduler, until `shutdown`. It fills its cache at once, and decides while the returned leadership says
/// that it leads.
pub fn start(world: &World, client: Client, config: Config, shutdown: Shutdown) -> Leadership {
    let leadership = Leadership::campaign(world, &client, config.election.clone(), &shutdown);
    actor::start(world, client, config, leadership.clone(), shutdown);
    leadership
}

#[cfg(test)]
mod tests;
