//! One member of the store: its state, its replica and its etcd frontend, started from the log upwards.
//!
//! ```text
//!   MemberPlan ─▶ Store::open ─▶ Replica ─▶ Store ─▶ etcd::Frontend
//!        └ identity: kept in the data directory, derived from the first cluster where there is none
//! ```

use std::time::Duration;

use super::heal::{self, HealError};
use super::identity::{Identity, IdentityError};
use super::member_plan::{InitialMember, MemberPlan, Origin};
use crate::actor::Shutdown;
use crate::raft::{self, identity};
use crate::world::World;
use crate::{etcd, store};

/// How long a member that ends may take to hand its leadership over.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How long a member that was removed goes on.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a member did not start. Surface it: it names the file, the address or the field.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("couldn't find local name {name:?} in the initial cluster configuration")]
    NotInitial { name: String },
    /// Never served. The damaged files are left as they are.
    #[error("{0}; start this member once with --heal-from-peers to have its peers replace it")]
    Damaged(Box<MemberError>),
    #[error("{damage}; not healed: {source}")]
    NotHealed { damage: Box<MemberError>, source: HealError },
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
            MemberError::Identity(IdentityError::Unreadable { .. })
                | MemberError::Open(store::OpenError::Damaged { .. })
                | MemberError::Replica(raft::Error::Damaged { .. })
        )
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
            Err(source) => Err(MemberError::NotHealed { damage, source }),
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
        let config = plan.replica_config(identity, bootstrap);
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
