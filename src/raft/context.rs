//! What the parts of a replica share, and how they call the other members.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::type_config::alias::WatchReceiverOf;
use tokio::task::JoinHandle;

use super::change::{Change, ChangeError, ChangeRequest, ChangeResult};
use super::cluster_space::ClusterSpace;
use super::member::members_of;
use super::membership;
use super::membership_view::MembershipView;
use super::peer_http::PlainHttp;
use super::peers::{CallError, Peers, Purpose, head};
use super::state_machine::Raft;
use super::store_questions::StoreQuestions;
use super::types::{Membership, Types};
use super::wire::{CHANGE, HELLO, Hello};
use super::{Leadership, Member, Rules, Timings};
use crate::actor::Shutdown;
use crate::disk::LogHandle;
use crate::world::{NodeId, World};

pub(super) type ServerMetrics = WatchReceiverOf<Types, RaftServerMetrics<Types>>;

/// Limit of an answer while this member starts.
const HELLO_LIMIT: Duration = Duration::from_millis(250);
/// How long open calls may take to end on their own when the replica stops.
const LINGER: Duration = Duration::from_millis(500);

/// What the handle, the peer port and the tasks of a replica share.
#[derive(Clone)]
pub(super) struct ReplicaContext {
    pub world: World,
    pub raft: Raft,
    pub peers: Arc<Peers>,
    pub store_questions: StoreQuestions,
    pub plain_http: PlainHttp,
    pub node: NodeId,
    pub membership_view: MembershipView,
    pub space: ClusterSpace,
    pub rules: Rules,
    pub timings: Timings,
    pub shutdown: Shutdown,
}

impl ReplicaContext {
    pub fn metrics(&self) -> ServerMetrics {
        self.raft.server_metrics()
    }

    pub fn membership(&self) -> Membership {
        self.metrics().borrow_watched().membership_config.membership().clone()
    }

    /// The members, by ID, as this member has applied them; before that, as its log has them.
    pub fn members(&self) -> Vec<Member> {
        let applied = self.membership_view.applied.borrow().members();
        if applied.is_empty() { members_of(&self.membership()) } else { applied }
    }

    /// Waits for a change of the metrics; false when the replica has ended.
    pub async fn changed(&self, metrics: &mut ServerMetrics) -> bool {
        tokio::select! {
            biased;
            () = self.shutdown.wait() => false,
            changed = metrics.changed() => changed.is_ok(),
        }
    }

    /// Sleeps; false when the replica has ended.
    pub async fn rest(&self, duration: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.shutdown.wait() => false,
            () = self.world.clock.sleep(duration) => true,
        }
    }

    pub fn others(&self, membership: &Membership) -> Vec<u64> {
        membership.nodes().map(|(id, _)| *id).filter(|id| *id != self.node.0).collect()
    }

    /// Asks another member for its state.
    pub async fn greet(&self, id: u64, limit: Duration) -> Result<Hello, CallError> {
        self.peers.call(id, Purpose::Control, HELLO, head(&self.node.0), limit).await
    }

    /// Makes a change here when this member leads, else through the leader.
    pub async fn submit(&self, change: Change) -> ChangeResult {
        let known = Leadership::of(&self.metrics().borrow_watched());
        let request = ChangeRequest { change, rules: self.rules };
        match known.leader {
            _ if known.is_leader => {
                membership::execute(&self.raft, request, self.membership_view.known_members()).await
            }
            Some(leader) => {
                let limit = self.timings.election.end * 3;
                let answer = self.peers.call(leader.0, Purpose::Control, CHANGE, head(&request), limit).await;
                answer.unwrap_or_else(|error| {
                    tracing::debug!(%error, "the leader did not answer a membership change");
                    Err(match error {
                        CallError::Unreached { .. } => ChangeError::NotLeader,
                        CallError::Failed { .. } | CallError::Timeout { .. } => ChangeError::Unknown,
                    })
                })
            }
            None => Err(ChangeError::NotLeader),
        }
    }

    /// The voter to hand leadership to: one that is reachable and `fit`, and has the longest log of those.
    pub fn successor(&self, fit: impl Fn(u64) -> bool) -> Option<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref()?;
        let others = metrics.membership_config.voter_ids().filter(|id| *id != self.node.0);
        let able = others.filter(|id| self.membership_view.is_active(*id) && fit(*id));
        able.max_by_key(|id| replication.get(id).cloned().flatten()).map(NodeId)
    }

    /// The states of the other members of `membership`, of those that answer.
    pub async fn ask_around(&self, membership: &Membership) -> Vec<(u64, Hello)> {
        self.ask_around_within(membership, HELLO_LIMIT).await
    }

    /// As [`ask_around`](Self::ask_around), with `limit` for each answer.
    pub async fn ask_around_within(&self, membership: &Membership, limit: Duration) -> Vec<(u64, Hello)> {
        let ask = async |id: u64| self.greet(id, limit).await.ok().map(|hello| (id, hello));
        join_all(self.others(membership).into_iter().map(ask)).await.into_iter().flatten().collect()
    }

    /// Ends consensus, the peer port and the log, in this order.
    pub async fn end(&self, mut server: JoinHandle<()>, log: &LogHandle) {
        self.shutdown.begin();
        log.give_up();
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "stopping consensus failed");
        }
        if self.world.clock.timeout(LINGER, &mut server).await.is_err() {
            server.abort();
        }
        if let Err(error) = log.close().await {
            tracing::error!(%error, "closing the log failed");
        }
    }
}
