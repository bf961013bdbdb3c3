//! The public face of a replica.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Addr;
use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::applied_membership::AppliedMembership;
use super::change::{Change, ChangeError, CommittedChange};
use super::context::ReplicaContext;
use super::exposition::Exposed;
use super::member::members_of;
use super::peer_http::PeerHttp;
use super::proposer::{self, Propose, Proposer};
use super::read_gate::ReadGate;
use super::store_questions::Answerer;
use super::{Error, Leadership, Member, Refused};
use crate::actor::Gate;
use crate::actor::metrics::Source;
use crate::disk::LogHandle;
use crate::world::{Instant, NodeId, Term};

/// Pause before a membership change that met another one is tried again.
const CHANGE_RETRY: Duration = Duration::from_millis(50);

/// The state of this member's replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub node: NodeId,
    pub leader: Option<NodeId>,
    pub term: Term,
    /// The last log index known to be committed.
    pub committed: u64,
    pub applied: u64,
    /// This member receives the log but does not vote.
    pub is_learner: bool,
}

/// A running replica. Cheap to clone; [`Handle::shutdown`] ends it for all clones.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Parts>);

/// What a handle holds together.
pub(super) struct Parts {
    pub context: ReplicaContext,
    pub proposer: Addr<Proposer>,
    pub proposals: Gate,
    pub command_bytes_max: usize,
    pub read_gate: Arc<ReadGate>,
    pub leadership: watch::Receiver<Leadership>,
    pub applied: watch::Receiver<u64>,
    /// What this member publishes of itself.
    pub name: String,
    pub client_urls: Vec<String>,
    pub version: String,
    pub log: LogHandle,
    pub server: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({})", self.0.context.node)
    }
}

impl Handle {
    /// Proposes a command. If the command is committed, this member's state machine applies it, which is the only sign
    /// of success. `refused` is called when it certainly never will be. When neither happens, the outcome is unknown:
    /// the caller keeps a deadline.
    pub fn propose(&self, command: Bytes, refused: Box<dyn FnOnce(Refused) + Send>) {
        self.hand_to_proposer(command, None, refused);
    }

    /// Proposes a command as the leader of `term`. The command enters the log in that term, before everything of a
    /// later one, or is refused. Commands of one term keep their order, even if some of them are refused.
    pub fn propose_in(&self, term: Term, command: Bytes, refused: Box<dyn FnOnce(Refused) + Send>) {
        self.hand_to_proposer(command, Some(term), refused);
    }

    fn hand_to_proposer(&self, command: Bytes, term: Option<Term>, refused: Box<dyn FnOnce(Refused) + Send>) {
        let parts = &self.0;
        if command.len() > parts.command_bytes_max {
            return refused(Refused::TooLarge);
        }
        if parts.context.shutdown.begun() || !parts.proposer.connected() {
            return refused(Refused::Stopped);
        }
        match parts.proposals.enter() {
            Ok(permit) => parts.proposer.do_send(Propose { command, term, refused, permit }),
            Err(_) => refused(Refused::Busy),
        }
    }

    /// Resolves once this member has applied everything that was committed anywhere before the call: a read of the
    /// local state is linearizable from then on.
    pub async fn read_index(&self, deadline: Instant) -> Result<(), Error> {
        let parts = &self.0;
        let applied = async {
            let index = parts.read_gate.read_index(deadline).await?;
            parts.applied.clone().wait_for(|applied| *applied >= index).await.map_err(|_| Error::Stopped)?;
            Ok(())
        };
        parts.context.world.clock.timeout_at(deadline, applied).await.map_err(|_| Error::Timeout)?
    }

    /// Whether a proposal made at `start` could get through all the time since: this member was connected to the leader
    /// or, as the leader, to a quorum.
    pub fn connected_since(&self, start: Instant) -> bool {
        self.0.context.membership_view.connected_since(self.leadership().borrow().leader, start)
    }

    /// The metrics of this replica.
    pub fn metrics(&self) -> Arc<dyn Source> {
        let parts = &self.0;
        let (context, log, read_gate) = (parts.context.clone(), parts.log.clone(), parts.read_gate.clone());
        Arc::new(Exposed { context, log, read_gate })
    }

    /// Whether the cluster lacks the disk space to grow, as far as this member knows. Do not propose what makes it grow
    /// then.
    pub fn is_full(&self) -> bool {
        self.0.context.space.is_full()
    }

    /// Whether this member is short of disk space.
    pub fn is_short_of_space(&self) -> bool {
        self.0.context.space.is_short()
    }

    /// Who leads, and every change as it becomes known.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.clone()
    }

    pub fn status(&self) -> Status {
        let metrics = self.0.context.raft.metrics();
        let metrics = metrics.borrow_watched();
        let node = self.0.context.node;
        let applied = *self.0.applied.borrow();
        let committed = metrics.local_committed.map_or(0, |id| id.index + 1).max(applied);
        let known = Leadership::of(&self.0.context.raft.server_metrics().borrow_watched());
        Status { node, leader: known.leader, term: known.term, committed, applied, is_learner: self.is_learner() }
    }

    /// The members, by ID, as this member has applied them; before that, as its log has them.
    pub fn members(&self) -> Vec<Member> {
        self.0.context.members()
    }

    /// IDs that were members once, and never will be again.
    pub fn removed_members(&self) -> Vec<NodeId> {
        self.0.context.membership_view.applied.borrow().removed.iter().copied().map(NodeId).collect()
    }

    /// Whether this member receives the log but has no vote, and is not about to get one.
    pub fn is_learner(&self) -> bool {
        self.0.context.membership_view.is_learner()
    }

    /// Resolves once the cluster knows this member's name and client URLs: it is ready for clients then.
    pub async fn published(&self) {
        let parts = &self.0;
        let known = |membership: &AppliedMembership| {
            let me = membership.get(parts.context.node);
            me.is_some_and(|peer| peer.started && peer.name == parts.name && peer.client_urls == parts.client_urls)
        };
        if parts.context.membership_view.applied.clone().wait_for(known).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves once this member has been removed from the cluster, for good: its process should end, after a moment
    /// in which answers that are under way leave, and its data directory is of no use any more.
    pub async fn removed(&self) {
        self.0.context.membership_view.removed().await;
    }

    /// Resolves once the voters are a quorum even of all members that were added to vote, started or not.
    pub async fn settled(&self, deadline: Instant) -> Result<(), Error> {
        let mut membership = self.0.context.membership_view.applied.clone();
        let settled = membership.wait_for(AppliedMembership::is_settled);
        match self.0.context.world.clock.timeout_at(deadline, settled).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// The software version of every member; `None` for one that did not answer within `limit`.
    pub async fn versions(&self, limit: Duration) -> Vec<(NodeId, Option<String>)> {
        let context = &self.0.context;
        // The membership of the log rather than the applied one: a new leader may ask before it has applied its first
        // entry.
        let membership = context.membership();
        let mut heard = context.ask_around_within(&membership, limit).await;
        let mut version = |id: u64| match heard.iter_mut().find(|(other, _)| *other == id) {
            Some((_, hello)) => Some(std::mem::take(&mut hello.version)),
            None => (id == context.node.0).then(|| self.0.version.clone()),
        };
        membership.nodes().map(|(id, _)| (NodeId(*id), version(*id))).collect()
    }

    /// Adds a member, which may then start with [`Bootstrap::Join`](super::Bootstrap::Join). A voting member gets its
    /// vote once it has caught up.
    pub async fn add_member(&self, member: Member, deadline: Instant) -> Result<Vec<Member>, Error> {
        let peer = member.peer(!member.learner);
        self.change(Change::Add { id: member.id.0, peer }, deadline).await
    }

    pub async fn remove_member(&self, id: NodeId, deadline: Instant) -> Result<Vec<Member>, Error> {
        self.change(Change::Remove { id: id.0 }, deadline).await
    }

    /// Makes a learner that has caught up a voting member.
    pub async fn promote_member(&self, id: NodeId, deadline: Instant) -> Result<Vec<Member>, Error> {
        self.change(Change::Promote { id: id.0 }, deadline).await
    }

    pub async fn update_peer_urls(
        &self,
        id: NodeId,
        urls: Vec<String>,
        deadline: Instant,
    ) -> Result<Vec<Member>, Error> {
        self.change(Change::SetPeerUrls { id: id.0, urls }, deadline).await
    }

    async fn change(&self, change: Change, deadline: Instant) -> Result<Vec<Member>, Error> {
        let clock = &self.0.context.world.clock;
        let mut uncertain = false;
        let work = async {
            loop {
                match self.0.context.submit(change.clone()).await {
                    Ok(made) => break Ok(self.took_effect(made).await),
                    // A leader may stop before it answers, above all when it is the one that was removed. The next
                    // leader knows.
                    Err(ChangeError::Unknown) if change.repeats_are_refused() => {
                        uncertain = true;
                        clock.sleep(CHANGE_RETRY).await;
                    }
                    Err(reason) if uncertain && change.was_made_before(&reason) => {
                        let known = self.members();
                        if change.shows_in(&known) {
                            break Ok(known);
                        }
                        clock.sleep(CHANGE_RETRY).await;
                    }
                    // The change did not happen: another one, or an election, is in the way.
                    Err(ChangeError::InProgress | ChangeError::NotLeader) => clock.sleep(CHANGE_RETRY).await,
                    Err(reason) => break Err(reason.into_error()),
                }
            }
        };
        clock.timeout_at(deadline, work).await.map_err(|_| Error::Timeout)?
    }

    /// Asks the store of another member a question that does not go through the log.
    pub async fn ask(&self, member: NodeId, question: Bytes, limit: Duration) -> Result<Bytes, Error> {
        let context = &self.0.context;
        if let Some(peer) = context.raft.server_metrics().borrow_watched().membership_config.get_node(&member.0) {
            context.peers.know(member.0, peer);
        }
        let answer = context.peers.ask(member.0, question, limit).await;
        answer.map_err(|error| Error::NoAnswer { member, reason: error.to_string() })
    }

    /// Sets who answers the questions of other members' stores.
    pub fn answer_with(&self, answerer: Answerer) {
        self.0.context.store_questions.answer_with(answerer);
    }

    /// Sets who answers plain HTTP on the peer port.
    pub fn answer_http_with(&self, answerer: PeerHttp) {
        self.0.context.plain_http.answer_with(answerer);
    }

    /// Waits until this member has applied the change, unless the change removed it.
    async fn took_effect(&self, made: CommittedChange) -> Vec<Member> {
        if made.membership.get_node(&self.0.context.node.0).is_some() {
            // An error means that the replica has ended; the change was made all the same.
            let _ = self.0.applied.clone().wait_for(|applied| *applied >= made.index).await;
        }
        members_of(&made.membership)
    }

    /// Hands leadership to `to`; resolves when this member sees it lead.
    pub async fn transfer_leader(&self, to: NodeId, deadline: Instant) -> Result<(), Error> {
        let mut known = self.leadership();
        if !known.borrow().is_leader {
            return Err(Error::NotLeader);
        }
        if !self.voters().contains(&to) {
            return Err(Error::BadTransferee(to));
        }
        if to == self.0.context.node {
            return Ok(());
        }
        self.0.context.raft.trigger().transfer_leader(to.0).await.map_err(|_| Error::Stopped)?;
        let seen = known.wait_for(|leadership| leadership.leader == Some(to));
        match self.0.context.world.clock.timeout_at(deadline, seen).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout),
        }
    }

    fn voters(&self) -> Vec<NodeId> {
        let metrics = self.0.context.raft.server_metrics();
        metrics.borrow_watched().membership_config.voter_ids().map(NodeId).collect()
    }

    /// Hands leadership to the reachable voter with the longest log, if there is one, before this leader stops. Waits
    /// for one election timeout at most. Returns the new leader.
    pub async fn hand_over(&self) -> Option<NodeId> {
        let context = &self.0.context;
        if !self.leadership().borrow().is_leader {
            return None;
        }
        let to = context.successor(|_| true)?;
        let deadline = context.world.clock.now() + context.timings.election.start;
        match self.transfer_leader(to, deadline).await {
            Ok(()) => tracing::info!(%to, "leadership was handed over"),
            Err(error) => tracing::warn!(%to, %error, "leadership was not handed over"),
        }
        self.leadership().borrow().leader.filter(|leader| *leader != context.node)
    }

    /// Ends the replica: leadership is handed over, the log is flushed, peers are no longer served. Proposals under way
    /// stay unanswered.
    pub async fn shutdown(&self) {
        self.hand_over().await;
        self.0.context.shutdown.begin();
        self.0.proposer.do_send(proposer::Stop);
        self.0.read_gate.stop();
        let server = self.0.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            self.0.context.end(server, &self.0.log).await;
        }
    }
}
