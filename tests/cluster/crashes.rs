//! Every process is killed at once, again and again, under a load of writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::Failed;

use crate::cluster::{TestCluster, put, range};

const ROUNDS: usize = 10;
const WRITERS: usize = 4;

pub fn writes_survive() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    let mut acknowledged: BTreeSet<String> = BTreeSet::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for round in 0..ROUNDS {
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| runtime.spawn(write(cluster.clients.clone(), format!("w-{round}-{writer}"), stop.clone())))
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(300));
        cluster.kill_all();
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            acknowledged.extend(runtime.block_on(writer)?);
        }
        cluster.up("hollow");
        let kept: BTreeSet<String> =
            runtime.block_on(range(&cluster.clients, "w-")).into_iter().map(|(key, _)| key).collect();
        let lost: Vec<_> = acknowledged.difference(&kept).collect();
        assert!(lost.is_empty(), "lost in round {round}: {lost:?}");
    }
    assert!(acknowledged.len() > ROUNDS, "there was no load: {}", acknowledged.len());
    Ok(())
}

/// Writes one key after the other; returns those that were acknowledged.
async fn write(endpoints: Vec<String>, prefix: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let key = format!("{prefix}-{number}");
        if put(&endpoints, &key, "x").await {
            acknowledged.push(key);
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    acknowledged
}
