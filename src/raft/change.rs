//! A change of the membership as one member asks the leader for it, and the answer.

use serde::{Deserialize, Serialize};

use super::types::{Membership, Peer};
use super::{Error, Member};
use crate::world::NodeId;

/// What a member requires of the changes that its operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Refuse what would put the quorum at risk; etcd's `--strict-reconfig-check`.
    pub strict: bool,
    /// etcd's `--max-learners`.
    pub learners_max: usize,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { strict: true, learners_max: 1 }
    }
}

/// What a member sends to the leader: a change, and the rules of the member that its operator asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChangeRequest {
    pub change: Change,
    pub rules: Rules,
}

/// A change that was committed, or that the membership showed already: the membership, and the index of its entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CommittedChange {
    pub index: u64,
    pub membership: Membership,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    Add {
        id: u64,
        peer: Peer,
    },
    Remove {
        id: u64,
    },
    /// Of a learner, when an operator asks for it.
    Promote {
        id: u64,
    },
    /// Of a member that was added to vote and has caught up.
    Admit {
        id: u64,
    },
    SetPeerUrls {
        id: u64,
        urls: Vec<String>,
    },
    /// A member has started; its name, and where clients reach it.
    Publish {
        id: u64,
        name: String,
        client_urls: Vec<String>,
    },
}

impl Change {
    /// Whether the leader refuses to make the change again, for a reason that shows that it was made.
    pub fn repeats_are_refused(&self) -> bool {
        matches!(self, Change::Add { .. } | Change::Remove { .. } | Change::Promote { .. })
    }

    /// Whether `reason` shows that the change was made before.
    pub fn was_made_before(&self, reason: &ChangeError) -> bool {
        match (self, reason) {
            (Change::Add { id, .. }, ChangeError::Exists(found)) => id == found,
            (Change::Remove { id }, ChangeError::NotFound(missing)) => id == missing,
            (Change::Promote { id }, ChangeError::NotLearner(voter)) => id == voter,
            _ => false,
        }
    }

    /// Whether `members` are as the change leaves them.
    pub fn shows_in(&self, members: &[Member]) -> bool {
        let member = |id: &u64| members.iter().find(|member| member.id.0 == *id);
        match self {
            Change::Add { id, .. } => member(id).is_some(),
            Change::Remove { id } => member(id).is_none(),
            Change::Promote { id } => member(id).is_some_and(|member| !member.learner),
            _ => false,
        }
    }
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ChangeError {
    /// Did not happen: ask the leader.
    NotLeader,
    /// Did not happen: try again in a moment.
    InProgress,
    /// May have happened.
    Unknown,
    Stopped,
    NotFound(u64),
    Exists(u64),
    PeerUrlExists(String),
    NotLearner(u64),
    NotReady(u64),
    LastVoter,
    NotEnoughStarted,
    Unhealthy,
    TooManyLearners,
}

/// The answer to a [`ChangeRequest`].
pub(super) type ChangeResult = Result<CommittedChange, ChangeError>;

impl ChangeError {
    pub fn into_error(self) -> Error {
        match self {
            ChangeError::NotLeader => Error::NoLeader,
            ChangeError::InProgress => Error::ChangeInProgress,
            ChangeError::Unknown => Error::Timeout,
            ChangeError::Stopped => Error::Stopped,
            ChangeError::NotFound(id) => Error::MemberNotFound(NodeId(id)),
            ChangeError::Exists(id) => Error::MemberExists(NodeId(id)),
            ChangeError::PeerUrlExists(url) => Error::PeerUrlExists(url),
            ChangeError::NotLearner(id) => Error::NotLearner(NodeId(id)),
            ChangeError::NotReady(id) => Error::LearnerNotReady(NodeId(id)),
            ChangeError::LastVoter => Error::LastVoter,
            ChangeError::NotEnoughStarted => Error::NotEnoughStarted,
            ChangeError::Unhealthy => Error::Unhealthy,
            ChangeError::TooManyLearners => Error::TooManyLearners,
        }
    }
}
