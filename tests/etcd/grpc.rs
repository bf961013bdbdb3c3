//! gRPC calls with a client of another make than the server.

use chorus::store::error::Error;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::auth_client::AuthClient;
use chorus_proto::etcdserverpb::cluster_client::ClusterClient;
use chorus_proto::etcdserverpb::kv_client::KvClient;
use chorus_proto::etcdserverpb::lease_client::LeaseClient;
use chorus_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use chorus_proto::etcdserverpb::watch_client::WatchClient;
use chorus_proto::etcdserverpb::watch_request::RequestUnion;
use chorus_proto::health::HealthCheckRequest;
use chorus_proto::health::health_client::HealthClient;
use futures::{StreamExt, stream};
use tonic::{Code, Request};

use crate::frozen::{Frozen, MEMBER, header};
use crate::{Running, run};

#[test]
fn every_unary_call_reaches_the_store_and_comes_back() {
    run(async {
        let running = Running::start(Frozen::default()).await;
        let channel = running.channel().await;
        let mut kv = KvClient::new(channel.clone());
        let range = kv.range(pb::RangeRequest { key: "a".into(), ..Default::default() }).await.unwrap().into_inner();
        assert_eq!((range.header, &range.kvs[0].value[..]), (header(), &b"a"[..]));
        let large = bytes::Bytes::from(vec![b'x'; 1 << 20]);
        let put = pb::PutRequest { key: "k".into(), value: large.clone(), ..Default::default() };
        assert_eq!(kv.put(put).await.unwrap().into_inner().prev_kv.unwrap().value, large);
        assert_eq!(kv.delete_range(pb::DeleteRangeRequest::default()).await.unwrap().into_inner().deleted, 3);
        assert!(kv.txn(pb::TxnRequest::default()).await.unwrap().into_inner().succeeded);
        kv.compact(pb::CompactionRequest::default()).await.unwrap();
        let mut lease = LeaseClient::new(channel.clone());
        assert_eq!(lease.lease_grant(pb::LeaseGrantRequest { ttl: 5, id: 0 }).await.unwrap().into_inner().ttl, 5);
        lease.lease_revoke(pb::LeaseRevokeRequest { id: 1 }).await.unwrap();
        let left = lease.lease_time_to_live(pb::LeaseTimeToLiveRequest { id: 1, keys: false }).await.unwrap();
        assert_eq!(left.into_inner().ttl, -1);
        assert_eq!(lease.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner().leases.len(), 1);
        let members = ClusterClient::new(channel.clone()).member_list(pb::MemberListRequest::default()).await.unwrap();
        assert_eq!(members.into_inner().members[0].name, "n1");
        let mut maintenance = MaintenanceClient::new(channel.clone());
        assert_eq!(maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner().leader, MEMBER);
        assert!(maintenance.alarm(pb::AlarmRequest::default()).await.unwrap().into_inner().alarms.is_empty());
        let health = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(health.into_inner().status, 1);
        running.stop().await;
    });
}

#[test]
fn errors_arrive_with_etcds_code_and_text() {
    run(async {
        let running = Running::start(Frozen::failing(Error::TooManyRequests)).await;
        let mut kv = KvClient::new(running.channel().await);
        let refused = kv.put(pb::PutRequest::default()).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unknown, "etcdserver: too many requests"));
        running.stop().await;
    });
}

#[test]
fn what_is_not_served_says_so() {
    run(async {
        let running = Running::start(Frozen::default()).await;
        let refused = AuthClient::new(running.channel().await).auth_enable(pb::AuthEnableRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented);
        assert!(refused.message().contains("AuthEnable"));
        running.stop().await;
    });
}

#[test]
fn a_message_above_the_limit_is_refused_as_grpc_go_does() {
    run(async {
        let running = Running::start(Frozen::default()).await;
        let mut kv = KvClient::new(running.channel().await);
        let value = vec![0; 3 << 20].into();
        let refused = kv.put(pb::PutRequest { key: "k".into(), value, ..Default::default() }).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().starts_with("grpc: received message larger than max (31457"), "{refused}");
        assert!(refused.message().ends_with("vs. 2097152)"), "{refused}");
        kv.put(pb::PutRequest::default()).await.unwrap();
        running.stop().await;
    });
}

#[test]
fn a_call_that_requires_a_leader_fails_without_one() {
    run(async {
        let running = Running::start(Frozen::without_leader()).await;
        let channel = running.channel().await;
        let mut kv = KvClient::new(channel.clone());
        let mut call = Request::new(pb::RangeRequest { key: "a".into(), ..Default::default() });
        kv.range(Request::new(call.get_ref().clone())).await.unwrap();
        call.metadata_mut().insert("hasleader", "true".parse().unwrap());
        let refused = kv.range(call).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));
        let mut watch = Request::new(stream::pending());
        watch.metadata_mut().insert("hasleader", "true".parse().unwrap());
        let refused = WatchClient::new(channel).watch(watch).await.unwrap_err();
        assert_eq!(refused.message(), "etcdserver: no leader");
        running.stop().await;
    });
}

fn create() -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(pb::WatchCreateRequest::default())) }
}

#[test]
fn a_watch_answers_each_request_and_outlives_the_last_one() {
    run(async {
        let running = Running::start(Frozen::default()).await;
        let mut client = WatchClient::new(running.channel().await);
        let mut responses = client.watch(stream::iter([create(), create()])).await.unwrap().into_inner();
        for id in 0..2 {
            let response = responses.message().await.unwrap().unwrap();
            assert_eq!((response.watch_id, response.created), (id, true));
        }
        running.stop().await;
        assert_eq!(responses.message().await.unwrap_err().message(), "etcdserver: server stopped");
    });
}

#[test]
fn a_watch_whose_leader_is_lost_is_cut() {
    run(async {
        let store = Frozen::default();
        let running = Running::start(store.clone()).await;
        let mut request = Request::new(stream::iter([create()]).chain(stream::pending()));
        request.metadata_mut().insert("hasleader", "true".parse().unwrap());
        let mut responses = WatchClient::new(running.channel().await).watch(request).await.unwrap().into_inner();
        responses.message().await.unwrap().unwrap();
        store.lose_leader();
        let cut = responses.message().await.unwrap_err();
        assert_eq!((cut.code(), cut.message()), (Code::Unavailable, "etcdserver: no leader"));
        running.stop().await;
    });
}

#[test]
fn a_watch_of_a_store_that_goes_away_invites_a_retry() {
    run(async {
        let running = Running::start(Frozen::with_breaking_watch()).await;
        let requests = stream::iter([create()]).chain(stream::pending());
        let mut responses = WatchClient::new(running.channel().await).watch(requests).await.unwrap().into_inner();
        responses.message().await.unwrap().unwrap();
        assert_eq!(responses.message().await.unwrap_err().code(), Code::Unavailable);
        running.stop().await;
    });
}

#[test]
fn streams_end_when_the_node_ends() {
    run(async {
        let running = Running::start(Frozen::default()).await;
        let requests = stream::iter([create()]).chain(stream::pending());
        let mut responses = WatchClient::new(running.channel().await).watch(requests).await.unwrap().into_inner();
        responses.message().await.unwrap().unwrap();
        running.stop().await;
        let cut = responses.message().await.unwrap_err();
        assert_eq!((cut.code(), cut.message()), (Code::Unavailable, "etcdserver: server stopped"));
    });
}

#[test]
fn keep_alives_are_answered_in_order() {
    run(async {
        let running = Running::start(Frozen::default()).await;
        let requests = stream::iter([1, 2, 3].map(|id| pb::LeaseKeepAliveRequest { id }));
        let mut client = LeaseClient::new(running.channel().await);
        let answers = client.lease_keep_alive(requests).await.unwrap().into_inner();
        let ids: Vec<_> = answers.map(|answer| answer.unwrap().id).collect().await;
        assert_eq!(ids, [1, 2, 3]);
        running.stop().await;
    });
}

#[test]
fn a_range_stream_ends_with_the_header() {
    run(async {
        let running = Running::start(Frozen::default()).await;
        let request = pb::RangeRequest { key: "a".into(), range_end: "b".into(), ..Default::default() };
        let mut client = KvClient::new(running.channel().await);
        let chunks: Vec<_> = client.range_stream(request).await.unwrap().into_inner().collect().await;
        assert_eq!(chunks.len(), 1);
        let last = chunks[0].as_ref().unwrap().range_response.as_ref().unwrap();
        assert_eq!((last.header, last.count, last.kvs.len()), (header(), 1, 1));
        let refused = client.range_stream(pb::RangeRequest::default()).await.unwrap_err();
        assert_eq!(refused.message(), "etcdserver: key is not provided");
        running.stop().await;
    });
}
