//! A rolling upgrade: the members of a cluster get another binary, one after the other, while clients go on writing, and
//! nothing that was acknowledged may be lost.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::writers::{Writers, differences, missing};
use super::{Ending, show};
use crate::checker::Verdict;
use crate::client::Grpc;
use crate::cluster::{Cluster, Plan, is_chorus, member};

/// Writers are at work for so long before each step, and after the last one.
const LOAD: Duration = Duration::from_secs(3);
/// How long a member may take to end, and a cluster to be whole again.
const LIMIT: Duration = Duration::from_secs(60);
const PREFIX: &str = "upgrade/";

/// What a campaign found.
#[derive(Default)]
pub struct Tally {
    members: usize,
    upgraded: usize,
    acknowledged: usize,
    unknown: u64,
    longest_pause: Duration,
    /// Acknowledged writes that were gone afterwards, and other things that must not be.
    pub violations: Vec<String>,
}

impl Tally {
    /// False with a single violation; unknown when not all were upgraded, or there was no write that could be lost.
    pub fn verdict(&self) -> Verdict {
        match self.upgraded == self.members && self.acknowledged > 0 {
            _ if !self.violations.is_empty() => Verdict::False,
            true => Verdict::True,
            false => Verdict::Unknown,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} members upgraded: {} writes acknowledged, {} of unknown outcome, longest pause {} ms, {} violations",
            self.upgraded,
            self.members,
            self.acknowledged,
            self.unknown,
            self.longest_pause.as_millis(),
            self.violations.len()
        )
    }
}

/// Starts a cluster as `plan` has it, and gives its members the binary `newer`. An error is trouble of the harness, a
/// cluster that does not come back, or two binaries whose members do not speak with each other.
pub async fn measure(plan: Plan, newer: &Path, ending: &Ending, tally: &mut Tally) -> anyhow::Result<()> {
    let cluster = Cluster::start(plan).await?;
    tally.members = cluster.members.len();
    let writers = Writers::start(&cluster, PREFIX);
    let outcome = upgrade_all(&cluster, newer, &writers, ending, tally).await;
    let written = writers.end().await;
    (tally.unknown, tally.longest_pause) = (written.unknown, written.longest_pause);
    tally.acknowledged = written.acknowledged.len();
    show("");
    outcome?;
    for number in cluster.numbers() {
        tally.violations.extend(missing(&cluster, number, PREFIX, &written.acknowledged).await?);
    }
    tally.violations.extend(differences(&cluster, PREFIX).await?);
    Ok(())
}

async fn upgrade_all(
    cluster: &Cluster,
    newer: &Path,
    writers: &Writers,
    ending: &Ending,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    for number in cluster.numbers() {
        tokio::time::sleep(LOAD).await;
        if ending.has_begun() {
            return Ok(());
        }
        upgrade(cluster, number, newer).await?;
        cluster.wait_until_whole(LIMIT).await.with_context(|| format!("after n{number} was upgraded"))?;
        tally.violations.extend(differences(cluster, PREFIX).await?);
        tally.upgraded = number;
        show(&format!("{number}/{} members upgraded, {} writes", tally.members, writers.acknowledged()));
    }
    tokio::time::sleep(LOAD).await;
    Ok(())
}

/// Ends a member as an init system does, and starts it with another binary.
async fn upgrade(cluster: &Cluster, number: usize, newer: &Path) -> anyhow::Result<()> {
    let old = &cluster.plan.binary;
    let both_are_chorus = is_chorus(old) && is_chorus(newer);
    let before = if both_are_chorus { protocol(number).await? } else { String::new() };
    let mut member = cluster.members[number - 1].lock().await;
    member.stop(LIMIT).await?;
    let plan = Plan { binary: newer.to_owned(), ..cluster.plan.clone() };
    let initial: Vec<String> = cluster.numbers().into_iter().map(member::initial).collect();
    member.configure(&plan, &initial.join(","), "new");
    member.start()?;
    drop(member);
    let after = if both_are_chorus { protocol(number).await? } else { String::new() };
    if before != after {
        bail!(
            "members of {} speak peer protocol {before}, those of {} speak {after}: they form no cluster together, so \
             there is no rolling upgrade between the two. Stop all members, then start all with the newer one",
            old.display(),
            newer.display()
        );
    }
    Ok(())
}

/// What a member speaks with its peers, once it answers.
async fn protocol(number: usize) -> anyhow::Result<String> {
    let peer = Grpc::new(&member::peer_url(number));
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        match peer.peer_protocol().await {
            Ok(protocol) => return Ok(protocol),
            Err(error) if tokio::time::Instant::now() > deadline => {
                return Err(error).with_context(|| format!("n{number} does not say what it speaks with its peers"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_upgrade_under_writes_shows_something() {
        let tally = |upgraded, acknowledged| Tally { members: 3, upgraded, acknowledged, ..Tally::default() };
        assert_eq!(tally(3, 1).verdict(), Verdict::True);
        assert_eq!(tally(2, 1).verdict(), Verdict::Unknown);
        assert_eq!(tally(3, 0).verdict(), Verdict::Unknown);
        let lost = Tally { violations: vec!["gone".into()], ..tally(2, 1) };
        assert_eq!(lost.verdict(), Verdict::False);
    }
}
