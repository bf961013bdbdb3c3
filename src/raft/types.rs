//! The types that openraft is instantiated with.

use std::{error, fmt, io};

use bytes::Bytes;
use openraft::errors::ErrorSource;
use openraft::impls::{InlineBatch, leader_id_std};
use openraft::raft::responder::Responder;
use openraft::type_config::alias;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, RaftTypeConfig};
use serde::{Deserialize, Serialize};

use super::machine::Position;
use super::runtime::Runtime;
use crate::world::Term;

/// A leader a term, as etcd's `raft_term` needs it.
type LeaderId = leader_id_std::LeaderId<u64, u64>;

/// openraft's view of this program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types;

impl RaftTypeConfig for Types {
    type D = CommandBatch;
    type R = ();
    type NodeId = u64;
    type Node = Peer;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::Vote<LeaderId>;
    type Payload = EntryPayload<CommandBatch, u64, Peer>;
    type Entry = openraft::Entry<<LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Callback<T>
    where
        T: Send + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = Cause;
}

pub(super) type Entry = alias::EntryOf<Types>;
pub(super) type LogId = alias::LogIdOf<Types>;
pub(super) type Vote = alias::VoteOf<Types>;
pub(super) type Payload = alias::PayloadOf<Types>;
pub(super) type Membership = openraft::Membership<u64, Peer>;
pub(super) type StoredMembership = alias::StoredMembershipOf<Types>;

/// Commands that were proposed together, encoded by `encoding::pack`: opaque to openraft, untouched on the way from the
/// proposer to every state machine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandBatch(pub(super) Bytes);

impl fmt::Debug for CommandBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandBatch({} bytes)", self.0.len())
    }
}

impl fmt::Display for CommandBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What openraft keeps of an error that it gets or finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Cause {
    text: String,
    /// True when stored data contradicts itself, false when it could not be read or written.
    pub(super) damage: bool,
}

impl ErrorSource for Cause {
    fn from_error<E: error::Error + 'static>(error: &E) -> Cause {
        let io = (error as &(dyn error::Error + 'static)).downcast_ref::<io::Error>();
        let damage = io.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData);
        Cause { text: error.to_string(), damage }
    }

    /// openraft makes such an error when what it read contradicts itself.
    fn from_string(text: impl ToString) -> Cause {
        Cause { text: text.to_string(), damage: true }
    }
}

/// What the membership records of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    /// Was added to vote: the leader makes it a voter as soon as it has caught up. Until then it does not count
    /// towards a quorum, so adding a member that is not yet up cannot stop the cluster.
    pub joining: bool,
    /// Has run before, and so must still have its log.
    pub started: bool,
}

/// Called with the outcome of a write.
pub struct Callback<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Callback<T> {
    pub(super) fn new(hear: impl FnOnce(T) + Send + 'static) -> Callback<T> {
        Callback(Box::new(hear))
    }
}

impl<T: Send + 'static> Responder<Types, T> for Callback<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// openraft numbers entries from 0, the log and the state machine from 1.
pub(super) fn position(id: &LogId) -> Position {
    Position { term: id.committed_leader_id().term, index: id.index + 1 }
}

/// The inverse of [`position`].
pub(super) fn log_id(at: Position) -> LogId {
    let index = at.index.checked_sub(1).expect("positions count from 1");
    LogId::new(leader_of(Term(at.term)), index)
}

/// The leader of `term`, as openraft names it.
pub(super) fn leader_of(term: Term) -> <LeaderId as RaftLeaderId>::Committed {
    LeaderId::new(term.0, 0).to_committed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_log_ids_name_the_same_entry() {
        let at = Position { term: 3, index: 1 };
        assert_eq!(log_id(at).index, 0);
        assert_eq!(position(&log_id(at)), at);
    }
}
