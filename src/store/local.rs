//! The transport to the store of this very member.

use chorus_proto::etcdserverpb as pb;
use futures::stream::BoxStream;

use super::client::Transport;
use super::{Config, Error};
use crate::actor::Shutdown;
use crate::raft;
use crate::world::World;

/// The store of this member, as a transport. Cheap to clone.
#[derive(Clone)]
pub struct Local(std::sync::Arc<Shared>);

struct Shared {
    _world: World,
    _config: Config,
    _raft: raft::Handle,
    _shutdown: Shutdown,
}

impl Local {
    pub(super) fn new(world: World, config: Config, raft: raft::Handle, shutdown: Shutdown) -> Local {
        Local(std::sync::Arc::new(Shared { _world: world, _config: config, _raft: raft, _shutdown: shutdown }))
    }
}

#[async_trait::async_trait]
impl Transport for Local {
    async fn range(&self, _request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        Err(Error::Stopped)
    }

    async fn put(&self, _request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        Err(Error::Stopped)
    }

    async fn delete_range(&self, _request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, Error> {
        Err(Error::Stopped)
    }

    async fn txn(&self, _request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        Err(Error::Stopped)
    }

    async fn compact(&self, _request: pb::CompactionRequest) -> Result<pb::CompactionResponse, Error> {
        Err(Error::Stopped)
    }

    async fn lease_grant(&self, _request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, Error> {
        Err(Error::Stopped)
    }

    async fn lease_revoke(&self, _request: pb::LeaseRevokeRequest) -> Result<pb::LeaseRevokeResponse, Error> {
        Err(Error::Stopped)
    }

    async fn lease_keep_alive(&self, _request: pb::LeaseKeepAliveRequest) -> Result<pb::LeaseKeepAliveResponse, Error> {
        Err(Error::Stopped)
    }

    async fn lease_time_to_live(
        &self,
        _request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        Err(Error::Stopped)
    }

    async fn lease_leases(&self, _request: pb::LeaseLeasesRequest) -> Result<pb::LeaseLeasesResponse, Error> {
        Err(Error::Stopped)
    }

    async fn member_list(&self, _request: pb::MemberListRequest) -> Result<pb::MemberListResponse, Error> {
        Err(Error::Stopped)
    }

    async fn status(&self, _request: pb::StatusRequest) -> Result<pb::StatusResponse, Error> {
        Err(Error::Stopped)
    }

    async fn watch(
        &self,
        _requests: BoxStream<'static, pb::WatchRequest>,
    ) -> Result<BoxStream<'static, Result<pb::WatchResponse, Error>>, Error> {
        Err(Error::Stopped)
    }
}
