//! Cuts the power of all members at the same moment, under load, over and over, and looks for every write that was
//! acknowledged.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::writers::{Writers, Written, differences, missing};
use super::{Ending, quantile, show};
use crate::checker::Verdict;
use crate::cluster::{Cluster, Plan};
use crate::nemesis::Fault;

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
            "{} cycles: {} writes acknowledged, {} of unknown outcome, {} violations; whole again p50 {} ms, p99 {} ms, most {} ms",
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

/// Cuts the power `cycles` times. An error is trouble of the harness, or a cluster that does not come back.
pub async fn measure(plan: Plan, cycles: u32, seed: u64, ending: &Ending, tally: &mut Tally) -> anyhow::Result<()> {
    let cluster = Rc::new(Cluster::start(plan).await?);
    let mut random = SmallRng::seed_from_u64(seed);
    let mut acknowledged = BTreeMap::new();
    for cycle in 1..=cycles {
        if ending.has_begun() {
            break;
        }
        let written = load(&cluster, cycle, &mut random).await?;
        let began = Instant::now();
        cluster.revive().await?;
        cluster.wait_until_whole(LIMIT).await.with_context(|| format!("after cycle {cycle}"))?;
        tally.recoveries.push(began.elapsed());
        let number = random.random_range(1..=cluster.members.len());
        tally.violations.extend(missing(&cluster, number, &prefix(cycle), &written.acknowledged).await?);
        tally.cycles = cycle;
        tally.unknown += written.unknown;
        tally.acknowledged += written.acknowledged.len();
        acknowledged.insert(cycle, written.acknowledged);
        show(&format!("{cycle}/{cycles}  {tally}"));
    }
    show("");
    // Everything must still be there, on each of them.
    for number in cluster.numbers() {
        for (cycle, written) in &acknowledged {
            tally.violations.extend(missing(&cluster, number, &prefix(*cycle), written).await?);
        }
    }
    tally.violations.extend(differences(&cluster, PREFIX).await?);
    Ok(())
}

/// Writes until the power of all members is cut. They are dead afterwards.
async fn load(cluster: &Rc<Cluster>, cycle: u32, random: &mut SmallRng) -> anyhow::Result<Written> {
    let writers = Writers::start(cluster, &prefix(cycle));
    tokio::time::sleep(Duration::from_millis(random.random_range(LOAD_MS))).await;
    Fault::PowerAll.install(cluster, random).await?;
    Ok(writers.end().await)
}

/// Of the keys of a cycle.
fn prefix(cycle: u32) -> String {
    format!("{PREFIX}{cycle:06}/")
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
