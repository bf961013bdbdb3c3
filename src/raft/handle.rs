//! The public face of a replica.

use tokio::sync::watch;

use super::{Config, Error, Member, Refused, machine::Machine};
use crate::world::{Instant, NodeId, Term, World};

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
#[derive(Clone, Debug)]
pub struct Handle {
    leadership: watch::Receiver<Leadership>,
}

/// Starts replicas.
#[derive(Debug)]
pub struct Replica;

impl Replica {
    /// Opens the log, recovers, and serves peers. `machine` is driven from here on. Call it in any task of the node.
    pub async fn start(_world: World, _config: Config, _machine: Box<dyn Machine>) -> Result<Handle, Error> {
        Err(Error::Stopped)
    }
}

impl Handle {
    /// Proposes a command. This member's state machine applies it if it gets committed, which is the only sign of
    /// success; `refused` is called when it surely never will be. When neither happens, the outcome is unknown: the
    /// caller keeps a deadline.
    pub fn propose(&self, _command: bytes::Bytes, refused: Box<dyn FnOnce(Refused) + Send>) {
        refused(Refused::Stopped);
    }

    /// Resolves once this member has applied everything that was committed anywhere before the call: a read of the
    /// local state is linearizable from then on.
    pub async fn read_index(&self, _deadline: Instant) -> Result<(), Error> {
        Err(Error::Stopped)
    }

    /// Who leads; changes are seen as they become known.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    pub fn status(&self) -> Status {
        Status::default()
    }

    /// The members, by ID, as of the last membership in this member's log.
    pub fn members(&self) -> Vec<Member> {
        Vec::new()
    }

    /// Adds a member, which may then start with [`Bootstrap::Join`](super::Bootstrap::Join).
    pub async fn add_member(&self, _member: Member, _deadline: Instant) -> Result<Vec<Member>, Error> {
        Err(Error::Stopped)
    }

    pub async fn remove_member(&self, _id: NodeId, _deadline: Instant) -> Result<Vec<Member>, Error> {
        Err(Error::Stopped)
    }

    /// Makes a learner that has caught up a voting member.
    pub async fn promote_member(&self, _id: NodeId, _deadline: Instant) -> Result<Vec<Member>, Error> {
        Err(Error::Stopped)
    }

    pub async fn update_peer_urls(
        &self,
        _id: NodeId,
        _urls: Vec<String>,
        _deadline: Instant,
    ) -> Result<Vec<Member>, Error> {
        Err(Error::Stopped)
    }

    /// Hands leadership to `to`; resolves when this member sees it lead.
    pub async fn transfer_leader(&self, _to: NodeId, _deadline: Instant) -> Result<(), Error> {
        Err(Error::Stopped)
    }

    /// Ends the replica: the log is flushed, peers are no longer served. Proposals under way stay unanswered.
    pub async fn shutdown(&self) {}
}
