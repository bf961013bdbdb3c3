//! A store whose answers are frozen.

use std::sync::{Arc, Mutex};

use chorus::store::client::{Call, Caller, Client, Transport, Versions};
use chorus::store::error::Error;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::mvccpb;
use futures::future;
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

    fn answer<T: Send + 'static>(&self, answer: T) -> Call<'_, T> {
        let answered = self.0.lock().unwrap().error.clone().map_or(Ok(answer), Err);
        Box::pin(future::ready(answered))
    }
}

impl Transport for Frozen {
    fn on_behalf(&self, _: Caller) -> Client {
        Client::new(self.clone())
    }

    fn versions(&self) -> Versions {
        Versions { cluster: Some("3.6.0".to_owned()), storage: Some("3.6.0".to_owned()) }
    }

    /// Every key asked for exists and holds its own name.
    fn range(&self, request: pb::RangeRequest) -> Call<'_, pb::RangeResponse> {
        let kv = mvccpb::KeyValue { value: request.key.clone(), key: request.key, ..Default::default() };
        self.answer(pb::RangeResponse { header: header(), kvs: vec![kv], more: false, count: 1 })
    }

    fn put(&self, request: pb::PutRequest) -> Call<'_, pb::PutResponse> {
        let prev_kv = mvccpb::KeyValue { key: request.key, value: request.value, ..Default::default() };
        self.answer(pb::PutResponse { header: header(), prev_kv: Some(prev_kv) })
    }

    fn delete_range(&self, _: pb::DeleteRangeRequest) -> Call<'_, pb::DeleteRangeResponse> {
        self.answer(pb::DeleteRangeResponse { header: header(), deleted: 3, prev_kvs: vec![] })
    }

    fn txn(&self, _: pb::TxnRequest) -> Call<'_, pb::TxnResponse> {
        self.answer(pb::TxnResponse { header: header(), succeeded: true, responses: vec![] })
    }

    fn compact(&self, _: pb::CompactionRequest) -> Call<'_, pb::CompactionResponse> {
        self.answer(pb::CompactionResponse { header: header() })
    }

    fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Call<'_, pb::LeaseGrantResponse> {
        let error = String::new();
        self.answer(pb::LeaseGrantResponse { header: header(), id: 77, ttl: request.ttl, error })
    }

    fn lease_revoke(&self, _: pb::LeaseRevokeRequest) -> Call<'_, pb::LeaseRevokeResponse> {
        self.answer(pb::LeaseRevokeResponse { header: header() })
    }

    fn lease_keep_alive(&self, request: pb::LeaseKeepAliveRequest) -> Call<'_, pb::LeaseKeepAliveResponse> {
        self.answer(pb::LeaseKeepAliveResponse { header: header(), id: request.id, ttl: 60 })
    }

    fn lease_time_to_live(&self, request: pb::LeaseTimeToLiveRequest) -> Call<'_, pb::LeaseTimeToLiveResponse> {
        self.answer(pb::LeaseTimeToLiveResponse { header: header(), id: request.id, ttl: -1, ..Default::default() })
    }

    fn lease_leases(&self, _: pb::LeaseLeasesRequest) -> Call<'_, pb::LeaseLeasesResponse> {
        self.answer(pb::LeaseLeasesResponse { header: header(), leases: vec![pb::LeaseStatus { id: 77 }] })
    }

    fn member_list(&self, _: pb::MemberListRequest) -> Call<'_, pb::MemberListResponse> {
        let member = pb::Member { id: MEMBER, name: "n1".into(), ..Default::default() };
        self.answer(pb::MemberListResponse { header: header(), members: vec![member] })
    }

    fn alarm(&self, _: pb::AlarmRequest) -> Call<'_, pb::AlarmResponse> {
        self.answer(pb::AlarmResponse { header: header(), alarms: Vec::new() })
    }

    fn status(&self, _: pb::StatusRequest) -> Call<'_, pb::StatusResponse> {
        let state = self.0.lock().unwrap();
        let status = pb::StatusResponse {
            header: header(),
            leader: if state.no_leader { 0 } else { MEMBER },
            errors: state.alarms.clone(),
            db_size: 20480,
            ..Default::default()
        };
        Box::pin(future::ready(Ok(status)))
    }

    /// Answers each request with a response of the same place in line.
    fn watch(
        &self,
        requests: BoxStream<'static, pb::WatchRequest>,
    ) -> Call<'_, BoxStream<'static, Result<pb::WatchResponse, Error>>> {
        let responses = requests.enumerate().map(|(watch_id, _)| {
            let watch_id = i64::try_from(watch_id).unwrap();
            Ok(pb::WatchResponse { header: header(), watch_id, created: true, ..Default::default() })
        });
        let responses = match self.0.lock().unwrap().watch_breaks {
            true => responses.take(1).chain(stream::empty()).boxed(),
            false => responses.boxed(),
        };
        Box::pin(future::ready(Ok(responses)))
    }
}
