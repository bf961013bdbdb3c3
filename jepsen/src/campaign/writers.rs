//! Writers that put one key after the other, and what must be there of what they wrote.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use chorus_proto::etcdserverpb as pb;
use tokio::task::JoinHandle;

use crate::client::{Client, Gateway, Grpc};
use crate::cluster::Cluster;

const WRITERS: u64 = 12;
/// Between a write that failed and the next one.
const PAUSE: Duration = Duration::from_millis(5);

/// Writers at work: half of them speak gRPC, the other half JSON.
pub struct Writers {
    load: Rc<Load>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the writers know.
struct Load {
    acknowledged: RefCell<BTreeMap<String, String>>,
    unknown: Cell<u64>,
    last: Cell<Instant>,
    longest_pause: Cell<Duration>,
}

/// What was written.
pub struct Written {
    /// Key and value of each acknowledged write.
    pub acknowledged: BTreeMap<String, String>,
    /// Writes that may have happened.
    pub unknown: u64,
    /// The longest time without an acknowledged write.
    pub longest_pause: Duration,
}

impl Writers {
    /// Writes keys that begin with `prefix`, through each of the members.
    pub fn start(cluster: &Cluster, prefix: &str) -> Writers {
        let load = Rc::new(Load {
            acknowledged: RefCell::default(),
            unknown: Cell::default(),
            last: Cell::new(Instant::now()),
            longest_pause: Cell::default(),
        });
        let members = cluster.members.len() as u64;
        let tasks = (0..WRITERS).map(|writer| {
            let url = cluster.url(usize::try_from(writer % members).expect("a cluster is small") + 1);
            let client = match writer / members % 2 {
                0 => Client::Grpc(Grpc::new(&url)),
                _ => Client::Gateway(Gateway::new(&url)),
            };
            tokio::task::spawn_local(write(client, load.clone(), format!("{prefix}{writer:02}/")))
        });
        Writers { tasks: tasks.collect(), load }
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.load.acknowledged.borrow().len()
    }

    pub async fn end(self) -> Written {
        let load = self.load;
        for task in self.tasks {
            task.abort();
            // What it was waiting for may have happened.
            load.unknown.set(load.unknown.get() + u64::from(task.await.is_err()));
        }
        Written {
            acknowledged: load.acknowledged.take(),
            unknown: load.unknown.get(),
            longest_pause: load.longest_pause.get(),
        }
    }
}

impl Load {
    fn acknowledge(&self, key: String, value: String) {
        let now = Instant::now();
        let pause = now - self.last.replace(now);
        self.longest_pause.set(self.longest_pause.get().max(pause));
        self.acknowledged.borrow_mut().insert(key, value);
    }
}

/// Puts one key after the other.
async fn write(client: Client, load: Rc<Load>, prefix: String) {
    for count in 0_u64.. {
        let (key, value) = (format!("{prefix}{count:08}"), format!("{count}"));
        let put = pb::PutRequest { key: key.clone().into(), value: value.clone().into(), ..Default::default() };
        match client.put(put).await {
            Ok(_) => load.acknowledge(key, value),
            Err(_) => {
                load.unknown.set(load.unknown.get() + 1);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Those of `written` that member `number` does not show, or shows with another value.
pub async fn missing(
    cluster: &Cluster,
    number: usize,
    prefix: &str,
    written: &BTreeMap<String, String>,
) -> anyhow::Result<Vec<String>> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix is not empty") += 1;
    let range = pb::RangeRequest { key: prefix.to_owned().into(), range_end: end.into(), ..Default::default() };
    let answer = cluster.client(number).range(range).await.with_context(|| format!("n{number} answers no read"))?;
    let found: BTreeMap<&[u8], &[u8]> = answer.kvs.iter().map(|kv| (kv.key.as_ref(), kv.value.as_ref())).collect();
    let gone = written.iter().filter(|(key, value)| found.get(key.as_bytes()) != Some(&value.as_bytes()));
    Ok(gone.map(|(key, value)| format!("{key}={value} was acknowledged, and n{number} does not have it")).collect())
}

/// Whether the members hold the same at the same revision. `key` is any one that may be read.
pub async fn differences(cluster: &Cluster, key: &str) -> anyhow::Result<Option<String>> {
    let read = || pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let answer = cluster.client(1).range(read()).await?;
    let revision = answer.header.context("an answer without a header")?.revision;
    let mut hashes = Vec::new();
    for number in cluster.numbers() {
        // A linearizable read brings the member that far.
        let client = cluster.client(number);
        client.range(read()).await?;
        hashes.push(client.hash_kv(pb::HashKvRequest { revision }).await?.hash);
    }
    let differ = hashes.iter().any(|hash| *hash != hashes[0]);
    Ok(differ.then(|| format!("the members differ at revision {revision}: hashes {hashes:x?}")))
}
