//! One member of the store: its state, its replica and its etcd frontend, started from the log upwards.
//!
//! ```text
//!   MemberPlan ─▶ Store::open ─▶ Replica ─▶ Store ─▶ etcd::Frontend
//!        └ identity: kept in the data directory, derived from the first cluster where there is none
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::heal::{self, HealError};
use crate::actor::Shutdown;
use crate::disk::log;
use crate::raft::{self, identity};
use crate::world::disk::Access;
use crate::world::{Disk, NodeId, World};
use crate::{etcd, store};

/// How long a member that ends may take to hand its leadership over.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How long a member that was removed goes on.
const FAREWELL: Duration = Duration::from_secs(1);
/// The file that keeps a member's identity.
const IDENTITY: &str = "identity.json";

/// Everything a member is started with.
#[derive(Clone, Debug)]
pub struct MemberPlan {
    pub name: String,
    /// The member's own directory. It exists, and no other process uses it.
    pub data_dir: PathBuf,
    /// Where other members reach this one, as URLs.
    pub peer_urls: Vec<String>,
    /// Where clients reach this one, as URLs.
    pub client_urls: Vec<String>,
    /// Where peers are served, as URLs; a bare `host:port` is one of `http`.
    pub listen_peers: Vec<String>,
    /// How members tell each other from strangers.
    pub security: raft::Security,
    /// What a member whose directory is empty belongs to.
    pub origin: Origin,
    /// Should its files be damaged, have its peers replace it by a new member that starts with nothing.
    pub heal_from_peers: bool,
    /// Make this member the only one and keep its data, if it has run before.
    pub force_new_cluster: bool,
    /// What it asks of changes of the membership.
    pub rules: raft::Rules,
    /// Whether a member that has data compares them with its peers' before it serves.
    pub check_initially: bool,
    /// Where a copy of the log is kept as etcd writes it, for tools.
    pub mirror: Option<PathBuf>,
    pub timings: raft::Timings,
    pub limits: raft::Limits,
    /// Sizes of the log.
    pub log: log::Options,
    /// The member's and the cluster's ID in here are filled in at start.
    pub store: store::Config,
    pub frontend: etcd::Config,
}

/// How a member comes to its identity and its first membership. A member that has both ignores it.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A new cluster of these members, each of which is given the same list and the same token.
    New { members: Vec<InitialMember>, token: String },
    /// A cluster that runs already, to which this member was added.
    Existing { node: NodeId, cluster: raft::ClusterId },
}

/// A member of a new cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    pub name: String,
    pub peer_urls: Vec<String>,
    /// May be left empty: a member tells the others once it has started.
    pub client_urls: Vec<String>,
}

/// Why a member did not start. Surface it: it names the file, the address or the field.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The identity of the member cannot be read: restore the file, or replace this member by a new one.
    #[error("{path} does not tell which member this is: {message}")]
    Identity { path: PathBuf, message: String },
    #[error("couldn't find local name {name:?} in the initial cluster configuration")]
    NotInitial { name: String },
    /// Never served. The damaged files are left as they are.
    #[error("{0}; start this member once with --heal-from-peers to have its peers replace it")]
    Damaged(Box<MemberError>),
    #[error("{damage}; not healed: {source}")]
    NotHealed { damage: Box<MemberError>, source: Box<MemberError> },
    #[error(transparent)]
    Heal(#[from] HealError),
    #[error(transparent)]
    Open(#[from] store::OpenError),
    #[error(transparent)]
    Migrate(#[from] store::migrate::Error),
    #[error("etcd's data was not taken over: {0}")]
    NotTakenOver(#[source] store::migrate::Error),
    #[error(transparent)]
    Inconsistent(#[from] store::Inconsistent),
    #[error(transparent)]
    Replica(#[from] raft::Error),
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
}

impl MemberError {
    /// Stored files are damaged, or not all there.
    fn is_damage(&self) -> bool {
        matches!(
            self,
            MemberError::Identity { .. }
                | MemberError::Open(store::OpenError::Damaged { .. })
                | MemberError::Replica(raft::Error::Damaged { .. })
        )
    }
}

/// Which member of which cluster a data directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub node: NodeId,
    #[serde(rename = "cluster")]
    cluster_id: u64,
    /// Of both. Earlier releases wrote none.
    #[serde(default)]
    crc: Option<u32>,
}

impl Identity {
    pub fn cluster(&self) -> raft::ClusterId {
        raft::ClusterId(self.cluster_id)
    }

    /// What a member keeps in its data directory.
    pub(super) const FILES_OF_A_MEMBER: [&str; 3] = ["wal", "state", IDENTITY];

    /// Whether a member has started in `data_dir`.
    pub fn is_kept(disk: &Disk, data_dir: &Path) -> bool {
        disk.exists(&data_dir.join(IDENTITY))
    }

    /// The identity that `data_dir` keeps; nothing when no member has started there.
    pub fn read(disk: &Disk, data_dir: &Path) -> Result<Option<Identity>, MemberError> {
        let path = data_dir.join(IDENTITY);
        if !disk.exists(&path) {
            return Ok(None);
        }
        let kept: Result<Identity, _> = serde_json::from_slice(&disk.read(&path)?);
        match kept {
            Ok(kept) if kept.crc.is_none_or(|crc| Some(crc) == Identity::new(kept.node, kept.cluster()).crc) => {
                Ok(Some(kept))
            }
            Ok(_) => Err(MemberError::Identity { path, message: "the checksum does not match".to_owned() }),
            Err(error) => Err(MemberError::Identity { path, message: error.to_string() }),
        }
    }

    pub fn new(node: NodeId, cluster: raft::ClusterId) -> Identity {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&node.0.to_le_bytes()), &cluster.0.to_le_bytes());
        Identity { node, cluster_id: cluster.0, crc: Some(crc) }
    }

    /// The name and the content of the file that keeps it.
    pub fn file(&self) -> (String, Vec<u8>) {
        (IDENTITY.to_owned(), serde_json::to_vec(self).expect("two numbers are JSON"))
    }

    pub(super) fn keep(&self, disk: &Disk, data_dir: &Path) -> std::io::Result<()> {
        let (name, content) = self.file();
        disk.replace(&data_dir.join(name), &content, Access::Owner)
    }
}

/// A running member.
pub struct Member {
    world: World,
    identity: Identity,
    replica: raft::Handle,
    store: store::client::Client,
    frontend: etcd::Frontend,
}

impl Member {
    /// Starts the member; it serves when this returns, though it may not know a leader yet. It ends with
    /// [`stop`](Member::stop), after `shutdown` began.
    pub async fn start(world: World, plan: MemberPlan, shutdown: Shutdown) -> Result<Member, MemberError> {
        heal::finish(&world.disk, &plan.data_dir)?;
        let damage = match Member::start_on(world.clone(), plan.clone(), shutdown.clone()).await {
            Err(error) if error.is_damage() => Box::new(error),
            started => return started,
        };
        if !plan.heal_from_peers {
            return Err(MemberError::Damaged(damage));
        }
        tracing::error!(error = %damage, "files of this member are damaged");
        match heal::heal(&world, &plan).await {
            Ok(origin) => Member::start_on(world, MemberPlan { origin, ..plan }, shutdown).await,
            Err(source) => Err(MemberError::NotHealed { damage, source: Box::new(source) }),
        }
    }

    /// Starts on files as they are.
    async fn start_on(world: World, plan: MemberPlan, shutdown: Shutdown) -> Result<Member, MemberError> {
        let restarts = Identity::read(&world.disk, &plan.data_dir)?.is_some();
        let (identity, bootstrap) = identify(&world, &plan)?;
        let config = store::Config { node: identity.node, cluster: identity.cluster(), ..plan.store.clone() };
        let (machine, opened) = store::Store::open(&world, config)?;
        if plan.heal_from_peers {
            store::Store::verify(&opened)?;
        }
        let mut machine: Box<dyn raft::machine::Machine> = Box::new(machine);
        if let Some(directory) = &plan.mirror {
            let who = (identity.node, identity.cluster());
            machine = store::mirror(&world, &plan.data_dir, directory, who, machine).await?;
        }
        let config = replica_config(&plan, identity, bootstrap);
        let replica = raft::Replica::start(world.clone(), config, machine).await?;
        let local = store::Store::start(&world, opened, replica.clone(), shutdown.clone());
        if restarts && plan.check_initially {
            local.check_initially().await?;
        }
        let mut frontend = plan.frontend;
        frontend.metrics.add(local.metrics());
        frontend.metrics.add(replica.metrics());
        let store = store::client::Client::new(local);
        replica.answer_http_with(Box::new(etcd::peer_http(store.clone(), plan.store.version)));
        let frontend = etcd::Frontend::start(world.clone(), frontend, store.clone(), shutdown).await?;
        Ok(Member { world, identity, replica, store, frontend })
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn replica(&self) -> &raft::Handle {
        &self.replica
    }

    pub fn store(&self) -> &store::client::Client {
        &self.store
    }

    /// The member's client listeners.
    pub fn frontend(&self) -> &etcd::Frontend {
        &self.frontend
    }

    /// Resolves once the member knows a leader and the cluster knows where clients reach this member.
    pub async fn ready(&self) {
        let mut leadership = self.replica.leadership();
        // An error means that the replica is gone; the caller hears of that elsewhere.
        let _ = leadership.wait_for(|known| known.leader.is_some()).await;
        self.replica.published().await;
    }

    /// Resolves once the member has been removed from the cluster for good, and answers that were under way have had a
    /// moment to leave: the process should end, and its data directory is of no use any more.
    pub async fn removed(&self) {
        self.replica.removed().await;
        self.world.clock.sleep(FAREWELL).await;
    }

    /// Gives leadership to another voting member, if this one leads and another answers.
    pub async fn hand_over(&self) {
        match self.replica.hand_over().await {
            Some(successor) => tracing::info!("transferee-id" = %successor, "leadership transfer finished"),
            None => tracing::info!("skipped leadership transfer; this member does not lead, or no other answers"),
        }
    }

    /// Ends the replica, after the member's shutdown began and its frontend had time to drain.
    pub async fn stop(&self) {
        let _ = self.world.clock.timeout(HAND_OVER, self.replica.shutdown()).await;
    }
}

pub(super) fn replica_config(plan: &MemberPlan, identity: Identity, bootstrap: raft::Bootstrap) -> raft::Config {
    let plan = plan.clone();
    raft::Config {
        node: identity.node,
        cluster: identity.cluster(),
        name: plan.name,
        client_urls: plan.client_urls,
        data_dir: plan.data_dir,
        listen: plan.listen_peers,
        security: plan.security,
        bootstrap,
        force_new_cluster: plan.force_new_cluster,
        rules: plan.rules,
        version: plan.store.version,
        timings: plan.timings,
        limits: plan.limits,
        log: plan.log,
    }
}

/// Which member this is, and how it comes to its first membership should its log be empty.
fn identify(world: &World, plan: &MemberPlan) -> Result<(Identity, raft::Bootstrap), MemberError> {
    let kept = Identity::read(&world.disk, &plan.data_dir)?;
    let (derived, bootstrap) = match &plan.origin {
        Origin::Existing { node, cluster } => (Some(Identity::new(*node, *cluster)), raft::Bootstrap::Join),
        Origin::New { members, token } => {
            let this = members.iter().find(|member| member.name == plan.name);
            let members: Vec<raft::Member> = members.iter().map(|member| first_member(member, token)).collect();
            let cluster_id = identity::cluster_id(members.iter().map(|member| member.id));
            let cluster = raft::ClusterId(cluster_id);
            let derived = this.map(|this| Identity::new(identity::member_id(&this.peer_urls, token), cluster));
            (derived, raft::Bootstrap::New(members))
        }
    };
    if let Some(kept) = kept {
        // One that came later, or in the place of a first member, has nothing to begin a cluster with.
        let first = derived.is_some_and(|derived| derived.node == kept.node);
        return Ok((kept, if first { bootstrap } else { raft::Bootstrap::Join }));
    }
    let derived = derived.ok_or_else(|| MemberError::NotInitial { name: plan.name.clone() })?;
    derived.keep(&world.disk, &plan.data_dir)?;
    Ok((derived, bootstrap))
}

fn first_member(member: &InitialMember, token: &str) -> raft::Member {
    raft::Member {
        id: identity::member_id(&member.peer_urls, token),
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        learner: false,
    }
}
