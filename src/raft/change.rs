//! A change of the membership as one member asks the leader for it, and the answer.

use serde::{Deserialize, Serialize};

use super::types::{Membership, Peer};
use super::{Error, Member};
use crate::world::NodeId;

/// What a member asks of changes that go through it.
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

/// A change and the rules of the member that was asked for it, as they are sent to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ask {
    pub change: Change,
    pub rules: Rules,
}

/// A change that was made, or held already: the membership, and the index of its entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    pub index: u64,
    pub membership: Membership,
}

/// A change, as it is sent to the leader.
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
    /// A member has started, and tells its name and where clients reach it.
    Publish {
        id: u64,
        name: String,
        client_urls: Vec<String>,
    },
}

impl Change {
    /// Made once, it is refused from then on, for a reason that tells so.
    pub fn can_be_told_made(&self) -> bool {
        matches!(self, Change::Add { .. } | Change::Remove { .. } | Change::Promote { .. })
    }

    /// `reason` says that the change was made before.
    pub fn was_made_before(&self, reason: &Unchanged) -> bool {
        match (self, reason) {
            (Change::Add { id, .. }, Unchanged::Exists(found)) => id == found,
            (Change::Remove { id }, Unchanged::NotFound(missing)) => id == missing,
            (Change::Promote { id }, Unchanged::NotLearner(voter)) => id == voter,
            _ => false,
        }
    }

    /// `members` are those after such a change.
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
pub(super) enum Unchanged {
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

/// The answer to an [`Ask`].
pub(super) type Changed = Result<Made, Unchanged>;

impl Unchanged {
    pub fn into_error(self) -> Error {
        match self {
            Unchanged::NotLeader => Error::NoLeader,
            Unchanged::InProgress => Error::ChangeInProgress,
            Unchanged::Unknown => Error::Timeout,
            Unchanged::Stopped => Error::Stopped,
            Unchanged::NotFound(id) => Error::MemberNotFound(NodeId(id)),
            Unchanged::Exists(id) => Error::MemberExists(NodeId(id)),
            Unchanged::PeerUrlExists(url) => Error::PeerUrlExists(url),
            Unchanged::NotLearner(id) => Error::NotLearner(NodeId(id)),
            Unchanged::NotReady(id) => Error::LearnerNotReady(NodeId(id)),
            Unchanged::LastVoter => Error::LastVoter,
            Unchanged::NotEnoughStarted => Error::NotEnoughStarted,
            Unchanged::Unhealthy => Error::Unhealthy,
            Unchanged::TooManyLearners => Error::TooManyLearners,
        }
    }
}
