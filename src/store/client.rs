//! The store client: how frontends and the control plane reach the store, on this node or over the network, and in
//! whose name.

use chorus_proto::etcdserverpb as pb;
use futures::stream::BoxStream;

use super::error::Error;
use super::records::Ranged;

/// One interface, two transports: the store of this node, or the client URLs of any etcd. Cheap to clone.
#[derive(Clone)]
pub struct Client(std::sync::Arc<dyn Transport>);

/// In whose name the store is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// A component of this very process, which may do everything.
    #[default]
    Process,
    /// Somebody on a connection, as far as they say who they are; the store decides what they may do.
    Client {
        /// As `Authenticate` gave it.
        token: Option<String>,
        /// The common name of the certificate that their connection was accepted with. A token goes before it.
        common_name: Option<String>,
    },
}

impl Caller {
    /// Somebody who does not say who they are.
    pub const ANONYMOUS: Caller = Caller::Client { token: None, common_name: None };
}

/// Versions that the members of a store have agreed on, `X.Y.0`; nothing before they have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    pub cluster: Option<String>,
    pub storage: Option<String>,
}

/// A path to a store. Linearizable unless a request asks otherwise; every call has a deadline.
///
/// What is asked in a client's name goes through [`Guard`](super::auth::guard::Guard): a method that has no line there
/// is refused to clients.
#[async_trait::async_trait]
pub trait Transport: Send + Sync + 'static {
    /// The same store, asked in the name of `caller` from here on.
    fn on_behalf(&self, caller: Caller) -> Client;

    /// Whether it matters in whose name the store is asked: it does once authentication is enabled. Costs nothing.
    fn authenticates(&self) -> bool {
        true
    }

    /// Whether this is a member without a vote, which answers hardly anything. Costs nothing.
    fn is_learner(&self) -> bool {
        false
    }

    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error>;

    /// A range that may be large: its records are read as they are sent, where the store can do that.
    async fn range_in_records(&self, request: pb::RangeRequest) -> Result<Ranged, Error> {
        self.range(request).await.map(Ranged::Whole)
    }

    async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Error>;
    async fn delete_range(&self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, Error>;
    async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error>;
    async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, Error>;
    async fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, Error>;
    async fn lease_revoke(&self, request: pb::LeaseRevokeRequest) -> Result<pb::LeaseRevokeResponse, Error>;
    async fn lease_keep_alive(&self, request: pb::LeaseKeepAliveRequest) -> Result<pb::LeaseKeepAliveResponse, Error>;
    async fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error>;
    async fn lease_leases(&self, request: pb::LeaseLeasesRequest) -> Result<pb::LeaseLeasesResponse, Error>;
    async fn member_list(&self, request: pb::MemberListRequest) -> Result<pb::MemberListResponse, Error>;

    /// Adds a member, which may then start and join; one that is to vote does so once it has caught up.
    async fn member_add(&self, _request: pb::MemberAddRequest) -> Result<pb::MemberAddResponse, Error> {
        Err(Error::unimplemented("MemberAdd"))
    }

    /// Removes a member for good.
    async fn member_remove(&self, _request: pb::MemberRemoveRequest) -> Result<pb::MemberRemoveResponse, Error> {
        Err(Error::unimplemented("MemberRemove"))
    }

    /// Says where other members reach a member.
    async fn member_update(&self, _request: pb::MemberUpdateRequest) -> Result<pb::MemberUpdateResponse, Error> {
        Err(Error::unimplemented("MemberUpdate"))
    }

    /// Lets a learner vote.
    async fn member_promote(&self, _request: pb::MemberPromoteRequest) -> Result<pb::MemberPromoteResponse, Error> {
        Err(Error::unimplemented("MemberPromote"))
    }

    /// Hands leadership from this member to another one; resolves when that one leads.
    async fn move_leader(&self, _request: pb::MoveLeaderRequest) -> Result<pb::MoveLeaderResponse, Error> {
        Err(Error::unimplemented("MoveLeader"))
    }

    /// Looks whether the cluster can be taken down to an older version, starts it, or stops it.
    async fn downgrade(&self, _request: pb::DowngradeRequest) -> Result<pb::DowngradeResponse, Error> {
        Err(Error::unimplemented("Downgrade"))
    }

    /// What the members have agreed on, as this one knows it. Costs nothing.
    fn versions(&self) -> Versions {
        Versions::default()
    }

    async fn status(&self, request: pb::StatusRequest) -> Result<pb::StatusResponse, Error>;

    /// Raises, disarms or lists alarms.
    async fn alarm(&self, _request: pb::AlarmRequest) -> Result<pb::AlarmResponse, Error> {
        Err(Error::unimplemented("Alarm"))
    }

    /// A checksum of the history that this one member holds, equal to etcd's.
    async fn hash_kv(&self, _request: pb::HashKvRequest) -> Result<pb::HashKvResponse, Error> {
        Err(Error::unimplemented("HashKV"))
    }

    /// The database of this one member in etcd's format, in chunks, and the SHA-256 of them all at the end.
    async fn snapshot(&self) -> Result<BoxStream<'static, Result<pb::SnapshotResponse, Error>>, Error> {
        Err(Error::unimplemented("Snapshot"))
    }

    /// A checksum of all that this one member holds.
    async fn hash(&self, _request: pb::HashRequest) -> Result<pb::HashResponse, Error> {
        Err(Error::unimplemented("Hash"))
    }

    /// Gives the space of this one member's dead records back to the file system. Nothing waits for it but the caller.
    async fn defragment(&self, _request: pb::DefragmentRequest) -> Result<pb::DefragmentResponse, Error> {
        Err(Error::unimplemented("Defragment"))
    }

    async fn auth_enable(&self, _: pb::AuthEnableRequest) -> Result<pb::AuthEnableResponse, Error> {
        Err(Error::unimplemented("AuthEnable"))
    }

    async fn auth_disable(&self, _: pb::AuthDisableRequest) -> Result<pb::AuthDisableResponse, Error> {
        Err(Error::unimplemented("AuthDisable"))
    }

    async fn user_delete(&self, _: pb::AuthUserDeleteRequest) -> Result<pb::AuthUserDeleteResponse, Error> {
        Err(Error::unimplemented("UserDelete"))
    }

    async fn user_grant_role(&self, _: pb::AuthUserGrantRoleRequest) -> Result<pb::AuthUserGrantRoleResponse, Error> {
        Err(Error::unimplemented("UserGrantRole"))
    }

    async fn user_revoke_role(
        &self,
        _: pb::AuthUserRevokeRoleRequest,
    ) -> Result<pb::AuthUserRevokeRoleResponse, Error> {
        Err(Error::unimplemented("UserRevokeRole"))
    }

    async fn role_add(&self, _: pb::AuthRoleAddRequest) -> Result<pb::AuthRoleAddResponse, Error> {
        Err(Error::unimplemented("RoleAdd"))
    }

    async fn role_delete(&self, _: pb::AuthRoleDeleteRequest) -> Result<pb::AuthRoleDeleteResponse, Error> {
        Err(Error::unimplemented("RoleDelete"))
    }

    async fn role_grant_permission(
        &self,
        _: pb::AuthRoleGrantPermissionRequest,
    ) -> Result<pb::AuthRoleGrantPermissionResponse, Error> {
        Err(Error::unimplemented("RoleGrantPermission"))
    }

    async fn role_revoke_permission(
        &self,
        _: pb::AuthRoleRevokePermissionRequest,
    ) -> Result<pb::AuthRoleRevokePermissionResponse, Error> {
        Err(Error::unimplemented("RoleRevokePermission"))
    }

    async fn user_add(&self, _: pb::AuthUserAddRequest) -> Result<pb::AuthUserAddResponse, Error> {
        Err(Error::unimplemented("UserAdd"))
    }

    async fn user_change_password(
        &self,
        _: pb::AuthUserChangePasswordRequest,
    ) -> Result<pb::AuthUserChangePasswordResponse, Error> {
        Err(Error::unimplemented("UserChangePassword"))
    }

    async fn user_get(&self, _: pb::AuthUserGetRequest) -> Result<pb::AuthUserGetResponse, Error> {
        Err(Error::unimplemented("UserGet"))
    }

    async fn user_list(&self, _: pb::AuthUserListRequest) -> Result<pb::AuthUserListResponse, Error> {
        Err(Error::unimplemented("UserList"))
    }

    async fn role_get(&self, _: pb::AuthRoleGetRequest) -> Result<pb::AuthRoleGetResponse, Error> {
        Err(Error::unimplemented("RoleGet"))
    }

    async fn role_list(&self, _: pb::AuthRoleListRequest) -> Result<pb::AuthRoleListResponse, Error> {
        Err(Error::unimplemented("RoleList"))
    }

    async fn auth_status(&self, _: pb::AuthStatusRequest) -> Result<pb::AuthStatusResponse, Error> {
        Err(Error::unimplemented("AuthStatus"))
    }

    /// A token for whoever knows the user's password.
    async fn authenticate(&self, _: pb::AuthenticateRequest) -> Result<pb::AuthenticateResponse, Error> {
        Err(Error::unimplemented("Authenticate"))
    }

    /// One watch stream, as the gRPC one: many watches by id, requests in, responses out. The stream ends when
    /// `requests` ends or the store goes away; a caller resumes from the last revision it saw.
    async fn watch(
        &self,
        requests: BoxStream<'static, pb::WatchRequest>,
    ) -> Result<BoxStream<'static, Result<pb::WatchResponse, Error>>, Error>;
}

impl Client {
    pub fn new(transport: impl Transport) -> Client {
        Client(std::sync::Arc::new(transport))
    }
}

impl std::ops::Deref for Client {
    type Target = dyn Transport;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
