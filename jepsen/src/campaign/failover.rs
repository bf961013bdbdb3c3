//! How long a cluster is without writes after its leader was killed.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context;
use chorus_proto::etcdserverpb as pb;

use super::{Ending, quantile, show};
use crate::checker::Verdict;
use crate::cluster::{Cluster, Plan};

/// The next acknowledged write must come within this.
const LIMIT: Duration = Duration::from_secs(30);
/// One attempt to write: shorter than a call's usual limit, so that the end of the gap is seen.
const ATTEMPT: Duration = Duration::from_millis(200);

/// From each kill of a leader to the next acknowledged write.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Unknown when no leader was killed.
    pub fn verdict(&self) -> Verdict {
        if self.0.is_empty() { Verdict::Unknown } else { Verdict::True }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |share| quantile(&self.0, share).as_millis();
        write!(
            f,
            "{} kills: p50 {} ms, p90 {} ms, p99 {} ms, most {} ms",
            self.0.len(),
            ms(0.5),
            ms(0.9),
            ms(0.99),
            ms(1.0)
        )
    }
}

/// Kills the leader `kills` times.
pub async fn measure(plan: Plan, kills: u32, ending: &Ending, times: &mut Times) -> anyhow::Result<()> {
    let cluster = Cluster::start(plan).await?;
    for round in 1..=kills {
        if ending.has_begun() {
            break;
        }
        cluster.wait_until_whole(LIMIT).await?;
        let leader = cluster.leader().await.context("the cluster has no leader")?;
        let killed = Instant::now();
        cluster.members[leader - 1].lock().await.kill();
        let survivors: Vec<usize> = cluster.numbers().into_iter().filter(|number| *number != leader).collect();
        next_write(&cluster, &survivors).await.with_context(|| format!("no write after kill {round}"))?;
        times.0.push(killed.elapsed());
        show(&format!("{round}/{kills}  n{leader} killed, writes again after {} ms", killed.elapsed().as_millis()));
        cluster.revive().await?;
    }
    show("");
    Ok(())
}

async fn next_write(cluster: &Cluster, survivors: &[usize]) -> anyhow::Result<()> {
    let writes = survivors.iter().map(|number| {
        Box::pin(async move {
            let client = cluster.client(*number);
            loop {
                let put = pb::PutRequest { key: "failover".into(), value: "x".into(), ..Default::default() };
                if let Ok(Ok(_)) = tokio::time::timeout(ATTEMPT, client.put(put)).await {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    });
    tokio::time::timeout(LIMIT, futures::future::select_all(writes)).await.context("no write was acknowledged")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        let times = Times((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(times.to_string(), "100 kills: p50 50 ms, p90 90 ms, p99 99 ms, most 100 ms");
        assert_eq!((times.verdict(), Times::default().verdict()), (Verdict::True, Verdict::Unknown));
    }
}
