//! Controllers: each is an actor that brings one kind of object to its desired state.
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
//! | [`mirroring`] | endpoint slices of Endpoints that users wrote |
//! | [`node`] | conditions and taints of silent nodes, and the pods that must leave them ([`node_health`]) |
//! | [`service_account`] | the `default` service account and the root certificate of each namespace |
//! | [`token`] | tokens in secrets of service accounts |
//! | [`namespace`] | the contents of namespaces that are being deleted, until they are empty |
//! | [`garbage`] | objects whose owners are gone |
//! | [`aggregation`] | the rules of cluster roles that aggregate those of others |
//! | [`pod_garbage`] | pods whose node is gone |
//! | [`context`] | what every controller gets at start |
//! | [`pods`] | conditions of pods; [`ownership`]: controller references; [`not_found`]: objects that are gone |
//! | [`account`] | the identities by which a controller reads and writes |
//!
//! The files in parentheses are pure: decisions without a clock, a cache or a client.

mod account;
mod addresses;
mod aggregation;
mod context;
mod deployment;
mod endpoints;
mod garbage;
mod mirroring;
mod namespace;
mod node;
mod node_health;
mod not_found;
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
    /// The name of this node among those that run controllers.
    pub identity: String,
    /// How long the Lease of the leader lasts without a renewal.
    pub leader_lease: Duration,
    /// How long a node may be silent before it counts as unreachable.
    pub node_grace: Duration,
    /// The certificate authority for pods, PEM.
    pub root_ca: String,
}

/// Starts every controller. They work while this node holds the lease `kube-controller-manager`, and stand by, with
/// their caches filled, while another does.
///
/// `manager` is the controller manager's own client; `account` returns the client of a service account in
/// `kube-system`, with which one controller writes.
pub fn start<E>(
    world: World,
    manager: Client,
    account: impl Fn(&str) -> Result<Client, E>,
    config: Config,
    shutdown: Shutdown,
) -> Result<(), E> {
    let campaign =
        leader_election::Config::new("kube-controller-manager", &config.identity).lasting(config.leader_lease);
    let leadership = Leadership::campaign(&world, &manager, campaign, &shutdown);
    let context = ControllerContext {
        pods: Informer::of(&manager.api::<Pod>())
            .index("node", |pod: &Pod| pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect())
            .start(&world, &shutdown),
        replica_sets: Informer::of(&manager.api::<ReplicaSet>()).start(&world, &shutdown),
        world,
        client: manager.clone(),
        shutdown,
        leadership,
    };
    let of = |name: &str| {
        Ok(ControllerContext { client: account::client(manager.clone(), account(name)?), ..context.clone() })
    };
    replication::start::<ReplicationController>(&of("replication-controller")?, None);
    replication::start(&of("replicaset-controller")?, Some(context.replica_sets.clone()));
    deployment::start(&of("deployment-controller")?);
    let (services, by_hand) = endpoints::start(&of("endpoint-controller")?);
    mirroring::start(&of("endpointslicemirroring-controller")?, &services, &by_hand);
    node::start(&of("node-controller")?, config.node_grace);
    service_account::start(&of("service-account-controller")?, config.root_ca.clone());
    // It issues the tokens of accounts, and so uses none itself.
    token::start(&context, config.root_ca);
    namespace::start(&of("namespace-controller")?);
    garbage::start(&of("generic-garbage-collector")?);
    aggregation::start(&of("clusterrole-aggregation-controller")?);
    pod_garbage::start(&of("pod-garbage-collector")?);
    Ok(())
}
