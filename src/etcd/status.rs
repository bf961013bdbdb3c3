//! Store errors as gRPC statuses. The table of codes and texts is the store's, because its remote transport reads it
//! backwards; this file adds the errors that only a server has.
//!
//! Clients tell errors apart by the text alone; the code decides whether they try again. A write whose fate is unknown
//! is therefore always `Unavailable` with a text on which clients do not repeat writes.

use tonic::{Code, Status};

use crate::store::error::Error;

/// The status by which etcd's clients know `error`.
pub fn of(error: &Error) -> Status {
    let (code, text) = error.to_wire();
    Status::new(Code::from_i32(code), text)
}

pub(super) fn no_leader() -> Status {
    of(&Error::NoLeader)
}

pub(super) fn too_many_requests() -> Status {
    of(&Error::TooManyRequests)
}

pub(super) fn stopped() -> Status {
    of(&Error::Stopped)
}

pub(super) fn invalid_client_api_version() -> Status {
    Status::invalid_argument("etcdserver: invalid client api version")
}

pub(super) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

pub(super) fn canceled() -> Status {
    Status::cancelled("context canceled")
}

pub(super) fn message_too_large(bytes: usize, bytes_max: usize) -> Status {
    Status::resource_exhausted(format!("grpc: received message larger than max ({bytes} vs. {bytes_max})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every error with the code and the text of etcd's table.
    const TABLE: &[(Error, i32, &str)] = &[
        (Error::EmptyKey, 3, "etcdserver: key is not provided"),
        (Error::KeyNotFound, 3, "etcdserver: key not found"),
        (Error::ValueProvided, 3, "etcdserver: value is provided"),
        (Error::LeaseProvided, 3, "etcdserver: lease is provided"),
        (Error::TooManyOps, 3, "etcdserver: too many operations in txn request"),
        (Error::DuplicateKey, 3, "etcdserver: duplicate key given in txn request"),
        (Error::InvalidSortOption, 3, "etcdserver: invalid sort option"),
        (Error::Compacted, 11, "etcdserver: mvcc: required revision has been compacted"),
        (Error::FutureRevision, 11, "etcdserver: mvcc: required revision is a future revision"),
        (Error::NoSpace, 8, "etcdserver: mvcc: database space exceeded"),
        (Error::LeaseNotFound, 5, "etcdserver: requested lease not found"),
        (Error::LeaseExists, 9, "etcdserver: lease already exists"),
        (Error::LeaseTtlTooLarge, 11, "etcdserver: too large lease TTL"),
        (Error::RequestTooLarge, 3, "etcdserver: request is too large"),
        (Error::TooManyRequests, 2, "etcdserver: too many requests"),
        (Error::NoLeader, 14, "etcdserver: no leader"),
        (Error::LeaderChanged, 14, "etcdserver: leader changed"),
        (Error::Timeout, 14, "etcdserver: request timed out"),
        (Error::TimeoutLeaderFailure, 14, "etcdserver: request timed out, possibly due to previous leader failure"),
        (Error::TimeoutConnectionLost, 14, "etcdserver: request timed out, possibly due to connection lost"),
        (Error::Stopped, 14, "etcdserver: server stopped"),
        (Error::Corrupt, 15, "etcdserver: corrupt cluster"),
        (Error::MemberNotFound, 5, "etcdserver: member not found"),
        (Error::MemberExists, 9, "etcdserver: member ID already exist"),
        (Error::PeerUrlExists, 9, "etcdserver: Peer URLs already exists"),
        (Error::MemberNotEnoughStarted, 2, "etcdserver: re-configuration failed due to not enough started members"),
        (Error::MemberBadUrls, 3, "etcdserver: given member URLs are invalid"),
        (Error::MemberNotLearner, 9, "etcdserver: can only promote a learner member"),
        (Error::LearnerNotReady, 9, "etcdserver: can only promote a learner member which is in sync with leader"),
        (Error::TooManyLearners, 9, "etcdserver: too many learner members in cluster"),
        (Error::Unhealthy, 14, "etcdserver: unhealthy cluster"),
        (Error::WrongDowngradeVersion, 3, "etcdserver: wrong downgrade target version format"),
        (Error::InvalidDowngradeTarget, 3, "etcdserver: invalid downgrade target version"),
        (Error::ClusterVersionUnavailable, 9, "etcdserver: cluster version not found during downgrade"),
        (Error::DowngradeInProcess, 9, "etcdserver: cluster has a downgrade job in progress"),
        (Error::NotSupportedForLearner, 9, "etcdserver: rpc not supported for learner"),
        (Error::NotLeader, 9, "etcdserver: not leader"),
        (Error::BadLeaderTransferee, 9, "etcdserver: bad leader transferee"),
        (Error::RootUserNotExist, 9, "etcdserver: root user does not exist"),
        (Error::RootRoleNotExist, 9, "etcdserver: root user does not have root role"),
        (Error::UserAlreadyExist, 9, "etcdserver: user name already exists"),
        (Error::UserEmpty, 3, "etcdserver: user name is empty"),
        (Error::UserNotFound, 9, "etcdserver: user name not found"),
        (Error::RoleAlreadyExist, 9, "etcdserver: role name already exists"),
        (Error::RoleNotFound, 9, "etcdserver: role name not found"),
        (Error::RoleEmpty, 3, "etcdserver: role name is empty"),
        (Error::AuthFailed, 3, "etcdserver: authentication failed, invalid user ID or password"),
        (Error::NoPasswordUser, 2, "auth: authentication failed, password was given for no password user"),
        (Error::PasswordTooLong, 2, "bcrypt: password length exceeds 72 bytes"),
        (Error::PermissionNotGiven, 3, "etcdserver: permission not given"),
        (Error::PermissionDenied, 7, "etcdserver: permission denied"),
        (Error::RoleNotGranted, 9, "etcdserver: role is not granted to the user"),
        (Error::PermissionNotGranted, 9, "etcdserver: permission is not granted to the role"),
        (Error::AuthNotEnabled, 9, "etcdserver: authentication is not enabled"),
        (Error::InvalidAuthToken, 16, "etcdserver: invalid auth token"),
        (Error::InvalidAuthMgmt, 3, "etcdserver: invalid auth management"),
        (Error::AuthOldRevision, 3, "etcdserver: revision of auth store is old"),
    ];

    #[test]
    fn every_error_has_etcds_code_and_text() {
        for (error, code, text) in TABLE {
            let status = of(error);
            assert_eq!((status.code() as i32, status.message()), (*code, *text), "{error:?}");
        }
    }

    #[test]
    fn an_answer_of_a_remote_store_passes_through() {
        let status = of(&Error::Other { code: 7, message: "etcdserver: permission denied".into() });
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "etcdserver: permission denied"));
    }
}
