//! Why consensus refused or could not answer.

use std::fmt::Display;
use std::io;
use std::path::Path;

use crate::world::NodeId;

/// A command was not proposed and certainly never will be. Tell the client, which may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many commands wait already. Try again later.
    #[error("too many proposals are waiting")]
    Busy,
    /// No leader was known for about an election timeout. Try again, or another member.
    #[error("no leader")]
    NoLeader,
    /// This member does not lead in the term that the command is bound to.
    #[error("not leader")]
    NotLeader,
    /// The command is larger than a log entry may be. Surface it.
    #[error("the command is too large for the log")]
    TooLarge,
    /// The leader found that no member could apply this command, or another one of its batch. Surface it.
    #[error("the leader cannot read the command")]
    Malformed,
    /// This member is shutting down. Try another one.
    #[error("the replica has stopped")]
    Stopped,
}

/// An error of the replica.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was read or changed. Try again, or another member.
    #[error("no leader")]
    NoLeader,
    /// Surface it: only the leader does that.
    #[error("not leader")]
    NotLeader,
    /// The deadline passed. A read may be tried again; a membership change may have happened.
    #[error("request timed out")]
    Timeout,
    /// Too many requests wait already. Nothing was done; try again later.
    #[error("too many requests")]
    Busy,
    /// This member is shutting down, or broken for good. Try another one.
    #[error("the replica has stopped")]
    Stopped,
    /// Surface it: no such member.
    #[error("member {0} not found")]
    MemberNotFound(NodeId),
    /// Surface it: a member of that ID exists.
    #[error("member {0} exists")]
    MemberExists(NodeId),
    /// Surface it: another member has that peer URL.
    #[error("peer URL {0} exists")]
    PeerUrlExists(String),
    /// Surface it: only a learner can be promoted.
    #[error("member {0} is not a learner")]
    NotLearner(NodeId),
    /// The learner lags too far behind the leader. Try again later.
    #[error("learner {0} is not ready")]
    LearnerNotReady(NodeId),
    /// Surface it: leadership goes to voting members only, and to those that the leader can reach.
    #[error("member {0} cannot become leader")]
    BadTransferee(NodeId),
    /// Another membership change is under way, or the leader is too young. Try again later.
    #[error("a membership change is under way")]
    ChangeInProgress,
    /// Surface it: too few members have started to change the quorum.
    #[error("not enough members have started")]
    NotEnoughStarted,
    /// Some member has not been reachable for long enough. Try again later, or mend it first.
    #[error("too few members have been reachable for long enough")]
    Unhealthy,
    /// Surface it: promote or remove a learner first.
    #[error("there are as many learners as there may be")]
    TooManyLearners,
    /// Removing the last voting member would end the cluster. Surface it.
    #[error("the last voting member cannot be removed")]
    LastVoter,
    /// This member has no log, but the cluster says that it had one. Going on could break promises that it made to the
    /// others: remove the member and add it again, or restore its data directory.
    #[error("member {0} has already been bootstrapped, and its log is gone")]
    AlreadyBootstrapped(NodeId),
    /// The member could not be reached, or did not answer in time. Ask again.
    #[error("member {member} did not answer: {reason}")]
    NoAnswer { member: NodeId, reason: String },
    /// The configuration cannot work. Surface it.
    #[error("{0}")]
    Config(String),
    /// The data directory or the peer address cannot be used. Surface it.
    #[error("{context}: {message}")]
    Io { context: String, message: String },
    /// The log broke one of its rules: stop, keep the data directory, restore this member from its peers.
    #[error("the log in {directory} is damaged: {message}")]
    Damaged { directory: String, message: String },
}

impl Error {
    /// An operating system error, with what was being done.
    pub fn io(context: impl Into<String>, error: &io::Error) -> Error {
        Error::Io { context: context.into(), message: error.to_string() }
    }

    /// The log or the state in `directory` cannot be used.
    pub(super) fn unusable(directory: &Path, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::InvalidData => Error::damaged(directory, error),
            _ => Error::io(format!("reading the log in {}", directory.display()), error),
        }
    }

    /// The log or the state in `directory` breaks one of its rules.
    pub(super) fn damaged(directory: &Path, error: &impl Display) -> Error {
        Error::Damaged { directory: directory.display().to_string(), message: error.to_string() }
    }
}
