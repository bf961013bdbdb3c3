//! Cuts the power of all members at the same moment, under load, over and over, and looks for every write that was
//! acknowledged.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use chorus_proto::etcdserverpb as pb;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Ending, quantile, show};
use crate::checker::Verdict;
use crate::client::{Client, Gateway, Grpc};
use crate::cluster::{Cluster, Plan};
use crate::nemesis::Fault;

const WRITERS: u64 = 12;
/// Writers are at work for so long before the power goes.
const LOAD_MS: std::ops::Range<u64> = 100..900;
/// How long a cluster may take to be back.
const LIMIT: Duration = Duration::from_secs(60);
const PREFIX: &str = "power/";

/// What a campaign found.
#[derive(Default)]
pub struct Tally {
    cycles: u32,
    acknowledged: usize,
    unknown: u64,
    /// From the start of the processes to a linearizable read from each.
    recoveries: Vec<Duration>,
    /// Acknowledged writes that were gone afterwards, and other things that must not be.
    pub violations: Vec<String>,
}

impl Tally {
    /// False with a single violation; unknown when there was no write that could have been lost.
    pub fn verdict(&self) -> Verdict {
        match self.acknowledged {
            _ if !self.violations.is_empty() => Verdict::False,
            0 => Verdict::Unknown,
            _ => Verdict::True,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |share| quantile(&self.recoveries, share).as_millis();
        write!(
            f,
            "{} cycles: {} writes acknowledged, of {} nobody knows, {} violations; whole again p50 {} ms, p99 {} ms, most {} ms",
            self.cycles,
            self.acknowledged,
            self.unknown,
            self.violations.len(),
            ms(0.5),
            ms(0.99),
            ms(1.0)
        )
    }
}

/// What the writers of a cycle know.
#[derive(Default)]
struct Load {
    acknowledged: RefCell<BTreeMap<String, String>>,
    unknown: Cell<u64>,
}

/// Cuts the power `cycles` times. An error is trouble of the harness, or a cluster that does not come back.
pub async fn measure(plan: Plan, cycles: u32, seed: u64, ending: &Ending, tally: &mut Tally) -> anyhow::Result<()> {
    let cluster = Rc::new(Cluster::start(plan).await?);
    let mut random = SmallRng::seed_from_u64(seed);
    let mut acknowledged = BTreeMap::new();
    for cycle in 1..=cycles {
        if ending.has_begun() {
            break;
        }
        let load = load(&cluster, cycle, &mut random).await?;
        let began = Instant::now();
        cluster.revive().await?;
        cluster.wait_until_whole(LIMIT).await.with_context(|| format!("after cycle {cycle}"))?;
        tally.recoveries.push(began.elapsed());
        let number = random.random_range(1..=cluster.members.len());
        let written = load.acknowledged.take();
        tally.violations.extend(missing(&cluster, number, &format!("{PREFIX}{cycle:06}/"), &written).await?);
        tally.cycles = cycle;
        tally.unknown += load.unknown.get();
        tally.acknowledged += written.len();
        acknowledged.insert(cycle, written);
        show(&format!("{cycle}/{cycles}  {tally}"));
    }
    show("");
    // Everything must still be there, on each of them.
    for number in cluster.numbers() {
        for (cycle, written) in &acknowledged {
            tally.violations.extend(missing(&cluster, number, &format!("{PREFIX}{cycle:06}/"), written).await?);
        }
    }
    tally.violations.extend(differences(&cluster).await?);
    Ok(())
}

/// Writes until the power of all members is cut. They are dead afterwards.
async fn load(cluster: &Rc<Cluster>, cycle: u32, random: &mut SmallRng) -> anyhow::Result<Rc<Load>> {
    let load: Rc<Load> = Rc::default();
    let members = cluster.members.len() as u64;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let url = cluster.url(usize::try_from(writer % members).expect("a cluster is small") + 1);
        let client = match writer / members % 2 {
            0 => Client::Grpc(Grpc::new(&url)),
            _ => Client::Gateway(Gateway::new(&url)),
        };
        writers.push(tokio::task::spawn_local(write(client, load.clone(), format!("{PREFIX}{cycle:06}/{writer:02}/"))));
    }
    tokio::time::sleep(Duration::from_millis(random.random_range(LOAD_MS))).await;
    Fault::PowerAll.install(cluster, random).await?;
    for writer in writers {
        writer.abort();
        // What it was waiting for may have happened.
        load.unknown.set(load.unknown.get() + u64::from(writer.await.is_err()));
    }
    Ok(load)
}

/// Puts one key after the other.
async fn write(client: Client, load: Rc<Load>, prefix: String) {
    for count in 0_u64.. {
        let (key, value) = (format!("{prefix}{count:08}"), format!("{count}"));
        let put = pb::PutRequest { key: key.clone().into(), value: value.clone().into(), ..Default::default() };
        match client.put(put).await {
            Ok(_) => drop(load.acknowledged.borrow_mut().insert(key, value)),
            Err(_) => {
                load.unknown.set(load.unknown.get() + 1);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

/// Those of `written` that member `number` does not show, or shows with another value.
async fn missing(
    cluster: &Cluster,
    number: usize,
    prefix: &str,
    written: &BTreeMap<String, String>,
) -> anyhow::Result<Vec<String>> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix is not empty") += 1;
    let range = pb::RangeRequest { key: prefix.to_owned().into(), range_end: end.into(), ..Default::default() };
    let answer = cluster.client(number).range(range).await.context("no read after the power was back")?;
    let found: BTreeMap<&[u8], &[u8]> = answer.kvs.iter().map(|kv| (kv.key.as_ref(), kv.value.as_ref())).collect();
    let gone = written.iter().filter(|(key, value)| found.get(key.as_bytes()) != Some(&value.as_bytes()));
    Ok(gone.map(|(key, value)| format!("{key}={value} was acknowledged, and n{number} does not have it")).collect())
}

/// Whether the members hold the same at the same revision.
async fn differences(cluster: &Cluster) -> anyhow::Result<Option<String>> {
    let answer = cluster.client(1).range(pb::RangeRequest { key: PREFIX.into(), ..Default::default() }).await?;
    let revision = answer.header.context("an answer without a header")?.revision;
    let mut hashes = Vec::new();
    for number in cluster.numbers() {
        // A linearizable read brings the member that far.
        let client = cluster.client(number);
        client.range(pb::RangeRequest { key: PREFIX.into(), ..Default::default() }).await?;
        hashes.push(client.hash_kv(pb::HashKvRequest { revision }).await?.hash);
    }
    let differ = hashes.iter().any(|hash| *hash != hashes[0]);
    Ok(differ.then(|| format!("the members differ at revision {revision}: hashes {hashes:x?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_without_an_acknowledged_write_shows_nothing() {
        let tally = |acknowledged, violations: &[&str]| Tally {
            acknowledged,
            violations: violations.iter().map(|violation| (*violation).to_owned()).collect(),
            ..Tally::default()
        };
        assert_eq!(Tally::default().verdict(), Verdict::Unknown);
        assert_eq!(tally(1, &[]).verdict(), Verdict::True);
        assert_eq!(tally(0, &["the members differ"]).verdict(), Verdict::False);
    }
}
