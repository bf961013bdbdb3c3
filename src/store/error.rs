//! Why the store refused or could not answer.

/// An error of the store. `etcd/status.rs` translates it to etcd's texts and gRPC codes, one row a variant.
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
    #[error("not leader")]
    NotLeader,
    #[error("bad leader transferee")]
    BadLeaderTransferee,
    /// A remote store answered with a gRPC status that has no row of its own.
    #[error("{message}")]
    Other { code: i32, message: String },
}
