//! The table of RPCs: the one place that says what each is called, takes, answers and asks of its caller.
//!
//! ```text
//!   rpcs!(make { given }) ──▶ make! { given { ... } unary { plain { rows } judged { rows } } own { rows } }
//! ```
//!
//! `make` is a macro of each part that has something for every RPC: the interface of transports and both transports,
//! the guard of clients, the router and the JSON gateway of a frontend. A row says, in this order:
//!
//! - its name and its path on the wire;
//! - the method of [`Transport`](super::client::Transport), with the messages that go there and back;
//! - what it asks of its caller: a [`Rule`](super::auth::guard::Rule), or `Judged`;
//! - whether it may be sent twice: a function in [`retry`];
//! - where the JSON gateway has it, below `/v3/`.
//!
//! The rows of `unary` are one message each way. For `plain` ones the rule is all that is checked; for `judged` ones
//! more is checked, depending on the request: see [`Guard`](super::auth::guard::Guard). The rows of `own` are streams,
//! and what frontends make of other calls; such a row only says its kind, and its path below `/v3/`.

/// Whether a request may be sent again, to another member, after the first one may have received it.
pub mod retry {
    use chorus_proto::etcdserverpb::TxnRequest;

    use crate::store::checks;

    /// It changes nothing, or the second time nothing more.
    pub fn always<Q>(_: &Q) -> bool {
        true
    }

    pub fn never<Q>(_: &Q) -> bool {
        false
    }

    pub fn unless_it_writes(request: &TxnRequest) -> bool {
        checks::is_read_only(request)
    }
}

macro_rules! rpcs {
    ($make:ident { $($given:tt)* }) => {
        $make! {
            given { $($given)* }
            unary {
                plain {
                    DeleteRange "/etcdserverpb.KV/DeleteRange"
                        delete_range(DeleteRangeRequest) -> DeleteRangeResponse, Content, never, "kv/deleterange";
                    Compact "/etcdserverpb.KV/Compact"
                        compact(CompactionRequest) -> CompactionResponse, Root, never, "kv/compaction";
                    LeaseGrant "/etcdserverpb.Lease/LeaseGrant"
                        lease_grant(LeaseGrantRequest) -> LeaseGrantResponse, Somebody, never, "lease/grant";
                    LeaseRevoke "/etcdserverpb.Lease/LeaseRevoke"
                        lease_revoke(LeaseRevokeRequest) -> LeaseRevokeResponse,
                        Somebody, never, "lease/revoke" | "kv/lease/revoke";
                    MemberList "/etcdserverpb.Cluster/MemberList"
                        member_list(MemberListRequest) -> MemberListResponse, Somebody, always, "cluster/member/list";
                    /// Adds a member, which may then start and join; one that is to vote does so once it has caught up.
                    MemberAdd "/etcdserverpb.Cluster/MemberAdd"
                        member_add(MemberAddRequest) -> MemberAddResponse, Root, never, "cluster/member/add";
                    /// Removes a member for good.
                    MemberRemove "/etcdserverpb.Cluster/MemberRemove"
                        member_remove(MemberRemoveRequest) -> MemberRemoveResponse,
                        Root, never, "cluster/member/remove";
                    /// Says where other members reach a member.
                    MemberUpdate "/etcdserverpb.Cluster/MemberUpdate"
                        member_update(MemberUpdateRequest) -> MemberUpdateResponse,
                        Root, never, "cluster/member/update";
                    /// Lets a learner vote.
                    MemberPromote "/etcdserverpb.Cluster/MemberPromote"
                        member_promote(MemberPromoteRequest) -> MemberPromoteResponse,
                        Root, never, "cluster/member/promote";
                    /// Hands leadership from this member to another one; resolves when that one leads.
                    MoveLeader "/etcdserverpb.Maintenance/MoveLeader"
                        move_leader(MoveLeaderRequest) -> MoveLeaderResponse,
                        Root, never, "maintenance/transfer-leadership";
                    /// Validates a downgrade of the cluster to an older version, starts it, or cancels it.
                    Downgrade "/etcdserverpb.Maintenance/Downgrade"
                        downgrade(DowngradeRequest) -> DowngradeResponse, Root, never, "maintenance/downgrade";
                    /// Gives the space of this one member's dead records back to the file system. Only the caller waits
                    /// for it.
                    Defragment "/etcdserverpb.Maintenance/Defragment"
                        defragment(DefragmentRequest) -> DefragmentResponse, Root, always, "maintenance/defragment";
                    /// A checksum of all that this one member holds.
                    Hash "/etcdserverpb.Maintenance/Hash"
                        hash(HashRequest) -> HashResponse, Root, always, "maintenance/hash";
                    /// A checksum of the history that this one member holds, equal to etcd's.
                    HashKv "/etcdserverpb.Maintenance/HashKV"
                        hash_kv(HashKvRequest) -> HashKvResponse, Root, always, "maintenance/hashkv";
                    AuthEnable "/etcdserverpb.Auth/AuthEnable"
                        auth_enable(AuthEnableRequest) -> AuthEnableResponse, Content, never, "auth/enable";
                    AuthDisable "/etcdserverpb.Auth/AuthDisable"
                        auth_disable(AuthDisableRequest) -> AuthDisableResponse, Content, never, "auth/disable";
                    AuthStatus "/etcdserverpb.Auth/AuthStatus"
                        auth_status(AuthStatusRequest) -> AuthStatusResponse, Content, always, "auth/status";
                    /// Gives a token to a caller who knows the user's password.
                    Authenticate "/etcdserverpb.Auth/Authenticate"
                        authenticate(AuthenticateRequest) -> AuthenticateResponse, Anyone, always, "auth/authenticate";
                    UserAdd "/etcdserverpb.Auth/UserAdd"
                        user_add(AuthUserAddRequest) -> AuthUserAddResponse, Content, never, "auth/user/add";
                    UserGet "/etcdserverpb.Auth/UserGet"
                        user_get(AuthUserGetRequest) -> AuthUserGetResponse, Content, always, "auth/user/get";
                    UserList "/etcdserverpb.Auth/UserList"
                        user_list(AuthUserListRequest) -> AuthUserListResponse, Content, always, "auth/user/list";
                    UserDelete "/etcdserverpb.Auth/UserDelete"
                        user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse,
                        Content, never, "auth/user/delete";
                    UserChangePassword "/etcdserverpb.Auth/UserChangePassword"
                        user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse,
                        Content, never, "auth/user/changepw";
                    UserGrantRole "/etcdserverpb.Auth/UserGrantRole"
                        user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse,
                        Content, never, "auth/user/grant";
                    UserRevokeRole "/etcdserverpb.Auth/UserRevokeRole"
                        user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse,
                        Content, never, "auth/user/revoke";
                    RoleAdd "/etcdserverpb.Auth/RoleAdd"
                        role_add(AuthRoleAddRequest) -> AuthRoleAddResponse, Content, never, "auth/role/add";
                    RoleGet "/etcdserverpb.Auth/RoleGet"
                        role_get(AuthRoleGetRequest) -> AuthRoleGetResponse, Content, always, "auth/role/get";
                    RoleList "/etcdserverpb.Auth/RoleList"
                        role_list(AuthRoleListRequest) -> AuthRoleListResponse, Content, always, "auth/role/list";
                    RoleDelete "/etcdserverpb.Auth/RoleDelete"
                        role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse,
                        Content, never, "auth/role/delete";
                    RoleGrantPermission "/etcdserverpb.Auth/RoleGrantPermission"
                        role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse,
                        Content, never, "auth/role/grant";
                    RoleRevokePermission "/etcdserverpb.Auth/RoleRevokePermission"
                        role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse,
                        Content, never, "auth/role/revoke";
                }
                judged {
                    Range "/etcdserverpb.KV/Range"
                        range(RangeRequest) -> RangeResponse, Judged, always, "kv/range";
                    Put "/etcdserverpb.KV/Put"
                        put(PutRequest) -> PutResponse, Judged, never, "kv/put";
                    Txn "/etcdserverpb.KV/Txn"
                        txn(TxnRequest) -> TxnResponse, Judged, unless_it_writes, "kv/txn";
                    LeaseTimeToLive "/etcdserverpb.Lease/LeaseTimeToLive"
                        lease_time_to_live(LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse,
                        Judged, always, "lease/timetolive" | "kv/lease/timetolive";
                    LeaseLeases "/etcdserverpb.Lease/LeaseLeases"
                        lease_leases(LeaseLeasesRequest) -> LeaseLeasesResponse,
                        Judged, always, "lease/leases" | "kv/lease/leases";
                    /// Raises, disarms or lists alarms.
                    Alarm "/etcdserverpb.Maintenance/Alarm"
                        alarm(AlarmRequest) -> AlarmResponse, Judged, never, "maintenance/alarm";
                    Status "/etcdserverpb.Maintenance/Status"
                        status(StatusRequest) -> StatusResponse, Judged, always, "maintenance/status";
                }
            }
            own {
                RangeStream "/etcdserverpb.KV/RangeStream" ServerStream;
                Watch "/etcdserverpb.Watch/Watch" BidiStream, "watch";
                LeaseKeepAlive "/etcdserverpb.Lease/LeaseKeepAlive" BidiStream, "lease/keepalive";
                Snapshot "/etcdserverpb.Maintenance/Snapshot" ServerStream, "maintenance/snapshot";
                Lock "/v3lockpb.Lock/Lock" Unary, "lock/lock";
                Unlock "/v3lockpb.Lock/Unlock" Unary, "lock/unlock";
                Campaign "/v3electionpb.Election/Campaign" Unary, "election/campaign";
                Proclaim "/v3electionpb.Election/Proclaim" Unary, "election/proclaim";
                Leader "/v3electionpb.Election/Leader" Unary, "election/leader";
                Observe "/v3electionpb.Election/Observe" ServerStream, "election/observe";
                Resign "/v3electionpb.Election/Resign" Unary, "election/resign";
                HealthCheck "/grpc.health.v1.Health/Check" Unary;
                HealthWatch "/grpc.health.v1.Health/Watch" ServerStream;
            }
        }
    };
}

pub(crate) use rpcs;
