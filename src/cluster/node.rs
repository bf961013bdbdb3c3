//! One node: starts the actors of its roles in order, from the log upwards, and ends them in the other.
//!
//! ```text
//!   store:      Member                                                (or: the client URLs of a store elsewhere)
//!   apiserver:  ApiFrontend on that store                             (or: the frontends of other nodes)
//!   others:     Scheduler, controllers, Agent on a client of the API
//! ```

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::config::{ClusterConfig, NodeConfig, Role};
use super::member::{InitialMember, Member, MemberError, MemberPlan, Origin};
use super::pki::Pki;
use super::remote::{admin_client, store_client};
use crate::actor::Shutdown;
use crate::agent::{self, CapacitySource, RuntimeChoice};
use crate::apiserver::{self, User};
use crate::disk::log;
use crate::kube;
use crate::world::World;
use crate::world::disk::DirLock;
use crate::{controllers, etcd, raft, scheduler, store};

/// How long a node that ends hands its leadership over and lets requests finish.
const GRACE: Duration = Duration::from_secs(5);

/// Everything a node is started with.
pub struct Plan {
    pub cluster: ClusterConfig,
    pub name: String,
    /// The node's own directory.
    pub data_dir: PathBuf,
    pub pki: Pki,
    /// Whether the API is served over TLS; a simulation does without.
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
    #[error("there is no node {0:?} in the configuration")]
    Unknown(String),
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
    #[error("{0}")]
    Client(#[from] kube::client::RemoteError),
}

/// A running node.
pub struct Node {
    world: World,
    shutdown: Shutdown,
    member: Option<Member>,
    store: store::client::Client,
    frontend: Option<apiserver::Frontend>,
    agent: Option<agent::Handle>,
    _lock: DirLock,
}

impl Node {
    pub async fn start(world: World, plan: Plan) -> Result<Node, NodeError> {
        let node = plan.cluster.node(&plan.name).cloned().ok_or_else(|| NodeError::Unknown(plan.name.clone()))?;
        world.disk.create_dir_all(&plan.data_dir, crate::world::disk::Access::Owner)?;
        let lock = world.disk.lock_dir(&plan.data_dir)?;
        let shutdown = Shutdown::new();

        let (member, store) = if node.has(Role::Store) {
            let member = start_store(&world, &plan, &node, &shutdown).await?;
            let store = member.store().clone();
            (Some(member), store)
        } else {
            (None, store_client(&world, plan.cluster.store_urls(), plan.cluster.store_tls.options())?)
        };
        let frontend = match node.has(Role::Apiserver) {
            true => Some(
                apiserver::Frontend::start(world.clone(), api_config(&plan, &node), store.clone(), shutdown.clone())
                    .await?,
            ),
            false => None,
        };
        let api = Api { world: &world, plan: &plan, frontend: frontend.as_ref() };
        start_control_plane(&world, &plan, &node, &api, &shutdown)?;
        let agent = match node.has(Role::Agent) {
            true => {
                let client = api.client(User::node(&node.name))?;
                Some(agent::start(world.clone(), client, agent_config(&plan, &node), shutdown.clone()).await?)
            }
            false => None,
        };
        Ok(Node { world, shutdown, member, store, frontend, agent, _lock: lock })
    }

    /// The store as this node sees it.
    pub fn store(&self) -> &store::client::Client {
        &self.store
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
    let url = |address: &Option<String>| address.iter().map(|address| format!("http://{address}")).collect::<Vec<_>>();
    let members = plan.cluster.with_role(Role::Store).map(|member| InitialMember {
        name: member.name.clone(),
        peer_urls: url(&member.peer),
        client_urls: url(&member.client),
    });
    let mut config = store::Config::new(plan.data_dir.clone(), Default::default(), Default::default());
    config.election_timeout = timing.election();
    let member = MemberPlan {
        mirror: None,
        name: node.name.clone(),
        data_dir: plan.data_dir.clone(),
        peer_urls: url(&node.peer),
        client_urls: url(&node.client),
        listen_peers: node.peer.iter().cloned().collect(),
        security: raft::Security::default(),
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
            listen: node.client.iter().cloned().collect(),
            name: node.name.clone(),
            election_timeout: timing.election(),
            ..etcd::Config::default()
        },
    };
    Ok(Member::start(world.clone(), member, shutdown.clone()).await?)
}

fn api_config(plan: &Plan, node: &NodeConfig) -> apiserver::Config {
    let pki = &plan.pki;
    let mut config = apiserver::Config::new(pki.service_account_key.clone(), pki.service_account_public.clone());
    config.listen = node.api.clone();
    config.advertise =
        node.api.as_ref().and_then(|api| api.parse().ok()).map(|a: std::net::SocketAddr| (a.ip(), a.port()));
    config.service_cidr = plan.cluster.kubernetes.service_cidr.clone();
    config.toleration_seconds = plan.cluster.kubernetes.eviction_s;
    config.agent_token = pki.kubelet_token.clone();
    config.tls = plan.tls.then(|| apiserver::Tls {
        certificate_pem: pki.server.certificate.clone(),
        key_pem: pki.server.key.clone(),
        client_ca_pem: pki.ca_certificate.clone(),
    });
    config
}

/// How the components of a node reach the API: through its own frontend in the process, else over the network.
struct Api<'a> {
    world: &'a World,
    plan: &'a Plan,
    frontend: Option<&'a apiserver::Frontend>,
}

impl Api<'_> {
    fn client(&self, user: User) -> Result<kube::client::Client, NodeError> {
        if let Some(frontend) = self.frontend {
            return Ok(kube::client::Client::new(frontend.transport(user)));
        }
        let frontends = self.plan.cluster.with_role(Role::Apiserver).filter_map(|node| node.api.clone());
        Ok(admin_client(self.world, &self.plan.pki, frontends.collect())?)
    }
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
        let client = api.client(User::master("system:kube-scheduler"))?;
        let mut config = scheduler::Config::new(&node.name);
        config.election = config.election.lasting(lease);
        scheduler::start(world, client, config, shutdown.clone());
    }
    if node.has(Role::Controllers) {
        let client = api.client(User::master("system:kube-controller-manager"))?;
        let config = controllers::Config {
            identity: node.name.clone(),
            leader_lease: lease,
            node_grace: Duration::from_secs(settings.node_grace_s),
            root_ca: plan.pki.ca_certificate.clone(),
        };
        controllers::start(world.clone(), client, config, shutdown.clone());
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
        token: plan.pki.kubelet_token.clone(),
        labels: Default::default(),
        notebook: true,
    }
}
