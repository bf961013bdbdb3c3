//! A store whose answers are frozen.

use std::sync::{Arc, Mutex};

use chorus::store::client::{Caller, Client, Transport, Versions};
use chorus::store::error::Error;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::mvccpb;
use futures::stream::{self, BoxStream, StreamExt};

#[derive(Clone, Default)]
pub struct Frozen(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What every call but status and watch answers, if anything goes wrong.
    error: Option<Error>,
    no_leader: bool,
    alarms: Vec<String>,
    /// The watch stream ends after the first response.
    watch_breaks: bool,
}

pub const MEMBER: u64 = 0x8e9e;

pub fn header() -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { cluster_id: 1, member_id: MEMBER, revision: 7, raft_term: 2 })
}

impl Frozen {
    pub fn failing(error: Error) -> Frozen {
        let frozen = Frozen::default();
        frozen.0.lock().unwrap().error = Some(error);
        frozen
    }

    pub fn without_leader() -> Frozen {
        let frozen = Frozen::default();
        frozen.lose_leader();
        frozen
    }

    pub fn lose_leader(&self) {
        self.0.lock().unwrap().no_leader = true;
    }

    pub fn alarmed(text: &str) -> Frozen {
        let frozen = Frozen::default();
        frozen.0.lock().unwrap().alarms.push(text.into());
        frozen
    }

    pub fn with_breaking_watch() -> Frozen {
        let frozen = Frozen::default();
        frozen.0.lock().unwrap().watch_breaks = true;
        frozen
    }

    fn answer<T>(&self, answer: T) -> Result<T, Error> {
        self.0.lock().unwrap().error.clone().map_or(Ok(answer), Err)
    }
}

#[async_trait::async_trait]
impl Transport for Frozen {
    fn on_behalf(&self, _: Caller) -> Client {
        Client::new(self.clone())
    }

    fn versions(&self) -> Versions {
        Versions { cluster: Some("3.6.0".to_owned()), storage: Some("3.6.0".to_owned()) }
    }

    /// Every key asked for exists and holds its own name.
    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        let kv = mvccpb::KeyValue { value: request.key.clone(), key: request.key, ..Default::default() };
        self.answer(pb::RangeResponse { header: header(), kvs: vec![kv], more: false, count: 1 })
    }

    async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        let prev_kv = mvccpb::KeyValue { key: request.key, value: request.value, ..Default::default() };
        self.answer(pb::PutResponse { header: header(), prev_kv: Some(prev_kv) })
    }

    async fn delete_range(&self, _: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, Error> {
        self.answer(pb::DeleteRangeResponse { header: header(), deleted: 3, prev_kvs: vec![] })
    }

    async fn txn(&self, _: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        self.answer(pb::TxnResponse { header: header(), succeeded: true, responses: vec![] })
    }

    async fn compact(&self, _: pb::CompactionRequest) -> Result<pb::CompactionResponse, Error> {
        self.answer(pb::CompactionResponse { header: header() })
    }

    async fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, Error> {
        let error = String::new();
        self.answer(pb::LeaseGrantResponse { header: header(), id: 77, ttl: request.ttl, error })
    }

    async fn lease_revoke(&self, _: pb::LeaseRevokeRequest) -> Result<pb::LeaseRevokeResponse, Error> {
        self.answer(pb::LeaseRevokeResponse { header: header() })
    }

    async fn lease_keep_alive(&self, request: pb::LeaseKeepAliveRequest) -> Result<pb::LeaseKeepAliveResponse, Error> {
        self.answer(pb::LeaseKeepAliveResponse { header: header(), id: request.id, ttl: 60 })
    }

    async fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        self.answer(pb::LeaseTimeToLiveResponse { header: header(), id: request.id, ttl: -1, ..Default::default() })
    }

    async fn lease_leases(&self, _: pb::LeaseLeasesRequest) -> Result<pb::LeaseLeasesResponse, Error> {
        self.answer(pb::LeaseLeasesResponse { header: header(), leases: vec![pb::LeaseStatus { id: 77 }] })
    }

    async fn member_list(&self, _: pb::MemberListRequest) -> Result<pb::MemberListResponse, Error> {
        let member = pb::Member { id: MEMBER, name: "n1".into(), ..Default::default() };
        self.answer(pb::MemberListResponse { header: header(), members: vec![member] })
    }

    async fn alarm(&self, _: pb::AlarmRequest) -> Result<pb::AlarmResponse, Error> {
        self.answer(pb::AlarmResponse { header: header(), alarms: Vec::new() })
    }

    async fn status(&self, _: pb::StatusRequest) -> Result<pb::StatusResponse, Error> {
        let state = self.0.lock().unwrap();
        Ok(pb::StatusResponse {
            header: header(),
            leader: if state.no_leader { 0 } else { MEMBER },
            errors: state.alarms.clone(),
            db_size: 20480,
            ..Default::default()
        })
    }

    /// Answers each request with a response of the same place in line.
    async fn watch(
        &self,
        requests: BoxStream<'static, pb::WatchRequest>,
    ) -> Result<BoxStream<'static, Result<pb::WatchResponse, Error>>, Error> {
        let responses = requests.enumerate().map(|(watch_id, _)| {
            let watch_id = i64::try_from(watch_id).unwrap();
            Ok(pb::WatchResponse { header: header(), watch_id, created: true, ..Default::default() })
        });
        if self.0.lock().unwrap().watch_breaks {
            return Ok(responses.take(1).chain(stream::empty()).boxed());
        }
        Ok(responses.boxed())
    }
}
