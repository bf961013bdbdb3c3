//! Controllers: each an actor that brings one kind of object from what it is to what it should be.
//!
//! ```text
//!            watches                       writes
//!   API ──────────────▶ Caches (informers) ──▶ controller: queue of keys ─▶ reconcile(key) ──▶ API
//!                                                 ▲
//!                             Leadership (a Lease): one node works, the others stand by
//! ```
//!
//! | file | keeps |
//! |---|---|
//! | [`replication`] | as many pods as a ReplicationController or ReplicaSet asks for ([`replicas`], [`workload`]) |
//! | [`deployment`] | a Deployment's replica sets, one revision after the other |
//! | [`endpoints`] | the Endpoints and endpoint slices of services ([`addresses`], [`slices`]) |
//! | [`mirroring`] | endpoint slices of Endpoints that were written by hand |
//! | [`node`] | conditions and taints of silent nodes, and the pods that must leave them ([`node_health`]) |
//! | [`service_account`] | the `default` service account and the root certificate of each namespace |
//! | [`token`] | tokens in secrets of service accounts |
//! | [`namespace`] | the emptying of namespaces that are to be deleted |
//! | [`garbage`] | objects whose owners are gone |
//! | [`aggregation`] | the rules of cluster roles that gather those of others |
//! | [`pod_garbage`] | pods whose node is gone |
//! | [`context`] | what they are all started with |
//! | [`pods`] | what they all ask of a pod; [`ownership`]: whose an object is; [`gone`]: and if it is gone |
//!
//! The files in parentheses are pure: decisions without a clock, a cache or a client.

mod addresses;
mod aggregation;
mod context;
mod deployment;
mod endpoints;
mod garbage;
mod gone;
mod mirroring;
mod namespace;
mod node;
mod node_health;
mod ownership;
mod pod_garbage;
mod pods;
mod replicas;
mod replication;
mod service_account;
mod slices;
mod token;
mod workload;

#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};

use crate::actor::Shutdown;
use crate::kube::client::Client;
use crate::kube::informer::Informer;
use crate::kube::leader_election::{self, Leadership};
use crate::world::World;
use context::ControllerContext;

/// How the controllers of a node are started.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this is among the nodes that run controllers.
    pub identity: String,
    /// How long a silent node that led is still taken for alive.
    pub leader_lease: Duration,
    /// How long a node may be silent before it counts as unreachable.
    pub node_grace: Duration,
    /// The certificate authority that pods are given, PEM.
    pub root_ca: String,
}

/// Starts every controller. They work while this node holds the lease `kube-controller-manager`, and stand by, with
/// their caches filled, while another does.
pub fn start(world: World, client: Client, config: Config, shutdown: Shutdown) {
    let campaign =
        leader_election::Config::new("kube-controller-manager", &config.identity).lasting(config.leader_lease);
    let leadership = Leadership::campaign(&world, &client, campaign, &shutdown);
    let context = ControllerContext {
        pods: Informer::of(&client.api::<Pod>())
            .index("node", |pod: &Pod| pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect())
            .start(&world, &shutdown),
        replica_sets: Informer::of(&client.api::<ReplicaSet>()).start(&world, &shutdown),
        world,
        client,
        shutdown,
        leadership,
    };
    replication::start::<ReplicationController>(&context, None);
    replication::start(&context, Some(context.replica_sets.clone()));
    deployment::start(&context);
    let (services, by_hand) = endpoints::start(&context);
    mirroring::start(&context, &services, &by_hand);
    node::start(&context, config.node_grace);
    service_account::start(&context, config.root_ca.clone());
    token::start(&context, config.root_ca);
    namespace::start(&context);
    garbage::start(&context);
    aggregation::start(&context);
    pod_garbage::start(&context);
}
