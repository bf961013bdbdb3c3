//! Why the store refused a request or could not answer it.

use crate::raft;

/// An error of the store. [`Error::to_wire`] gives its gRPC code and text, one row a variant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Malformed request: surface it. Did not happen.
    #[error("key is not provided")]
    EmptyKey,
    #[error("key not found")]
    KeyNotFound,
    #[error("value is provided")]
    ValueProvided,
    #[error("lease is provided")]
    LeaseProvided,
    #[error("too many operations in txn request")]
    TooManyOps,
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    #[error("invalid sort option")]
    InvalidSortOption,
    #[error("required revision has been compacted")]
    Compacted,
    #[error("required revision is a future revision")]
    FutureRevision,
    #[error("database space exceeded")]
    NoSpace,
    #[error("requested lease not found")]
    LeaseNotFound,
    #[error("lease already exists")]
    LeaseExists,
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("request is too large")]
    RequestTooLarge,
    /// Did not happen: try again later.
    #[error("too many requests")]
    TooManyRequests,
    /// Did not happen: no leader is known.
    #[error("no leader")]
    NoLeader,
    /// A read was not answered; nothing was changed.
    #[error("leader changed")]
    LeaderChanged,
    /// May have happened.
    #[error("request timed out")]
    Timeout,
    /// May have happened.
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailure,
    /// May have happened.
    #[error("request timed out, possibly due to connection lost")]
    TimeoutConnectionLost,
    #[error("server stopped")]
    Stopped,
    #[error("corrupt cluster")]
    Corrupt,
    #[error("member not found")]
    MemberNotFound,
    #[error("member ID already exist")]
    MemberExists,
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    #[error("re-configuration failed due to not enough started members")]
    MemberNotEnoughStarted,
    #[error("given member URLs are invalid")]
    MemberBadUrls,
    #[error("can only promote a learner member")]
    MemberNotLearner,
    /// The learner lags behind: try again later.
    #[error("can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    #[error("too many learner members in cluster")]
    TooManyLearners,
    /// Did not happen: members were not reachable for long enough. Try again later.
    #[error("unhealthy cluster")]
    Unhealthy,
    #[error("wrong downgrade target version format")]
    WrongDowngradeVersion,
    #[error("invalid downgrade target version")]
    InvalidDowngradeTarget,
    /// Did not happen: the versions of the members are not known yet. Try again later.
    #[error("cluster version not found during downgrade")]
    ClusterVersionUnavailable,
    #[error("cluster has a downgrade job in progress")]
    DowngradeInProcess,
    /// This member is a learner: ask another one.
    #[error("rpc not supported for learner")]
    NotSupportedForLearner,
    #[error("not leader")]
    NotLeader,
    #[error("bad leader transferee")]
    BadLeaderTransferee,
    /// Authentication cannot be enabled yet: add the user `root`, and grant it the role `root`.
    #[error("root user does not exist")]
    RootUserNotExist,
    #[error("root user does not have root role")]
    RootRoleNotExist,
    #[error("user name already exists")]
    UserAlreadyExist,
    /// Also the answer to callers that must authenticate and did not: authenticate.
    #[error("user name is empty")]
    UserEmpty,
    #[error("user name not found")]
    UserNotFound,
    #[error("role name already exists")]
    RoleAlreadyExist,
    #[error("role name not found")]
    RoleNotFound,
    #[error("role name is empty")]
    RoleEmpty,
    #[error("authentication failed, invalid user ID or password")]
    AuthFailed,
    /// The user has a certificate instead of a password.
    #[error("authentication failed, password was given for no password user")]
    NoPasswordUser,
    #[error("password length exceeds 72 bytes")]
    PasswordTooLong,
    #[error("permission not given")]
    PermissionNotGiven,
    /// Surface it. Did not happen.
    #[error("permission denied")]
    PermissionDenied,
    #[error("role is not granted to the user")]
    RoleNotGranted,
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    #[error("authentication is not enabled")]
    AuthNotEnabled,
    /// Did not happen: authenticate again.
    #[error("invalid auth token")]
    InvalidAuthToken,
    #[error("invalid auth management")]
    InvalidAuthMgmt,
    /// Did not happen: users or roles changed meanwhile. Authenticate again.
    #[error("revision of auth store is old")]
    AuthOldRevision,
    /// A remote store answered with a gRPC status that has no row of its own.
    #[error("{message}")]
    Other { code: i32, message: String },
}

/// One row an error: its gRPC code and etcd's exact text. Clients tell errors apart by the text.
///
/// Two of the codes are not the nominal ones, because that is what etcd sends: `too many requests` and `not enough
/// started members` travel as Unknown.
const WIRE: &[(Error, i32, &str)] = &[
    (Error::EmptyKey, INVALID_ARGUMENT, "etcdserver: key is not provided"),
    (Error::KeyNotFound, INVALID_ARGUMENT, "etcdserver: key not found"),
    (Error::ValueProvided, INVALID_ARGUMENT, "etcdserver: value is provided"),
    (Error::LeaseProvided, INVALID_ARGUMENT, "etcdserver: lease is provided"),
    (Error::TooManyOps, INVALID_ARGUMENT, "etcdserver: too many operations in txn request"),
    (Error::DuplicateKey, INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"),
    (Error::InvalidSortOption, INVALID_ARGUMENT, "etcdserver: invalid sort option"),
    (Error::Compacted, OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"),
    (Error::FutureRevision, OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"),
    (Error::NoSpace, RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
    (Error::LeaseNotFound, NOT_FOUND, "etcdserver: requested lease not found"),
    (Error::LeaseExists, FAILED_PRECONDITION, "etcdserver: lease already exists"),
    (Error::LeaseTtlTooLarge, OUT_OF_RANGE, "etcdserver: too large lease TTL"),
    (Error::RequestTooLarge, INVALID_ARGUMENT, "etcdserver: request is too large"),
    (Error::TooManyRequests, UNKNOWN, "etcdserver: too many requests"),
    (Error::NoLeader, UNAVAILABLE, "etcdserver: no leader"),
    (Error::LeaderChanged, UNAVAILABLE, "etcdserver: leader changed"),
    (Error::Timeout, UNAVAILABLE, "etcdserver: request timed out"),
    (
        Error::TimeoutLeaderFailure,
        UNAVAILABLE,
        "etcdserver: request timed out, possibly due to previous leader failure",
    ),
    (Error::TimeoutConnectionLost, UNAVAILABLE, "etcdserver: request timed out, possibly due to connection lost"),
    (Error::Stopped, UNAVAILABLE, "etcdserver: server stopped"),
    (Error::Corrupt, DATA_LOSS, "etcdserver: corrupt cluster"),
    (Error::MemberNotFound, NOT_FOUND, "etcdserver: member not found"),
    (Error::MemberExists, FAILED_PRECONDITION, "etcdserver: member ID already exist"),
    (Error::PeerUrlExists, FAILED_PRECONDITION, "etcdserver: Peer URLs already exists"),
    (Error::MemberNotEnoughStarted, UNKNOWN, "etcdserver: re-configuration failed due to not enough started members"),
    (Error::MemberBadUrls, INVALID_ARGUMENT, "etcdserver: given member URLs are invalid"),
    (Error::MemberNotLearner, FAILED_PRECONDITION, "etcdserver: can only promote a learner member"),
    (
        Error::LearnerNotReady,
        FAILED_PRECONDITION,
        "etcdserver: can only promote a learner member which is in sync with leader",
    ),
    (Error::TooManyLearners, FAILED_PRECONDITION, "etcdserver: too many learner members in cluster"),
    (Error::Unhealthy, UNAVAILABLE, "etcdserver: unhealthy cluster"),
    (Error::WrongDowngradeVersion, INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format"),
    (Error::InvalidDowngradeTarget, INVALID_ARGUMENT, "etcdserver: invalid downgrade target version"),
    (Error::ClusterVersionUnavailable, FAILED_PRECONDITION, "etcdserver: cluster version not found during downgrade"),
    (Error::DowngradeInProcess, FAILED_PRECONDITION, "etcdserver: cluster has a downgrade job in progress"),
    (Error::NotSupportedForLearner, FAILED_PRECONDITION, "etcdserver: rpc not supported for learner"),
    (Error::NotLeader, FAILED_PRECONDITION, "etcdserver: not leader"),
    (Error::BadLeaderTransferee, FAILED_PRECONDITION, "etcdserver: bad leader transferee"),
    (Error::RootUserNotExist, FAILED_PRECONDITION, "etcdserver: root user does not exist"),
    (Error::RootRoleNotExist, FAILED_PRECONDITION, "etcdserver: root user does not have root role"),
    (Error::UserAlreadyExist, FAILED_PRECONDITION, "etcdserver: user name already exists"),
    (Error::UserEmpty, INVALID_ARGUMENT, "etcdserver: user name is empty"),
    (Error::UserNotFound, FAILED_PRECONDITION, "etcdserver: user name not found"),
    (Error::RoleAlreadyExist, FAILED_PRECONDITION, "etcdserver: role name already exists"),
    (Error::RoleNotFound, FAILED_PRECONDITION, "etcdserver: role name not found"),
    (Error::RoleEmpty, INVALID_ARGUMENT, "etcdserver: role name is empty"),
    (Error::AuthFailed, INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password"),
    (Error::NoPasswordUser, UNKNOWN, "auth: authentication failed, password was given for no password user"),
    (Error::PasswordTooLong, UNKNOWN, "bcrypt: password length exceeds 72 bytes"),
    (Error::PermissionNotGiven, INVALID_ARGUMENT, "etcdserver: permission not given"),
    (Error::PermissionDenied, PERMISSION_DENIED, "etcdserver: permission denied"),
    (Error::RoleNotGranted, FAILED_PRECONDITION, "etcdserver: role is not granted to the user"),
    (Error::PermissionNotGranted, FAILED_PRECONDITION, "etcdserver: permission is not granted to the role"),
    (Error::AuthNotEnabled, FAILED_PRECONDITION, "etcdserver: authentication is not enabled"),
    (Error::InvalidAuthToken, UNAUTHENTICATED, "etcdserver: invalid auth token"),
    (Error::InvalidAuthMgmt, INVALID_ARGUMENT, "etcdserver: invalid auth management"),
    (Error::AuthOldRevision, INVALID_ARGUMENT, "etcdserver: revision of auth store is old"),
];

const UNKNOWN: i32 = 2;
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const FAILED_PRECONDITION: i32 = 9;
const OUT_OF_RANGE: i32 = 11;
const UNIMPLEMENTED: i32 = 12;
const UNAVAILABLE: i32 = 14;
const DATA_LOSS: i32 = 15;
const UNAUTHENTICATED: i32 = 16;

impl Error {
    /// The gRPC code and text under which the error travels.
    pub fn to_wire(&self) -> (i32, &str) {
        if let Error::Other { code, message } = self {
            return (*code, message);
        }
        let row = WIRE.iter().find(|(error, ..)| error == self).expect("every error has a row; a test reads them all");
        (row.1, row.2)
    }

    /// The error behind a gRPC status; [`Error::Other`] where the text has no row.
    pub fn from_wire(code: i32, message: &str) -> Error {
        match WIRE.iter().find(|(_, _, text)| *text == message) {
            Some((error, ..)) => error.clone(),
            None => Error::Other { code, message: message.to_owned() },
        }
    }

    /// A command in the log that this release does not know.
    pub fn unknown_command() -> Error {
        Error::Other { code: UNIMPLEMENTED, message: "etcdserver: unknown command".to_owned() }
    }

    /// The answer of gRPC servers to a method that they do not have, by its path `/SERVICE/METHOD`.
    pub fn unimplemented(path: &str) -> Error {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        Error::Other { code: UNIMPLEMENTED, message: format!("unknown method {method} for service {service}") }
    }

    /// The change may have happened, or may still happen.
    pub fn is_unknown_outcome(&self) -> bool {
        matches!(self, Error::Timeout | Error::TimeoutLeaderFailure | Error::TimeoutConnectionLost | Error::Stopped)
    }
}

impl From<raft::Error> for Error {
    fn from(error: raft::Error) -> Error {
        match error {
            raft::Error::NoLeader => Error::NoLeader,
            raft::Error::Timeout => Error::Timeout,
            raft::Error::Busy => Error::TooManyRequests,
            raft::Error::Stopped => Error::Stopped,
            raft::Error::MemberNotFound(_) => Error::MemberNotFound,
            raft::Error::MemberExists(_) => Error::MemberExists,
            raft::Error::PeerUrlExists(_) => Error::PeerUrlExists,
            raft::Error::NotLearner(_) => Error::MemberNotLearner,
            raft::Error::LearnerNotReady(_) => Error::LearnerNotReady,
            raft::Error::NotEnoughStarted | raft::Error::LastVoter => Error::MemberNotEnoughStarted,
            raft::Error::Unhealthy => Error::Unhealthy,
            raft::Error::TooManyLearners => Error::TooManyLearners,
            raft::Error::BadTransferee(_) => Error::BadLeaderTransferee,
            other => Error::Other { code: UNKNOWN, message: format!("etcdserver: {other}") },
        }
    }
}

impl From<raft::Refused> for Error {
    fn from(refused: raft::Refused) -> Error {
        match refused {
            raft::Refused::Busy => Error::TooManyRequests,
            raft::Refused::NoLeader => Error::NoLeader,
            raft::Refused::NotLeader => Error::NotLeader,
            raft::Refused::TooLarge => Error::RequestTooLarge,
            raft::Refused::Malformed => Error::unknown_command(),
            raft::Refused::Stopped => Error::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_reads_back_and_no_text_stands_twice() {
        for (error, code, text) in WIRE {
            assert_eq!(error.to_wire(), (*code, *text));
            assert_eq!(&Error::from_wire(*code, text), error);
        }
        let other = Error::Other { code: 4, message: "context deadline exceeded".into() };
        assert_eq!(Error::from_wire(4, "context deadline exceeded"), other);
        assert_eq!(other.to_wire(), (4, "context deadline exceeded"));
    }
}
