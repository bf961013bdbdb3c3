//! One whole member: consensus, log, actors and the local transport, simulated.

use std::time::Duration;

use chorus_proto::etcdserverpb::watch_request::RequestUnion;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::*;
use crate::actor::Shutdown;
use crate::raft;
use crate::store::Local;
use crate::store::client::Transport;
use crate::store::records::Ranged;

const NODE: NodeId = NodeId(1);

pub(super) async fn start(disk: &MemoryDisk, seed: u64) -> (Local, World, raft::Handle, Shutdown) {
    let mut config = Config::new("/data".into(), NODE, ClusterId(7));
    config.auth.bcrypt_cost = 4;
    start_with(disk, seed, config).await
}

async fn start_with(disk: &MemoryDisk, seed: u64, config: Config) -> (Local, World, raft::Handle, Shutdown) {
    let world = World::simulated(seed, disk.clone());
    let (machine, opened) = Store::open(&world, config).unwrap();
    let me = raft::Member {
        id: NODE,
        name: "n1".into(),
        peer_urls: vec!["http://n1:2380".into()],
        client_urls: vec!["http://n1:2379".into()],
        learner: false,
    };
    let config = raft::Config {
        listen: vec!["0.0.0.0:2380".into()],
        log: crate::disk::log::Options { segment_bytes: 256 * 1024, cache_bytes_max: 64 * 1024 },
        ..raft::Config::new(me.clone(), vec![me], ClusterId(7), "/data".into())
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

#[test]
fn a_compaction_leaves_its_hash_and_a_defragmentation_what_lives() {
    run(5, || async {
        let (local, ..) = start(&MemoryDisk::new(), 5).await;
        for n in 0..40 {
            local.put(put(&format!("k{}", n % 4), &"v".repeat(2000))).await.unwrap();
        }
        let size = async |local: &Local| local.status(pb::StatusRequest {}).await.unwrap().db_size;
        let full = size(&local).await;
        let before = local.hash_kv(pb::HashKvRequest { revision: 41 }).await.unwrap();
        local.compact(pb::CompactionRequest { revision: 41, physical: true }).await.unwrap();
        let noted = local.hash_kv(pb::HashKvRequest { revision: 41 }).await.unwrap();
        assert_eq!((noted.hash, noted.compact_revision, noted.hash_revision), (before.hash, -1, 41));
        let after = local.hash_kv(pb::HashKvRequest { revision: 0 }).await.unwrap();
        assert_eq!((after.compact_revision, after.hash_revision), (41, 41));
        assert!(after.hash != before.hash);
        assert!(size(&local).await < full / 2, "what compaction freed no longer counts");
        let contents = local.range(all()).await.unwrap().kvs;
        local.defragment(pb::DefragmentRequest {}).await.unwrap();
        let segments = local.data_segments().into_iter().map(|listed| listed.bytes).sum::<u64>();
        assert!(segments < 12_000, "{segments} bytes are left of what was overwritten");
        assert_eq!(local.range(all()).await.unwrap().kvs, contents);
    });
}

#[test]
fn a_full_store_says_so_and_recovers_by_itself_when_told_to() {
    run(6, || async {
        let mut config = Config::new("/data".into(), NODE, ClusterId(7));
        config.limits.quota_bytes = Some(13 * 4096);
        config.auto_disarm_no_space = true;
        let (local, world, ..) = start_with(&MemoryDisk::new(), 6, config).await;
        let page = "v".repeat(4096);
        let mut puts = 0;
        let refused = loop {
            match local.put(put("k", &page)).await {
                Ok(_) => puts += 1,
                Err(error) => break error,
            }
        };
        assert_eq!((refused, puts > 1), (Error::NoSpace, true));
        let alarms = async |local: &Local| local.alarm(pb::AlarmRequest::default()).await.unwrap().alarms.len();
        assert_eq!(alarms(&local).await, 1);
        assert_eq!(local.put(put("small", "")).await, Err(Error::NoSpace));
        let revision = revision_of(&local.range(all()).await.unwrap().header);
        local.compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();
        while alarms(&local).await > 0 {
            world.clock.sleep(Duration::from_millis(100)).await;
        }
        local.put(put("small", "")).await.unwrap();
    });
}

#[test]
fn a_large_range_is_sent_as_it_is_read() {
    run(7, || async {
        let (local, ..) = start(&MemoryDisk::new(), 7).await;
        for n in 0..300 {
            local.put(put(&format!("k{n:03}"), &"v".repeat(n))).await.unwrap();
        }
        let whole = local.range(all()).await.unwrap();
        let Ranged::InRecords(records) = local.range_in_records(all()).await.unwrap() else {
            panic!("300 keys are many")
        };
        let length = records.length();
        // Whatever becomes of the history meanwhile, the answer is that of its revision.
        local.delete_range(delete_range("k", "l")).await.unwrap();
        local.compact(pb::CompactionRequest { revision: 302, physical: true }).await.unwrap();
        local.defragment(pb::DefragmentRequest {}).await.unwrap();
        let pieces: Vec<Bytes> = records.pieces().try_collect().await.unwrap();
        let bytes = pieces.concat();
        assert_eq!(bytes.len() as u64, length);
        assert_eq!(pb::RangeResponse::decode(&bytes[..]).unwrap(), whole);
    });
}
