//! One whole member: consensus, log, actors and the local transport, simulated.

use std::time::Duration;

use chorus_proto::etcdserverpb::watch_request::RequestUnion;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::*;
use crate::actor::Shutdown;
use crate::raft;
use crate::store::Local;
use crate::store::client::Transport;

const NODE: NodeId = NodeId(1);

pub(super) async fn start(disk: &MemoryDisk, seed: u64) -> (Local, World, raft::Handle, Shutdown) {
    let world = World::simulated(seed, disk.clone());
    let mut config = Config::new("/data".into(), NODE, ClusterId(7));
    config.auth.bcrypt_cost = 4;
    let (machine, opened) = Store::open(&world, config).unwrap();
    let me = raft::Member {
        id: NODE,
        name: "n1".into(),
        peer_urls: vec!["http://n1:2380".into()],
        client_urls: vec!["http://n1:2379".into()],
        learner: false,
    };
    let config = raft::Config {
        node: NODE,
        cluster: ClusterId(7),
        name: "n1".into(),
        client_urls: me.client_urls.clone(),
        data_dir: "/data".into(),
        listen: vec!["0.0.0.0:2380".into()],
        security: Default::default(),
        bootstrap: raft::Bootstrap::New(vec![me]),
        force_new_cluster: false,
        rules: raft::Rules::default(),
        version: "1.0.0".into(),
        timings: raft::Timings::default(),
        limits: raft::Limits::default(),
        log: crate::disk::log::Options { segment_bytes: 256 * 1024, cache_bytes_max: 64 * 1024 },
    };
    let handle = raft::Replica::start(world.clone(), config, Box::new(machine)).await.unwrap();
    let shutdown = Shutdown::new();
    let local = Store::start(&world, opened, handle.clone(), shutdown.clone());
    handle.leadership().wait_for(|leadership| leadership.is_leader).await.unwrap();
    (local, world, handle, shutdown)
}

/// Runs `story` on a member whose disk is `disk`.
pub(super) fn run<F>(seed: u64, story: impl FnOnce() -> F)
where
    F: Future<Output = ()> + 'static,
{
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(600))
        .tick_duration(Duration::from_millis(1))
        .build();
    let story = story();
    sim.client("n1", async move {
        story.await;
        Ok(())
    });
    sim.run().unwrap();
}

type Responses = BoxStream<'static, Result<pb::WatchResponse, Error>>;

async fn watch(local: &Local, request: pb::WatchCreateRequest) -> Responses {
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) };
    let requests = futures::stream::iter([create]).chain(futures::stream::pending()).boxed();
    let mut responses = local.watch(requests).await.unwrap();
    assert!(responses.next().await.unwrap().unwrap().created);
    responses
}

async fn event_revisions(responses: &mut Responses, count: usize) -> Vec<i64> {
    let mut revisions = Vec::new();
    while revisions.len() < count {
        let response = responses.next().await.unwrap().unwrap();
        revisions.extend(response.events.into_iter().map(|event| event.kv.unwrap().mod_revision));
    }
    revisions
}

#[test]
fn a_client_writes_reads_and_watches() {
    run(1, || async {
        let (local, ..) = start(&MemoryDisk::new(), 1).await;
        let request = pb::WatchCreateRequest { key: bytes("k"), range_end: bytes("l"), ..Default::default() };
        let mut live = watch(&local, request.clone()).await;
        let writes = (0..50).map(|n| {
            let local = local.clone();
            async move { local.put(put(&format!("k{n}"), "v")).await.unwrap() }
        });
        let answers = futures::future::join_all(writes).await;
        let mut revisions: Vec<i64> = answers.iter().map(|answer| revision_of(&answer.header)).collect();
        revisions.sort_unstable();
        assert_eq!(revisions, (2..=51).collect::<Vec<_>>());
        assert_eq!(event_revisions(&mut live, 50).await, revisions);
        let answer = local.range(all()).await.unwrap();
        let header = answer.header.unwrap();
        assert_eq!((answer.count, header.revision, header.cluster_id, header.member_id), (50, 51, 7, 1));
        assert!(header.raft_term > 0);
        let mut replay = watch(&local, pb::WatchCreateRequest { start_revision: 2, ..request }).await;
        assert_eq!(event_revisions(&mut replay, 50).await, revisions);
        local.compact(pb::CompactionRequest { revision: 51, physical: true }).await.unwrap();
        let old = local.range(pb::RangeRequest { revision: 50, ..all() }).await;
        assert_eq!(old.unwrap_err(), Error::Compacted);
        let status = local.status(pb::StatusRequest {}).await.unwrap();
        assert_eq!((status.leader, status.errors), (1, vec![]));
        assert_eq!(local.member_list(pb::MemberListRequest::default()).await.unwrap().members.len(), 1);
        let alarm = |action| pb::AlarmRequest { action, member_id: 1, alarm: pb::AlarmType::Nospace as i32 };
        assert_eq!(local.alarm(alarm(1)).await.unwrap().alarms.len(), 1);
        assert_eq!(local.put(put("k", "")).await, Err(Error::NoSpace));
        assert_eq!(local.delete_range(delete("k0")).await.unwrap().deleted, 1);
        assert_eq!(local.alarm(alarm(2)).await.unwrap().alarms.len(), 1);
        local.put(put("k", "")).await.unwrap();
        let hash = local.hash_kv(pb::HashKvRequest { revision: 0 }).await.unwrap();
        assert_eq!((hash.compact_revision, hash.hash_revision), (51, 53));
        let too_large = pb::PutRequest { value: vec![0; 1_572_864].into(), ..put("big", "") };
        assert_eq!(local.put(too_large).await, Err(Error::RequestTooLarge));
    });
}

#[test]
fn a_lease_lives_while_it_is_kept_alive() {
    run(2, || async {
        let (local, world, ..) = start(&MemoryDisk::new(), 2).await;
        let granted = local.lease_grant(pb::LeaseGrantRequest { id: 0, ttl: 1 }).await.unwrap();
        assert_eq!((granted.ttl, granted.id > 0), (2, true), "raised to the minimum, under an id of the store's own");
        let id = granted.id;
        local.put(pb::PutRequest { lease: id, ..put("held", "") }).await.unwrap();
        for _ in 0..5 {
            world.clock.sleep(Duration::from_millis(1500)).await;
            assert_eq!(local.lease_keep_alive(pb::LeaseKeepAliveRequest { id }).await.unwrap().ttl, 2);
        }
        world.clock.sleep(Duration::from_millis(100)).await;
        let left = local.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys: true }).await.unwrap();
        assert_eq!((left.ttl, left.granted_ttl, left.keys), (1, 2, vec![bytes("held")]));
        assert_eq!(local.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().leases.len(), 1);
        let mut gone = watch(&local, pb::WatchCreateRequest { key: bytes("held"), ..Default::default() }).await;
        let ended = world.clock.timeout(Duration::from_secs(5), event_revisions(&mut gone, 1)).await;
        assert_eq!(ended.unwrap(), [3]);
        assert_eq!(local.lease_keep_alive(pb::LeaseKeepAliveRequest { id }).await.unwrap().ttl, 0);
        let left = local.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys: false }).await.unwrap();
        assert_eq!(left.ttl, -1);
    });
}

#[test]
fn after_a_crash_every_acknowledged_write_is_there() {
    let disk = MemoryDisk::new();
    for round in 0..4_u64 {
        let of_round = disk.clone();
        run(round, || async move {
            let (local, ..) = start(&of_round, round).await;
            let found = local.range(all()).await.unwrap();
            assert_eq!(found.count as u64, 20 * round);
            for n in 0..20 {
                let answer = local.put(put(&format!("round {round} key {n:02}"), "")).await.unwrap();
                assert_eq!(revision_of(&answer.header) as u64, 20 * round + n + 2);
            }
        });
        disk.crash(&Random::from_seed(round));
    }
}

#[test]
fn streams_end_with_the_node() {
    run(3, || async {
        let (local, _, raft, shutdown) = start(&MemoryDisk::new(), 3).await;
        let mut responses = watch(&local, pb::WatchCreateRequest { key: bytes("a"), ..Default::default() }).await;
        shutdown.begin();
        assert_eq!(responses.next().await, Some(Err(Error::Stopped)));
        assert_eq!(responses.next().await, None);
        raft.shutdown().await;
    });
}
