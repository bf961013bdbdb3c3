//! The public face of a replica.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Addr;
use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::housekeeping::{Housekeeping, leadership};
use super::membership::{Change, Unchanged, members};
use super::proposer::{self, Propose, Proposer};
use super::questions::Answerer;
use super::read_gate::{self, Read, ReadGate};
use super::types::Peer;
use super::{Error, Member, Refused, replica};
use crate::actor::Gate;
use crate::disk::LogHandle;
use crate::world::{Instant, NodeId, Term};

/// Pause before a membership change that met another one is tried again.
const CHANGE_RETRY: Duration = Duration::from_millis(50);

/// Who leads, as far as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub leader: Option<NodeId>,
    pub term: Term,
    /// This member leads. Another one may have taken over without this one knowing; the log decides.
    pub is_leader: bool,
}

/// Where this member stands.
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
    pub keeping: Housekeeping,
    pub proposer: Addr<Proposer>,
    pub proposals: Gate,
    pub command_bytes_max: usize,
    pub read_gate: Addr<ReadGate>,
    pub reads: Gate,
    pub leadership: watch::Receiver<Leadership>,
    pub applied: watch::Receiver<u64>,
    pub log: LogHandle,
    pub server: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({})", self.0.keeping.node)
    }
}

impl Handle {
    /// Proposes a command. This member's state machine applies it if it gets committed, which is the only sign of
    /// success; `refused` is called when it surely never will be. When neither happens, the outcome is unknown: the
    /// caller keeps a deadline.
    pub fn propose(&self, command: Bytes, refused: Box<dyn FnOnce(Refused) + Send>) {
        let parts = &self.0;
        if command.len() > parts.command_bytes_max {
            return refused(Refused::TooLarge);
        }
        if parts.keeping.shutdown.begun() || !parts.proposer.connected() {
            return refused(Refused::Stopped);
        }
        match parts.proposals.enter() {
            Ok(permit) => parts.proposer.do_send(Propose { command, refused, permit }),
            Err(_) => refused(Refused::Busy),
        }
    }

    /// Resolves once this member has applied everything that was committed anywhere before the call: a read of the
    /// local state is linearizable from then on.
    pub async fn read_index(&self, deadline: Instant) -> Result<(), Error> {
        let parts = &self.0;
        let permit = parts.reads.enter().map_err(|_| Error::Busy)?;
        let (reply, index) = oneshot::channel();
        parts.read_gate.do_send(Read { deadline, reply, _permit: permit });
        let applied = async {
            let index = index.await.map_err(|_| Error::Stopped)??;
            parts.applied.clone().wait_for(|applied| *applied >= index).await.map_err(|_| Error::Stopped)?;
            Ok(())
        };
        parts.keeping.world.clock.timeout_at(deadline, applied).await.map_err(|_| Error::Timeout)?
    }

    /// Who leads; changes are seen as they become known.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.clone()
    }

    pub fn status(&self) -> Status {
        let metrics = self.0.keeping.raft.metrics();
        let metrics = metrics.borrow_watched();
        let node = self.0.keeping.node;
        let applied = *self.0.applied.borrow();
        let committed = metrics.local_committed.map_or(0, |id| id.index + 1).max(applied);
        let known = leadership(&self.0.keeping.raft.server_metrics().borrow_watched());
        let is_learner = metrics.membership_config.membership().learner_ids().any(|id| id == node.0);
        Status { node, leader: known.leader, term: known.term, committed, applied, is_learner }
    }

    /// The members, by ID, as of the last membership in this member's log.
    pub fn members(&self) -> Vec<Member> {
        members(self.0.keeping.raft.server_metrics().borrow_watched().membership_config.membership())
    }

    /// Adds a member, which may then start with [`Bootstrap::Join`](super::Bootstrap::Join). One that is to vote does
    /// so once it has caught up.
    pub async fn add_member(&self, member: Member, deadline: Instant) -> Result<Vec<Member>, Error> {
        let peer = Peer {
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
            joining: !member.learner,
            started: false,
        };
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
        let clock = &self.0.keeping.world.clock;
        let work = async {
            loop {
                match self.0.keeping.submit(change.clone()).await {
                    Ok(()) => break,
                    // Neither happened: another change, or an election, is in the way.
                    Err(Unchanged::InProgress | Unchanged::NotLeader) => clock.sleep(CHANGE_RETRY).await,
                    Err(reason) => return Err(reason.into_error()),
                }
            }
            self.read_index(deadline).await?;
            Ok(self.members())
        };
        clock.timeout_at(deadline, work).await.map_err(|_| Error::Timeout)?
    }

    /// Asks the store of another member, past the log.
    pub async fn ask(&self, member: NodeId, question: Bytes, limit: Duration) -> Result<Bytes, Error> {
        let answer = self.0.keeping.peers.ask(member.0, question, limit).await;
        answer.map_err(|error| Error::NoAnswer { member, reason: error.to_string() })
    }

    /// Answers what the stores of other members ask this one.
    pub fn answer_with(&self, answerer: Answerer) {
        self.0.keeping.questions.answer_with(answerer);
    }

    /// Hands leadership to `to`; resolves when this member sees it lead.
    pub async fn transfer_leader(&self, to: NodeId, deadline: Instant) -> Result<(), Error> {
        let mut known = self.leadership();
        if !known.borrow().is_leader {
            return Err(Error::NotLeader);
        }
        if !self.members().iter().any(|member| member.id == to && !member.learner) {
            return Err(Error::BadTransferee(to));
        }
        if to == self.0.keeping.node {
            return Ok(());
        }
        self.0.keeping.raft.trigger().transfer_leader(to.0).await.map_err(|_| Error::Stopped)?;
        let seen = known.wait_for(|leadership| leadership.leader == Some(to));
        match self.0.keeping.world.clock.timeout_at(deadline, seen).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// Ends the replica: the log is flushed, peers are no longer served. Proposals under way stay unanswered.
    pub async fn shutdown(&self) {
        self.0.keeping.shutdown.begin();
        self.0.proposer.do_send(proposer::Stop);
        self.0.read_gate.do_send(read_gate::Stop);
        let server = self.0.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            replica::end(&self.0.keeping, server, &self.0.log).await;
        }
    }
}
