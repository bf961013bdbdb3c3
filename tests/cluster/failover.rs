//! The leader of the store dies: writes go on, and nothing that was acknowledged is lost.

use std::os::unix::fs::FileExt;

use libtest_mimic::Failed;

use chorus_proto::etcdserverpb::PutRequest;

use crate::cluster::{TestCluster, eventually, kv, put, range};

pub fn writes_go_on() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let leader = cluster.leader();
    assert!(runtime.block_on(put(&cluster.clients, "before", "1")));
    assert!(cluster.chorus(&["kill", &leader]).ok);
    eventually("a write is acknowledged by the others", || {
        runtime.block_on(put(&cluster.clients, "after", "2")).then_some(())
    });
    assert_ne!(cluster.leader(), leader);
    assert!(cluster.chorus(&["start", &leader]).ok);
    eventually("the killed node is ready again", || cluster.chorus(&["status"]).ok.then_some(()));
    assert_eq!(runtime.block_on(range(&cluster.clients, "before")), [("before".to_owned(), "1".to_owned())]);

    // A node that is frozen, not dead, must not serve stale reads after it wakes.
    let leader = cluster.leader();
    assert!(cluster.chorus(&["pause", &leader]).ok);
    let others = others_than(&cluster, &leader);
    eventually("a write goes on without the frozen leader", || {
        runtime.block_on(put(&others, "frozen", "3")).then_some(())
    });
    assert!(cluster.chorus(&["resume", &leader]).ok);
    let number: usize = leader[1..].parse()?;
    let woken = std::slice::from_ref(&cluster.clients[number - 1]);
    assert_eq!(runtime.block_on(range(woken, "frozen")), [("frozen".to_owned(), "3".to_owned())]);

    // A write that another node takes while the leader is dead waits for the next leader, also when the dead one is back
    // before there is a new one.
    let leader = cluster.leader();
    assert!(cluster.chorus(&["kill", &leader]).ok);
    let survivor = others_than(&cluster, &leader)[0].clone();
    let write = runtime.spawn(async move {
        let request = PutRequest { key: "patient".into(), value: "4".into(), ..Default::default() };
        kv(&survivor).await.expect("it is reachable").put(request).await.map(drop)
    });
    assert!(cluster.chorus(&["start", &leader]).ok);
    runtime.block_on(write)?.map_err(|status| format!("the first write after the leader's death: {status}"))?;
    Ok(())
}

/// A node whose store is damaged stays away and says why, until it is told to heal.
pub fn a_damaged_node_heals() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    assert!(runtime.block_on(put(&cluster.clients, "before", "1")));
    assert!(cluster.chorus(&["kill", "n2"]).ok);
    let log = cluster.data_dir().join("n2/wal/0000000000000001.wal");
    let file = std::fs::File::options().read(true).write(true).open(&log)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 200)?;
    file.write_all_at(&[byte[0] ^ 1], 200)?;

    assert!(cluster.chorus(&["start", "n2"]).ok);
    eventually("it says what is damaged and what to do", || {
        let said = cluster.chorus(&["logs", "n2"]).out;
        (said.contains(log.to_str()?) && said.contains("--heal-from-peers")).then_some(())
    });
    eventually("it has ended", || cluster.chorus(&["start", "n2", "--heal-from-peers"]).ok.then_some(()));
    eventually("the healed node is ready", || cluster.chorus(&["status"]).ok.then_some(()));
    let healed = std::slice::from_ref(&cluster.clients[1]);
    assert_eq!(runtime.block_on(range(healed, "before")), [("before".to_owned(), "1".to_owned())]);
    Ok(())
}

/// Where clients reach all nodes but one.
fn others_than(cluster: &TestCluster, node: &str) -> Vec<String> {
    let names = (1..).map(|number| format!("n{number}"));
    names.zip(&cluster.clients).filter(|(name, _)| name != node).map(|(_, client)| client.clone()).collect()
}
