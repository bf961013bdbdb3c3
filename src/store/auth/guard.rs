//! The one gate for all that is asked in a client's name.
//!
//! Whatever a client asks goes through here: an RPC without a line in the table below is refused. What the rule of a
//! line leaves open is decided where the keys are: by the view that is read, or when a command is applied.

use std::pin::Pin;
use std::sync::Arc;

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::alarm_request::AlarmAction;
use chorus_proto::etcdserverpb::watch_request::RequestUnion;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::permit::{Access, Author};
use crate::store::client::{Caller, Client, Transport, Versions};
use crate::store::local::Local;
use crate::store::records::Ranged;
use crate::store::{Error, checks};

/// What an RPC asks of its caller, once there are users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing; not even a token that was sent along is looked at.
    Anyone,
    /// To be somebody.
    Somebody,
    /// The root role.
    Root,
    /// Permission on the keys that it reads or changes, or on the users and roles.
    Content,
}

/// A store asked in the name of one caller.
pub struct Guard {
    local: Local,
    /// The same, in nobody's name.
    nobody: Local,
    caller: Caller,
}

impl Guard {
    pub fn new(local: Local, caller: Caller) -> Guard {
        Guard { nobody: local.clone().written_by(Author::Nobody), local, caller }
    }

    /// The store in the caller's name, if `rule` lets them in.
    async fn admit(&self, rule: Rule) -> Result<Local, Error> {
        if !self.local.authenticates() || rule == Rule::Anyone {
            return Ok(self.nobody.clone());
        }
        let author = self.author().await?;
        let auth = self.local.auth();
        match rule {
            Rule::Anyone | Rule::Content => {}
            Rule::Somebody => auth.require(&author)?,
            Rule::Root => auth.permit_admin(&author)?,
        }
        Ok(self.local.clone().written_by(author))
    }

    /// The same on a member that votes; a learner refers callers to others.
    async fn pass(&self, rule: Rule) -> Result<Local, Error> {
        self.votes()?;
        self.admit(rule).await
    }

    fn votes(&self) -> Result<(), Error> {
        if self.local.is_learner() { Err(Error::NotSupportedForLearner) } else { Ok(()) }
    }

    /// Neither users nor the member's part stand in the way of anybody.
    fn is_open(&self) -> bool {
        !self.local.authenticates() && !self.local.is_learner()
    }

    async fn author(&self) -> Result<Author, Error> {
        match &self.caller {
            Caller::Process => Ok(Author::Process),
            Caller::Client { token: Some(token), .. } => self.local.recognise(token).await,
            Caller::Client { token: None, common_name: Some(name) } => Ok(self.local.named(name.clone())),
            Caller::Client { token: None, common_name: None } => Ok(Author::Nobody),
        }
    }

    /// A read that sees everything before it is also permitted by everything before it.
    async fn range_checked(&self, mut request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        self.admit_to_range(&mut request).await?.range(request).await
    }

    async fn range_in_records_checked(&self, mut request: pb::RangeRequest) -> Result<Ranged, Error> {
        self.admit_to_range(&mut request).await?.range_in_records(request).await
    }

    /// A learner answers out of what it has, and knows of no other state.
    async fn admit_to_range(&self, request: &mut pb::RangeRequest) -> Result<Local, Error> {
        if !request.serializable {
            self.votes()?;
        }
        checks::range(request)?;
        if !request.serializable {
            self.local.barrier().await?;
            request.serializable = true;
        }
        self.admit(Rule::Content).await
    }

    async fn txn_checked(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        self.votes()?;
        if !checks::is_read_only(&request) {
            return self.pass(Rule::Content).await?.txn(request).await;
        }
        self.local.check_txn(&request)?;
        if !checks::is_serializable(&request) {
            self.local.barrier().await?;
        }
        self.pass(Rule::Content).await?.txn_now(request).await
    }

    /// Why a watch is not for the caller.
    async fn refuse_watch(&self, request: &pb::WatchRequest) -> Option<Error> {
        let Some(RequestUnion::CreateRequest(create)) = &request.request_union else { return None };
        if !self.local.authenticates() {
            return None;
        }
        let author = match self.author().await {
            Ok(author) => author,
            Err(error) => return Some(error),
        };
        // The first key of all stands for none. The end is as it came: an empty one is no end but one key.
        let key = if create.key.is_empty() { &b"\0"[..] } else { &create.key };
        self.local.auth().permit(&author, Access::Read, key, &create.range_end).err()
    }
}

/// The future of a call, as `async_trait` spells it.
type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

macro_rules! gate {
    (
        plain { $($rpc:literal $rule:ident $method:ident($request:ty) -> $response:ty;)* }
        special { $($special_rpc:literal $special_rule:ident;)* }
        { $($special:tt)* }
    ) => {
        /// The rule of every RPC, by `Service/Method`.
        pub const RULES: &[(&str, Rule)] =
            &[$(($rpc, Rule::$rule),)* $(($special_rpc, Rule::$special_rule),)*];

        #[async_trait::async_trait]
        impl Transport for Guard {
            $(async fn $method(&self, request: $request) -> Result<$response, Error> {
                self.pass(Rule::$rule).await?.$method(request).await
            })*
            $($special)*
        }
    };
}

gate! {
    plain {
        "KV/DeleteRange" Content delete_range(pb::DeleteRangeRequest) -> pb::DeleteRangeResponse;
        "KV/Compact" Root compact(pb::CompactionRequest) -> pb::CompactionResponse;
        "Lease/LeaseGrant" Somebody lease_grant(pb::LeaseGrantRequest) -> pb::LeaseGrantResponse;
        "Lease/LeaseRevoke" Somebody lease_revoke(pb::LeaseRevokeRequest) -> pb::LeaseRevokeResponse;
        "Cluster/MemberList" Somebody member_list(pb::MemberListRequest) -> pb::MemberListResponse;
        "Cluster/MemberAdd" Root member_add(pb::MemberAddRequest) -> pb::MemberAddResponse;
        "Cluster/MemberRemove" Root member_remove(pb::MemberRemoveRequest) -> pb::MemberRemoveResponse;
        "Cluster/MemberUpdate" Root member_update(pb::MemberUpdateRequest) -> pb::MemberUpdateResponse;
        "Cluster/MemberPromote" Root member_promote(pb::MemberPromoteRequest) -> pb::MemberPromoteResponse;
        "Maintenance/MoveLeader" Root move_leader(pb::MoveLeaderRequest) -> pb::MoveLeaderResponse;
        "Maintenance/Downgrade" Root downgrade(pb::DowngradeRequest) -> pb::DowngradeResponse;
        "Maintenance/Defragment" Root defragment(pb::DefragmentRequest) -> pb::DefragmentResponse;
        "Maintenance/Hash" Root hash(pb::HashRequest) -> pb::HashResponse;
        "Maintenance/HashKV" Root hash_kv(pb::HashKvRequest) -> pb::HashKvResponse;
        "Auth/AuthEnable" Content auth_enable(pb::AuthEnableRequest) -> pb::AuthEnableResponse;
        "Auth/AuthDisable" Content auth_disable(pb::AuthDisableRequest) -> pb::AuthDisableResponse;
        "Auth/AuthStatus" Content auth_status(pb::AuthStatusRequest) -> pb::AuthStatusResponse;
        "Auth/Authenticate" Anyone authenticate(pb::AuthenticateRequest) -> pb::AuthenticateResponse;
        "Auth/UserAdd" Content user_add(pb::AuthUserAddRequest) -> pb::AuthUserAddResponse;
        "Auth/UserGet" Content user_get(pb::AuthUserGetRequest) -> pb::AuthUserGetResponse;
        "Auth/UserList" Content user_list(pb::AuthUserListRequest) -> pb::AuthUserListResponse;
        "Auth/UserDelete" Content user_delete(pb::AuthUserDeleteRequest) -> pb::AuthUserDeleteResponse;
        "Auth/UserChangePassword" Content
            user_change_password(pb::AuthUserChangePasswordRequest) -> pb::AuthUserChangePasswordResponse;
        "Auth/UserGrantRole" Content user_grant_role(pb::AuthUserGrantRoleRequest) -> pb::AuthUserGrantRoleResponse;
        "Auth/UserRevokeRole" Content
            user_revoke_role(pb::AuthUserRevokeRoleRequest) -> pb::AuthUserRevokeRoleResponse;
        "Auth/RoleAdd" Content role_add(pb::AuthRoleAddRequest) -> pb::AuthRoleAddResponse;
        "Auth/RoleGet" Content role_get(pb::AuthRoleGetRequest) -> pb::AuthRoleGetResponse;
        "Auth/RoleList" Content role_list(pb::AuthRoleListRequest) -> pb::AuthRoleListResponse;
        "Auth/RoleDelete" Content role_delete(pb::AuthRoleDeleteRequest) -> pb::AuthRoleDeleteResponse;
        "Auth/RoleGrantPermission" Content
            role_grant_permission(pb::AuthRoleGrantPermissionRequest) -> pb::AuthRoleGrantPermissionResponse;
        "Auth/RoleRevokePermission" Content
            role_revoke_permission(pb::AuthRoleRevokePermissionRequest) -> pb::AuthRoleRevokePermissionResponse;
    }
    // Those whose rule is in the code below.
    special {
        "KV/Range" Content;
        "KV/RangeStream" Content;
        "KV/Put" Content;
        "KV/Txn" Content;
        "Watch/Watch" Content;
        "Lease/LeaseKeepAlive" Content;
        "Lease/LeaseTimeToLive" Content;
        "Lease/LeaseLeases" Content;
        "Maintenance/Alarm" Content;
        "Maintenance/Status" Somebody;
        "Maintenance/Snapshot" Root;
    }
    {
        fn on_behalf(&self, caller: Caller) -> Client {
            self.local.on_behalf(caller)
        }

        fn authenticates(&self) -> bool {
            self.local.authenticates()
        }

        fn is_learner(&self) -> bool {
            self.local.is_learner()
        }

        fn versions(&self) -> Versions {
            self.local.versions()
        }

        // Written out, so that a store without users pays for one look and nothing else.
        fn range<'a, 'async_trait>(&'a self, request: pb::RangeRequest) -> Call<'async_trait, pb::RangeResponse>
        where
            'a: 'async_trait,
            Self: 'async_trait,
        {
            if self.is_open() { self.nobody.range(request) } else { Box::pin(self.range_checked(request)) }
        }

        async fn range_in_records(&self, request: pb::RangeRequest) -> Result<Ranged, Error> {
            match self.is_open() {
                true => self.nobody.range_in_records(request).await,
                false => self.range_in_records_checked(request).await,
            }
        }

        fn put<'a, 'async_trait>(&'a self, request: pb::PutRequest) -> Call<'async_trait, pb::PutResponse>
        where
            'a: 'async_trait,
            Self: 'async_trait,
        {
            if self.is_open() {
                return self.nobody.put(request);
            }
            Box::pin(async move { self.pass(Rule::Content).await?.put(request).await })
        }

        fn txn<'a, 'async_trait>(&'a self, request: pb::TxnRequest) -> Call<'async_trait, pb::TxnResponse>
        where
            'a: 'async_trait,
            Self: 'async_trait,
        {
            if self.is_open() { self.nobody.txn(request) } else { Box::pin(self.txn_checked(request)) }
        }

        async fn lease_keep_alive(
            &self,
            request: pb::LeaseKeepAliveRequest,
        ) -> Result<pb::LeaseKeepAliveResponse, Error> {
            let local = self.pass(Rule::Somebody).await?;
            local.permit_lease(Access::Write, request.id)?;
            local.lease_keep_alive(request).await
        }

        /// What is told of keys is checked in the answer: the member that gives it may know more of them.
        async fn lease_time_to_live(
            &self,
            request: pb::LeaseTimeToLiveRequest,
        ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
            let local = self.pass(Rule::Somebody).await?;
            let answer = local.lease_time_to_live(request).await?;
            local.permit_keys(&answer.keys)?;
            Ok(answer)
        }

        async fn lease_leases(&self, request: pb::LeaseLeasesRequest) -> Result<pb::LeaseLeasesResponse, Error> {
            let local = self.pass(Rule::Somebody).await?;
            let answer = local.lease_leases(request).await?;
            answer.leases.iter().try_for_each(|lease| local.permit_lease(Access::Read, lease.id))?;
            Ok(answer)
        }

        async fn alarm(&self, request: pb::AlarmRequest) -> Result<pb::AlarmResponse, Error> {
            let rule = if request.action() == AlarmAction::Get { Rule::Somebody } else { Rule::Root };
            self.pass(rule).await?.alarm(request).await
        }

        async fn snapshot(&self) -> Result<BoxStream<'static, Result<pb::SnapshotResponse, Error>>, Error> {
            self.admit(Rule::Root).await?.snapshot().await
        }

        async fn status(&self, request: pb::StatusRequest) -> Result<pb::StatusResponse, Error> {
            self.admit(Rule::Somebody).await?.status(request).await
        }

        async fn watch(
            &self,
            requests: BoxStream<'static, pb::WatchRequest>,
        ) -> Result<BoxStream<'static, Result<pb::WatchResponse, Error>>, Error> {
            self.votes()?;
            // Asked anew for every watch: a stream may last longer than permissions do.
            let guard = Arc::new(Guard::new(self.local.clone(), self.caller.clone()));
            let judged = requests.then(move |request| {
                let guard = guard.clone();
                async move {
                    let refusal = guard.refuse_watch(&request).await;
                    (request, refusal)
                }
            });
            self.local.watch_judged(judged.boxed()).await
        }
    }
}
