//! The leader of the store dies: writes go on, and nothing that was acknowledged is lost.

use libtest_mimic::Failed;

use crate::cluster::{TestCluster, eventually, put, range};

pub fn writes_go_on() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
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
    let others: Vec<String> = cluster
        .clients
        .iter()
        .enumerate()
        .filter(|(number, _)| format!("n{}", number + 1) != leader)
        .map(|(_, client)| client.clone())
        .collect();
    eventually("a write goes on without the frozen leader", || {
        runtime.block_on(put(&others, "frozen", "3")).then_some(())
    });
    assert!(cluster.chorus(&["resume", &leader]).ok);
    let number: usize = leader[1..].parse()?;
    let woken = std::slice::from_ref(&cluster.clients[number - 1]);
    assert_eq!(runtime.block_on(range(woken, "frozen")), [("frozen".to_owned(), "3".to_owned())]);
    Ok(())
}
