//! What a member without a vote answers: its status, its snapshot, and serializable ranges of any shape.

use std::time::Duration;

use futures::StreamExt;
use tokio::sync::oneshot;

use super::*;
use crate::actor::Shutdown;
use crate::raft;
use crate::store::client::{Caller, Client, Transport};
use crate::store::records::Ranged;

/// Starts the learner whose ID was given out when it was added.
async fn join(id: u64) -> Client {
    let (world, node) = (World::simulated(2, MemoryDisk::new()), NodeId(id));
    let (machine, opened) = Store::open(&world, Config::new("/data".into(), node, ClusterId(7))).unwrap();
    let me = raft::Member {
        id: node,
        name: "n2".into(),
        peer_urls: vec!["http://n2:2380".into()],
        client_urls: vec!["http://n2:2379".into()],
        learner: true,
    };
    let config = raft::Config {
        listen: vec!["0.0.0.0:2380".into()],
        bootstrap: raft::Bootstrap::Join,
        ..raft::Config::new(me, Vec::new(), ClusterId(7), "/data".into())
    };
    let handle = raft::Replica::start(world.clone(), config, Box::new(machine)).await.unwrap();
    let local = Store::start(&world, opened, handle, Shutdown::new());
    while !local.is_learner() || local.member().view().state.index.keys_count() < KEYS {
        world.clock.sleep(Duration::from_millis(10)).await;
    }
    local.on_behalf(Caller::ANONYMOUS)
}

/// More than are read at once.
const KEYS: usize = 300;

async fn answers_what_learners_answer(learner: Client) {
    let refused = Err::<(), _>(Error::NotSupportedForLearner);
    let serializable = |request| pb::RangeRequest { serializable: true, ..request };
    for request in [get("k001"), all(), pb::RangeRequest { limit: 1, ..all() }, pb::RangeRequest::default()] {
        assert_eq!(learner.range(request.clone()).await.map(drop), refused);
        assert_eq!(learner.range_in_records(request).await.map(drop), refused);
    }
    assert_eq!(learner.range(serializable(get("k001"))).await.unwrap().count, 1);
    assert_eq!(learner.range(serializable(all())).await.unwrap().count, KEYS as i64);
    let Ranged::InRecords(records) = learner.range_in_records(serializable(all())).await.unwrap() else {
        panic!("so many keys are read as they are sent");
    };
    assert!(records.pieces().all(async |piece| piece.is_ok()).await);
    assert!(learner.status(pb::StatusRequest {}).await.unwrap().is_learner);
    assert!(learner.snapshot().await.is_ok());
    assert_eq!(learner.put(put("a", "b")).await.map(drop), refused);
    let read = ops(vec![Request::RequestRange(serializable(all()))]);
    assert_eq!(learner.txn(pb::TxnRequest { success: read, ..Default::default() }).await.map(drop), refused);
    assert_eq!(learner.member_list(pb::MemberListRequest::default()).await.map(drop), refused);
    assert_eq!(learner.hash_kv(pb::HashKvRequest::default()).await.map(drop), refused);
    assert_eq!(learner.lease_leases(pb::LeaseLeasesRequest {}).await.map(drop), refused);
    assert_eq!(learner.alarm(pb::AlarmRequest::default()).await.map(drop), refused);
    assert!(matches!(learner.watch(futures::stream::pending().boxed()).await, Err(Error::NotSupportedForLearner)));
}

#[test]
fn a_learner_reads_what_it_has_and_refers_clients_to_others() {
    let mut sim = turmoil::Builder::new()
        .rng_seed(1)
        .simulation_duration(Duration::from_secs(600))
        .tick_duration(Duration::from_millis(1))
        .build();
    let (added, id) = oneshot::channel();
    let (answered, done) = oneshot::channel();
    sim.client("n1", async move {
        let (local, ..) = single::start(&MemoryDisk::new(), 1).await;
        for n in 0..KEYS {
            local.put(put(&format!("k{n:03}"), "v")).await.unwrap();
        }
        let request = pb::MemberAddRequest { peer_ur_ls: vec!["http://n2:2380".into()], is_learner: true };
        added.send(local.member_add(request).await.unwrap().member.unwrap().id).unwrap();
        done.await.unwrap();
        Ok(())
    });
    sim.client("n2", async move {
        answers_what_learners_answer(join(id.await.unwrap()).await).await;
        answered.send(()).unwrap();
        Ok(())
    });
    sim.run().unwrap();
}
