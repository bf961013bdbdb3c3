//! Locks and elections that have to wait.

use chorus_proto::etcdserverpb as pb;
use chorus_proto::v3electionpb::election_client::ElectionClient;
use chorus_proto::v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest};
use chorus_proto::v3lockpb::lock_client::LockClient;
use chorus_proto::v3lockpb::{LockRequest, UnlockRequest};
use tonic::Code;
use tonic::transport::Channel;

use super::{Member, run};

async fn channel(member: &Member) -> Channel {
    Channel::from_shared(format!("http://{}", member.address())).unwrap().connect().await.unwrap()
}

async fn lease(member: &Member) -> i64 {
    member.store.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 }).await.unwrap().id
}

fn lock(lease: i64) -> LockRequest {
    LockRequest { name: "lk".into(), lease }
}

/// Waits until `count` keys are in the queue.
async fn queued(member: &Member, count: i64) {
    let keys = pb::RangeRequest { key: "lk/".into(), range_end: "lk0".into(), count_only: true, ..Default::default() };
    while member.store.range(keys.clone()).await.unwrap().count != count {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_lock_is_handed_on_when_it_is_released() {
    run(async {
        let member = Member::start().await;
        let mut client = LockClient::new(channel(&member).await);
        let held = client.lock(lock(0)).await.unwrap().into_inner();
        let next = lease(&member).await;
        let mut waiting = client.clone();
        let waiting = member.world.spawner.task(async move { waiting.lock(lock(next)).await });
        queued(&member, 2).await;
        assert!(!waiting.is_finished());
        client.unlock(UnlockRequest { key: held.key }).await.unwrap();
        let held = waiting.await.unwrap().unwrap().into_inner();
        assert_eq!(held.key, format!("lk/{next:x}"));
        assert_eq!(client.lock(lock(next)).await.unwrap().into_inner().key, held.key, "the holder holds it already");
        member.stop().await;
    });
}

#[test]
fn a_caller_that_leaves_gives_up_its_place() {
    run(async {
        let member = Member::start().await;
        let mut client = LockClient::new(channel(&member).await);
        client.lock(lock(0)).await.unwrap();
        let mut waiting = client.clone();
        let waiting = member.world.spawner.task(async move { waiting.lock(lock(0)).await });
        queued(&member, 2).await;
        waiting.abort();
        queued(&member, 1).await;
        member.stop().await;
    });
}

#[test]
fn a_session_that_ends_while_it_waits_is_told() {
    run(async {
        let member = Member::start().await;
        let mut client = LockClient::new(channel(&member).await);
        let held = client.lock(lock(0)).await.unwrap().into_inner();
        let lost = lease(&member).await;
        let mut waiting = client.clone();
        let waiting = member.world.spawner.task(async move { waiting.lock(lock(lost)).await });
        queued(&member, 2).await;
        member.store.lease_revoke(pb::LeaseRevokeRequest { id: lost }).await.unwrap();
        client.unlock(UnlockRequest { key: held.key }).await.unwrap();
        let refused = waiting.await.unwrap().unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unknown, "mutex: session is expired"));
        member.stop().await;
    });
}

#[test]
fn an_election_is_observed_from_leader_to_leader() {
    run(async {
        let member = Member::start().await;
        let mut client = ElectionClient::new(channel(&member).await);
        let mut observed = client.observe(LeaderRequest { name: "el".into() }).await.unwrap().into_inner();
        let campaign = |value: &'static str| CampaignRequest { name: "el".into(), lease: 0, value: value.into() };
        let first = client.campaign(campaign("a")).await.unwrap().into_inner().leader.unwrap();
        let proclaim = ProclaimRequest { leader: Some(first.clone()), value: "b".into() };
        assert_eq!(observed.message().await.unwrap().unwrap().kv.unwrap().value, "a");
        client.proclaim(proclaim.clone()).await.unwrap();
        assert_eq!(observed.message().await.unwrap().unwrap().kv.unwrap().value, "b");
        client.resign(ResignRequest { leader: Some(first) }).await.unwrap();
        let second = client.campaign(campaign("c")).await.unwrap().into_inner().leader.unwrap();
        let seen = observed.message().await.unwrap().unwrap().kv.unwrap();
        assert_eq!((seen.value, seen.create_revision), ("c".into(), second.rev));
        let refused = client.proclaim(proclaim).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unknown, "election: not leader"));
        let again = LeaderKey { lease: second.lease, ..second.clone() };
        let renewed = CampaignRequest { name: "el".into(), lease: again.lease, value: "d".into() };
        assert_eq!(client.campaign(renewed).await.unwrap().into_inner().leader, Some(second));
        assert_eq!(observed.message().await.unwrap().unwrap().kv.unwrap().value, "d");
        member.stop().await;
    });
}
