//! One node: starts the actors of its roles in order, from the log upwards, and ends them in the other.
//!
//! ```text
//!   store:      Member                                                (or: the client URLs of a store elsewhere)
//!   apiserver:  apiserver::Frontend on that store                     (or: the frontends of other nodes)
//!   others:     Scheduler, controllers, Agent on a client of the API
//! ```

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::components::Api;
use super::config::{ClusterConfig, NodeConfig, Role};
use super::member::{Member, MemberError};
use super::member_plan::{InitialMember, MemberPlan, Origin};
use super::member_ports::Ports;
use super::pki::{Holder, Pki, PkiError};
use super::remote::{ClientError, frontend_store_client};
use crate::actor::Shutdown;
use crate::agent::{self, CapacitySource, RuntimeChoice};
use crate::apiserver::{self, User};
use crate::disk::log;
use crate::kube;
use crate::world::disk::DirLock;
use crate::world::{World, tls};
use crate::{controllers, etcd, raft, scheduler, store};

/// How long a node that ends hands its leadership over and lets requests finish.
const GRACE: Duration = Duration::from_secs(5);

/// Of users whose name says it all.
const NO_GROUPS: [&str; 0] = [];

/// Everything a node is started with.
pub struct Plan {
    pub cluster: ClusterConfig,
    pub name: String,
    /// The node's own directory.
    pub data_dir: PathBuf,
    pub pki: Pki,
    /// Whether there is TLS at all; a simulation does without.
    pub tls: bool,
    pub runtime: RuntimeChoice,
    pub capacity: CapacitySource,
    /// Should the files of the store be damaged, have its peers replace this member.
    pub heal_from_peers: bool,
    /// Sizes of the store's log; a simulation keeps it small.
    pub log: log::Options,
}

/// Why a node did not start. Surface it: it names the file, the address or the field.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("there is no node {name:?} in the configuration; it has {known}")]
    Unknown { name: String, known: String },
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error(transparent)]
    Store(#[from] store::BadEndpoint),
    #[error(transparent)]
    Api(#[from] apiserver::Error),
    #[error(transparent)]
    Agent(#[from] agent::Error),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// A running node.
pub struct Node {
    world: World,
    shutdown: Shutdown,
    member: Option<Member>,
    /// Where a component of this node speaks to it.
    store: Option<store::client::Client>,
    frontend: Option<apiserver::Frontend>,
    agent: Option<agent::Handle>,
    _lock: DirLock,
}

impl Node {
    pub async fn start(world: World, plan: Plan) -> Result<Node, NodeError> {
        let node = plan
            .cluster
            .node(&plan.name)
            .cloned()
            .ok_or_else(|| NodeError::Unknown { name: plan.name.clone(), known: plan.cluster.names() })?;
        world.disk.create_dir_all(&plan.data_dir, crate::world::disk::Access::Owner)?;
        let lock = world.disk.lock_dir(&plan.data_dir)?;
        let shutdown = Shutdown::new();

        let (member, store) = if node.has(Role::Store) {
            let member = start_store(&world, &plan, &node, &shutdown).await?;
            let store = member.store().clone();
            (Some(member), Some(store))
        } else if node.has(Role::Apiserver) {
            (None, Some(frontend_store_client(&world, &plan.pki, &plan.cluster)?))
        } else {
            (None, None)
        };
        let frontend = match store.clone().filter(|_| node.has(Role::Apiserver)) {
            Some(store) => {
                let config = api_config(&plan, &node)?;
                Some(apiserver::Frontend::start(world.clone(), config, store, shutdown.clone()).await?)
            }
            None => None,
        };
        let api = Api::new(&world, &plan.pki, &plan.cluster, frontend.clone());
        start_control_plane(&world, &plan, &node, &api, &shutdown)?;
        let agent = match node.has(Role::Agent) {
            true => {
                let client = api.client(User::node(&node.name), Holder::Agent(&node.name))?;
                Some(agent::start(world.clone(), client, agent_config(&plan, &node), shutdown.clone()).await?)
            }
            false => None,
        };
        Ok(Node { world, shutdown, member, store, frontend, agent, _lock: lock })
    }

    /// The store as this node sees it, if it does.
    pub fn store(&self) -> Option<&store::client::Client> {
        self.store.as_ref()
    }

    /// The member of the store, where this node is one.
    pub fn replica(&self) -> Option<&raft::Handle> {
        self.member.as_ref().map(Member::replica)
    }

    /// A client of this node's own frontend, as an administrator.
    pub fn admin(&self) -> Option<kube::client::Client> {
        let frontend = self.frontend.as_ref()?;
        Some(kube::client::Client::new(frontend.transport(User::master("kubernetes-admin"))))
    }

    /// Which runtime the agent uses.
    pub fn runtime(&self) -> Option<&'static str> {
        self.agent.as_ref().map(|agent| agent.runtime())
    }

    /// Ends the node in order: components first, then the replica, which hands leadership over if it has it.
    pub async fn stop(self) {
        self.shutdown.begin();
        if let Some(member) = &self.member {
            let _ = self.world.clock.timeout(GRACE, member.replica().shutdown()).await;
        }
    }
}

async fn start_store(world: &World, plan: &Plan, node: &NodeConfig, shutdown: &Shutdown) -> Result<Member, NodeError> {
    let timing = &plan.cluster.timing;
    let ports = match plan.tls {
        true => Ports::decide(&world.disk, &plan.data_dir, &plan.cluster, node)?,
        false => Ports::plain(),
    };
    let members = plan.cluster.with_role(Role::Store).map(|member| InitialMember {
        name: member.name.clone(),
        peer_urls: ports.peer_urls(member),
        client_urls: ports.client_urls(member),
    });
    let mut config = store::Config::new(plan.data_dir.clone(), Default::default(), Default::default());
    config.election_timeout = timing.election();
    let member = MemberPlan {
        mirror: None,
        name: node.name.clone(),
        data_dir: plan.data_dir.clone(),
        peer_urls: ports.peer_urls(node),
        client_urls: ports.client_urls(node),
        listen_peers: ports.peer_urls(node),
        security: raft::Security { tls: ports.peer_tls(&plan.pki, &plan.cluster, node), ..raft::Security::default() },
        origin: Origin::New { members: members.collect(), token: plan.cluster.name.clone() },
        heal_from_peers: plan.heal_from_peers,
        force_new_cluster: false,
        rules: raft::Rules::default(),
        check_initially: false,
        timings: raft::Timings::new(timing.heartbeat(), timing.election()),
        limits: raft::Limits::default(),
        log: plan.log,
        store: config,
        frontend: etcd::Config {
            listen: ports.listen_clients(node),
            tls: ports.client_tls(&plan.pki, node),
            name: node.name.clone(),
            election_timeout: timing.election(),
            ..etcd::Config::default()
        },
    };
    Ok(Member::start(world.clone(), member, shutdown.clone()).await?)
}

fn api_config(plan: &Plan, node: &NodeConfig) -> Result<apiserver::Config, PkiError> {
    let pki = &plan.pki;
    let mut config = apiserver::Config::new(pki.service_account_key.clone(), pki.service_account_public.clone());
    config.listen = node.api.clone();
    config.advertise =
        node.api.as_ref().and_then(|api| api.parse().ok()).map(|a: std::net::SocketAddr| (a.ip(), a.port()));
    config.service_cidr = plan.cluster.kubernetes.service_cidr.clone();
    config.toleration_seconds = plan.cluster.kubernetes.eviction_s;
    if plan.tls {
        let pair = pki.pair(Holder::Frontend)?;
        let client_ca_pem = pki.ca_certificate.clone();
        config.tls = Some(apiserver::Tls { certificate_pem: pair.certificate, key_pem: pair.key, client_ca_pem });
        config.agent_tls = Some(pki.tls(Holder::FrontendToAgent, []));
    }
    Ok(config)
}

fn start_control_plane(
    world: &World,
    plan: &Plan,
    node: &NodeConfig,
    api: &Api<'_>,
    shutdown: &Shutdown,
) -> Result<(), NodeError> {
    let settings = &plan.cluster.kubernetes;
    let lease = Duration::from_secs(settings.leader_lease_s);
    if node.has(Role::Scheduler) {
        let client = api.client(User::new("system:kube-scheduler", NO_GROUPS), Holder::Scheduler)?;
        let mut config = scheduler::Config::new(&node.name);
        config.election = config.election.lasting(lease);
        scheduler::start(world, client, config, shutdown.clone());
    }
    if node.has(Role::Controllers) {
        let manager = User::new("system:kube-controller-manager", NO_GROUPS);
        let manager = api.client(manager, Holder::ControllerManager)?;
        let config = controllers::Config {
            identity: node.name.clone(),
            leader_lease: lease,
            node_grace: Duration::from_secs(settings.node_grace_s),
            root_ca: plan.pki.ca_certificate.clone(),
        };
        let account = |name: &str| api.controller(&manager, name);
        controllers::start(world.clone(), manager.clone(), account, config, shutdown.clone())?;
    }
    Ok(())
}

fn agent_config(plan: &Plan, node: &NodeConfig) -> agent::Config {
    let listen = node.kubelet.clone().expect("a checked configuration gives every agent a kubelet address");
    let host = listen.rsplit_once(':').map_or(listen.as_str(), |(host, _)| host);
    agent::Config {
        node_name: node.name.clone(),
        cluster: plan.pki.cluster_uid(),
        runtime: plan.runtime,
        capacity: plan.capacity,
        data_dir: plan.data_dir.clone(),
        address: host.parse().unwrap_or(IpAddr::from([127, 0, 0, 1])),
        listen,
        tls: plan.tls.then(|| tls::Options {
            client_cert_optional: true,
            http1_only: true,
            ..plan.pki.tls(Holder::AgentServer(&node.name), [])
        }),
        labels: Default::default(),
        node_lease_duration: Duration::from_secs(plan.cluster.kubernetes.node_grace_s),
        notebook: true,
    }
}
