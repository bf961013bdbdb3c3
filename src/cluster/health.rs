//! How far each node of a local cluster has come, asked the way a user would: over its sockets.

use std::fmt;
use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Node};

use super::config::{NodeConfig, Role};
use super::http;
use super::local::{LocalCluster, LocalError};
use super::pki::Holder;
use super::remote::{api_client, store_client};
use crate::kube;
use crate::store;
use crate::world::World;
use crate::world::net::{Address, Dialler};
use crate::world::roster::Component;

/// A node that does not answer within this is not there.
const PATIENCE: Duration = Duration::from_millis(500);

/// The stages in which a node comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Starting,
    /// Its store answers but knows no leader.
    WaitingForLeader,
    /// Its store has a leader; its API does not answer yet.
    WaitingForApi,
    /// Its API answers; its Node object is not Ready yet.
    WaitingForNode,
    Ready,
}

impl Health {
    pub fn is_ready(self) -> bool {
        self == Health::Ready
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Health::Starting => "starting",
            Health::WaitingForLeader => "waiting for a leader",
            Health::WaitingForApi => "waiting for its API",
            Health::WaitingForNode => "registering its node",
            Health::Ready => "ready",
        })
    }
}

/// What a member of the store says of itself.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    pub version: String,
    pub is_leader: bool,
    pub has_leader: bool,
    pub term: u64,
    pub revision: i64,
    pub bytes: i64,
}

/// Asks the nodes of a cluster. Keeps its connections.
pub struct Prober {
    world: World,
    nodes: Vec<Probe>,
    /// Clients of all frontends: any of them tells whether a node is Ready.
    api: Option<kube::client::Client>,
}

struct Probe {
    config: NodeConfig,
    store: Option<store::client::Client>,
    api: Option<kube::client::Client>,
}

impl Prober {
    pub fn new(world: &World, cluster: &LocalCluster) -> Result<Prober, LocalError> {
        let pki = cluster.pki(world)?;
        let mut nodes = Vec::new();
        for node in &cluster.config.nodes {
            let store = cluster.config.client_url(node).filter(|_| node.has(Role::Store));
            let tls = match &node.client_tls {
                Some(files) => files.options(),
                None => pki.tls(Holder::Admin, [Holder::Member(&node.name).common_name()]),
            };
            let store = store.map(|url| store_client(world, vec![url], tls)).transpose()?;
            let api = node.api.as_ref().filter(|_| node.has(Role::Apiserver));
            let api = api.map(|api| api_client(world, &pki, Holder::Admin, vec![api.clone()])).transpose()?;
            nodes.push(Probe { config: node.clone(), store, api });
        }
        let apis: Vec<String> = cluster.config.with_role(Role::Apiserver).filter_map(|node| node.api.clone()).collect();
        let api = if apis.is_empty() { None } else { Some(api_client(world, &pki, Holder::Admin, apis)?) };
        Ok(Prober { world: world.clone(), nodes, api })
    }

    /// The health of every node, in the order of the configuration.
    pub async fn probe(&self) -> Vec<Health> {
        let ready = self.ready_nodes().await;
        join_all(self.nodes.iter().map(|node| self.health(node, &ready))).await
    }

    async fn health(&self, node: &Probe, ready: &[String]) -> Health {
        if node.store.is_some() {
            match self.status_of(node).await {
                None => return Health::Starting,
                Some(status) if !status.has_leader => return Health::WaitingForLeader,
                Some(_) => {}
            }
        }
        if let Some(api) = &node.api {
            let answer = self.world.clock.timeout(PATIENCE, api.api::<Namespace>().get("default")).await;
            if !matches!(answer, Ok(Ok(_))) {
                return Health::WaitingForApi;
            }
        }
        if node.config.has(Role::Agent) && !ready.contains(&node.config.name) {
            return Health::WaitingForNode;
        }
        Health::Ready
    }

    /// What each member of the store says, in the order of the configuration; `None` where there is none or it does
    /// not answer.
    pub async fn store_status(&self) -> Vec<Option<StoreStatus>> {
        join_all(self.nodes.iter().map(|node| self.status_of(node))).await
    }

    /// The long-lived components of each node that is a member of the store, in the order of the configuration; `None`
    /// where a node is none or does not answer.
    pub async fn components(&self) -> Vec<Option<Vec<Component>>> {
        join_all(self.nodes.iter().map(|node| self.components_of(node))).await
    }

    async fn components_of(&self, node: &Probe) -> Option<Vec<Component>> {
        let client = node.config.client.as_ref().filter(|_| node.store.is_some())?;
        let address = Address::parse(&format!("http://{client}")).ok()?;
        let dialler = Dialler { address, tls: None, local: None };
        let answer = self.world.clock.timeout(PATIENCE, http::get(&self.world, &dialler, "/debug/actors")).await;
        let (_, body) = answer.ok()?.ok()?;
        serde_json::from_slice(&body).ok()
    }

    async fn status_of(&self, node: &Probe) -> Option<StoreStatus> {
        let store = node.store.as_ref()?;
        let answer = self.world.clock.timeout(PATIENCE, store.status(pb::StatusRequest {})).await;
        let status = answer.ok()?.ok()?;
        let header = status.header.unwrap_or_default();
        Some(StoreStatus {
            version: status.version,
            is_leader: status.leader == header.member_id,
            has_leader: status.leader != 0,
            term: status.raft_term,
            revision: header.revision,
            bytes: status.db_size,
        })
    }

    /// The names of the Node objects that are Ready.
    pub async fn ready_nodes(&self) -> Vec<String> {
        let Some(api) = &self.api else { return Vec::new() };
        let list = self.world.clock.timeout(PATIENCE, async { api.api::<Node>().list(Default::default()).await }).await;
        let Ok(Ok(list)) = list else { return Vec::new() };
        list.items.into_iter().filter(is_ready).filter_map(|node| node.metadata.name).collect()
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}
