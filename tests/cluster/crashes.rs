//! Every process is killed at once, again and again, under a load of writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use libtest_mimic::Failed;

use crate::cluster::{TestCluster, eventually, put, range};

const ROUNDS: usize = 10;
const WRITERS: usize = 4;
/// Acknowledged writes in a round before everything is killed under those that follow.
const WRITES: usize = 40;

pub fn writes_survive() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    let mut acknowledged: BTreeSet<String> = BTreeSet::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for round in 0..ROUNDS {
        let load = Load::default();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| runtime.spawn(write(cluster.clients.clone(), format!("w-{round}-{writer}"), load.clone())))
            .collect();
        eventually("there is a load of writes", || (load.written.load(Ordering::Relaxed) >= WRITES).then_some(()));
        cluster.kill_all();
        load.stop.store(true, Ordering::Relaxed);
        for writer in writers {
            acknowledged.extend(runtime.block_on(writer)?);
        }
        cluster.up("hollow");
        let kept: BTreeSet<String> =
            runtime.block_on(range(&cluster.clients, "w-")).into_iter().map(|(key, _)| key).collect();
        let lost: Vec<_> = acknowledged.difference(&kept).collect();
        assert!(lost.is_empty(), "lost in round {round}: {lost:?}");
    }
    assert!(acknowledged.len() >= ROUNDS * WRITES, "there was no load: {}", acknowledged.len());
    Ok(())
}

/// What the writers of a round share.
#[derive(Clone, Default)]
struct Load {
    written: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

/// Writes one key after the other; returns those that were acknowledged.
async fn write(endpoints: Vec<String>, prefix: String, load: Load) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let key = format!("{prefix}-{number}");
        if put(&endpoints, &key, "x").await {
            acknowledged.push(key);
            load.written.fetch_add(1, Ordering::Relaxed);
        }
        if load.stop.load(Ordering::Relaxed) {
            break;
        }
    }
    acknowledged
}
