//! Clients of one member. Of its store there are two, written apart from each other: gRPC, and JSON over HTTP/1.1; and
//! there is one of its Kubernetes API.
//!
//! Those of the store speak etcd's protobuf messages to their callers. All tell what surely did not happen from what may have.

mod gateway;
mod grpc;
mod kubernetes;

use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use chorus_proto::v3lockpb as lock;
pub use gateway::Gateway;
pub use grpc::{Grpc, Watching};
pub use kubernetes::{Kubernetes, Lines};

/// How long any call may take. Longer than an election, shorter than a fault.
pub const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// It did not happen and never will: `fail`.
    #[error("{0}")]
    Surely(String),
    /// It may have happened, or may still: `info`, unless it was a read.
    #[error("{0}")]
    Perhaps(String),
}

impl Failed {
    /// What a gRPC code says about a request that was sent. Only refusals that the store decides before anything is
    /// proposed, or that its state machine answers, count as sure.
    fn of(code: tonic::Code, message: &str) -> Failed {
        use tonic::Code::*;
        let text = format!("{code:?}: {message}");
        match code {
            InvalidArgument | NotFound | AlreadyExists | PermissionDenied | Unauthenticated | ResourceExhausted
            | OutOfRange | Unimplemented => Failed::Surely(text),
            FailedPrecondition => Failed::Surely(text),
            _ => Failed::Perhaps(text),
        }
    }

    fn timed_out() -> Failed {
        Failed::Perhaps("timed out".to_owned())
    }
}

/// A client of one member, of either kind.
pub enum Client {
    Grpc(Grpc),
    Gateway(Gateway),
}

macro_rules! calls {
    ($($name:ident: $request:ty => $answer:ty, $grpc:literal, $http:literal;)*) => {
        impl Client {
            $(pub async fn $name(&self, request: $request) -> Result<$answer, Failed> {
                match self {
                    Client::Grpc(client) => client.call($grpc, request).await,
                    Client::Gateway(client) => client.call($grpc, $http, request).await,
                }
            })*
        }
    };
}

calls! {
    range: pb::RangeRequest => pb::RangeResponse, "/etcdserverpb.KV/Range", "/v3/kv/range";
    put: pb::PutRequest => pb::PutResponse, "/etcdserverpb.KV/Put", "/v3/kv/put";
    delete_range: pb::DeleteRangeRequest => pb::DeleteRangeResponse, "/etcdserverpb.KV/DeleteRange", "/v3/kv/deleterange";
    txn: pb::TxnRequest => pb::TxnResponse, "/etcdserverpb.KV/Txn", "/v3/kv/txn";
    compact: pb::CompactionRequest => pb::CompactionResponse, "/etcdserverpb.KV/Compact", "/v3/kv/compaction";
    lease_grant: pb::LeaseGrantRequest => pb::LeaseGrantResponse, "/etcdserverpb.Lease/LeaseGrant", "/v3/lease/grant";
    lease_revoke: pb::LeaseRevokeRequest => pb::LeaseRevokeResponse, "/etcdserverpb.Lease/LeaseRevoke", "/v3/lease/revoke";
    lock: lock::LockRequest => lock::LockResponse, "/v3lockpb.Lock/Lock", "/v3/lock/lock";
    unlock: lock::UnlockRequest => lock::UnlockResponse, "/v3lockpb.Lock/Unlock", "/v3/lock/unlock";
    status: pb::StatusRequest => pb::StatusResponse, "/etcdserverpb.Maintenance/Status", "/v3/maintenance/status";
    defragment: pb::DefragmentRequest => pb::DefragmentResponse, "/etcdserverpb.Maintenance/Defragment", "/v3/maintenance/defragment";
    hash_kv: pb::HashKvRequest => pb::HashKvResponse, "/etcdserverpb.Maintenance/HashKV", "/v3/maintenance/hashkv";
    member_list: pb::MemberListRequest => pb::MemberListResponse, "/etcdserverpb.Cluster/MemberList", "/v3/cluster/member/list";
    member_add: pb::MemberAddRequest => pb::MemberAddResponse, "/etcdserverpb.Cluster/MemberAdd", "/v3/cluster/member/add";
    member_remove: pb::MemberRemoveRequest => pb::MemberRemoveResponse, "/etcdserverpb.Cluster/MemberRemove", "/v3/cluster/member/remove";
}
