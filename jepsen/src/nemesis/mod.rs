//! The nemesis: one fault after the other, each put in place, left there for a while, and healed.
//!
//! A fault says what it did, or that it could not be put in place; only what was really done counts for the coverage
//! of a run.
//!
//! - [`process`]: kill, pause; [`network`]: partitions, loss, slow and late links; [`clock`]: clocks that jump
//! - [`disk`]: power, space, read-only, damage
//! - [`upkeep`]: compaction, defragmentation, snapshots; [`membership`]: members that come and go

mod clock;
mod disk;
pub mod membership;
mod network;
mod process;
mod upkeep;

use std::time::Duration;

use anyhow::Context;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::cluster::Cluster;

/// Longer than any lease that workloads ask for.
const FREEZE: Duration = Duration::from_secs(30);
/// How long a member may take to answer a read where a fault is no excuse.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Why a fault can't happen with this machine or this binary. Says nothing against the run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Impossible(String);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of one, some or all members.
    Kill,
    /// SIGSTOP of one or some members.
    Pause,
    /// SIGSTOP of the leader for half a minute: long enough for leases to end and for others to take over.
    FreezeLeader,
    /// The leader alone on its side.
    PartitionLeaderMinority,
    /// The leader and a majority on one side.
    PartitionLeaderMajority,
    /// Every member sees a majority, no two the same one.
    PartitionRing,
    /// One member is not heard, but hears.
    PartitionOneWay,
    Loss,
    Slow,
    /// Packets between members arrive late, in order.
    Delay,
    /// Packets between members overtake each other.
    Reorder,
    /// The clock of one member jumps, by up to hours.
    ClockSkew,
    /// The clock of one member jumps to and fro, many times a second.
    ClockStrobe,
    /// Unsynced bytes of one member are gone.
    PowerOne,
    PowerSome,
    PowerAll,
    DiskFull,
    /// No member has space: reads must go on.
    DiskFullAll,
    ReadOnly,
    /// Bits of a stored file of a minority are flipped while it is down.
    BitFlip,
    /// The last bytes of the log of a minority are cut off while it is down.
    Truncate,
    Compact,
    Defragment,
    Snapshot,
    /// A member is removed, and a new one takes its place.
    Member,
}

impl Fault {
    pub const ALL: [Fault; 25] = [
        Fault::Kill,
        Fault::Pause,
        Fault::FreezeLeader,
        Fault::PartitionLeaderMinority,
        Fault::PartitionLeaderMajority,
        Fault::PartitionRing,
        Fault::PartitionOneWay,
        Fault::Loss,
        Fault::Slow,
        Fault::Delay,
        Fault::Reorder,
        Fault::ClockSkew,
        Fault::ClockStrobe,
        Fault::PowerOne,
        Fault::PowerSome,
        Fault::PowerAll,
        Fault::DiskFull,
        Fault::DiskFullAll,
        Fault::ReadOnly,
        Fault::BitFlip,
        Fault::Truncate,
        Fault::Compact,
        Fault::Defragment,
        Fault::Snapshot,
        Fault::Member,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Pause => "pause",
            Fault::FreezeLeader => "freeze-leader",
            Fault::PartitionLeaderMinority => "partition-leader-minority",
            Fault::PartitionLeaderMajority => "partition-leader-majority",
            Fault::PartitionRing => "partition-ring",
            Fault::PartitionOneWay => "partition-one-way",
            Fault::Loss => "loss",
            Fault::Slow => "slow",
            Fault::Delay => "delay",
            Fault::Reorder => "reorder",
            Fault::ClockSkew => "clock-skew",
            Fault::ClockStrobe => "clock-strobe",
            Fault::PowerOne => "power-one",
            Fault::PowerSome => "power-some",
            Fault::PowerAll => "power-all",
            Fault::DiskFull => "disk-full",
            Fault::DiskFullAll => "disk-full-all",
            Fault::ReadOnly => "read-only",
            Fault::BitFlip => "bit-flip",
            Fault::Truncate => "truncate",
            Fault::Compact => "compact",
            Fault::Defragment => "defragment",
            Fault::Snapshot => "snapshot",
            Fault::Member => "member",
        }
    }

    /// The faults that `text` names: names, groups of them, or `all`, with commas between.
    pub fn parse(text: &str) -> anyhow::Result<Vec<Fault>> {
        let mut chosen = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "none") {
            let named = Fault::named(word);
            if named.is_empty() {
                let names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
                anyhow::bail!("there is no fault {word:?}; there are: all, none, {}", names.join(", "));
            }
            chosen.extend(named);
        }
        chosen.sort();
        chosen.dedup();
        Ok(chosen)
    }

    /// The fault of that name, or else the group: those whose names go on after it with a dash.
    fn named(word: &str) -> Vec<Fault> {
        if let Some(fault) = Fault::ALL.into_iter().find(|fault| fault.name() == word) {
            return vec![fault];
        }
        let belongs = |fault: &Fault| {
            let name = fault.name();
            word == "all" || name.strip_prefix(word).is_some_and(|rest| rest.starts_with('-'))
        };
        Fault::ALL.into_iter().filter(|fault| !fault.is_alone() && belongs(fault)).collect()
    }

    /// Whether it belongs to no group: what destroys a member's data for good, takes long, or ends an etcd is asked for
    /// by name.
    fn is_alone(self) -> bool {
        self.replaces_members() || matches!(self, Fault::FreezeLeader | Fault::DiskFullAll)
    }

    /// Whether it does away with history that a workload may need.
    pub fn compacts(self) -> bool {
        self == Fault::Compact
    }

    /// Whether a member may have to be replaced by a new one, which whole nodes can't be.
    pub fn replaces_members(self) -> bool {
        matches!(self, Fault::BitFlip | Fault::Truncate | Fault::Member)
    }

    /// Whether the fault is over as soon as it is in place.
    pub fn is_moment(self) -> bool {
        matches!(self, Fault::Compact | Fault::Defragment | Fault::Snapshot | Fault::ClockStrobe)
    }

    pub fn moves_clocks(self) -> bool {
        matches!(self, Fault::ClockSkew | Fault::ClockStrobe)
    }

    /// What a process says, in lower case, that ends itself because of the fault. Where all disks are full there is no
    /// such excuse.
    pub fn last_words(self) -> &'static [&'static str] {
        match self {
            Fault::PowerOne | Fault::PowerSome | Fault::PowerAll | Fault::ReadOnly => {
                // A page that is mapped and can't be read is a signal.
                &["input/output error", "read-only file system", "structure needs cleaning", "sigbus"]
            }
            Fault::DiskFull => &["no space left on device"],
            Fault::BitFlip | Fault::Truncate => &[
                "damaged",
                "corrupt",
                "checksum",
                "crc mismatch",
                "malformed",
                "newer than format",
                "does not hold",
                "failed to fill whole buffer",
                "unexpected eof",
                "invalid page",
                "freelist",
            ],
            Fault::Member => &["permanently removed"],
            _ => &[],
        }
    }

    /// How long it stays in place.
    pub fn hold(self, random: &mut SmallRng) -> Duration {
        match self {
            Fault::FreezeLeader => FREEZE,
            _ => Duration::from_secs_f64(random.random_range(1.0..5.0)),
        }
    }

    /// In so much time it surely happens once, with the rest after it.
    pub fn time_for_one(self) -> Duration {
        let hold = if self == Fault::FreezeLeader { FREEZE } else { Duration::ZERO };
        hold + Duration::from_secs(10)
    }

    /// Puts the fault in place; what was done, in a few words.
    pub async fn install(self, cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
        match self {
            Fault::Kill => process::kill(cluster, random).await,
            Fault::Pause => process::pause(cluster, random).await,
            Fault::FreezeLeader => process::pause_leader(cluster).await,
            Fault::PartitionLeaderMinority => network::around_leader(cluster, random, false).await,
            Fault::PartitionLeaderMajority => network::around_leader(cluster, random, true).await,
            Fault::PartitionRing => network::ring(cluster, random),
            Fault::PartitionOneWay => network::one_way(cluster, random),
            Fault::Loss => network::loss(cluster, random),
            Fault::Slow => network::slow(cluster, random),
            Fault::Delay => network::delay(cluster, random, false),
            Fault::Reorder => network::delay(cluster, random, true),
            Fault::ClockSkew => clock::skew(cluster, random).await,
            Fault::ClockStrobe => clock::strobe(cluster, random).await,
            Fault::PowerOne => disk::power(cluster, random, 1).await,
            Fault::PowerSome => disk::power(cluster, random, cluster.members.len().div_ceil(2)).await,
            Fault::PowerAll => disk::power(cluster, random, cluster.members.len()).await,
            Fault::DiskFull => disk::full(cluster, random).await,
            Fault::DiskFullAll => disk::full_all(cluster).await,
            Fault::ReadOnly => disk::read_only(cluster, random).await,
            Fault::BitFlip => disk::damage(cluster, random, disk::flip).await,
            Fault::Truncate => disk::damage(cluster, random, disk::truncate).await,
            Fault::Compact => upkeep::compact(cluster, random).await,
            Fault::Defragment => upkeep::defragment(cluster, random).await,
            Fault::Snapshot => upkeep::snapshot(cluster, random).await,
            Fault::Member => membership::replace(cluster, random).await,
        }
    }

    /// Whether members do what they must while the fault is in place; the error says which one does not. To be asked at
    /// the end, when they have met the fault.
    pub async fn endured(self, cluster: &Cluster) -> anyhow::Result<()> {
        match self {
            Fault::DiskFullAll => {
                cluster.wait_until_whole(READ_LIMIT).await.context("no read while all disks are full")
            }
            _ => Ok(()),
        }
    }
}

/// Undoes whatever is in place and brings every process back.
pub async fn heal(cluster: &Cluster) -> anyhow::Result<()> {
    network::heal(cluster).context("the network was not healed")?;
    clock::heal(cluster).await.context("the clocks were not healed")?;
    disk::heal(cluster).await.context("the disks were not healed")?;
    cluster.revive().await
}

/// Some of the members, at least one and at most `most`, in random order.
fn some(cluster: &Cluster, random: &mut SmallRng, most: usize) -> Vec<usize> {
    let mut numbers = cluster.numbers();
    numbers.shuffle(random);
    numbers.truncate(random.random_range(1..=most.max(1)));
    numbers
}

/// The most members that may fail while the others still are a majority.
fn minority(cluster: &Cluster) -> usize {
    (cluster.members.len() - 1) / 2
}

fn names(numbers: &[usize]) -> String {
    numbers.iter().map(|number| crate::cluster::member::name(*number)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_chosen_by_name_and_group() {
        assert_eq!(Fault::parse("kill, pause").unwrap(), [Fault::Kill, Fault::Pause]);
        assert_eq!(Fault::parse("power").unwrap(), [Fault::PowerOne, Fault::PowerSome, Fault::PowerAll]);
        assert_eq!(Fault::parse("all,kill").unwrap().len(), Fault::ALL.len() - 5);
        assert_eq!(Fault::parse("disk-full").unwrap(), [Fault::DiskFull], "a name is no group");
        assert_eq!(Fault::parse("disk").unwrap(), [Fault::DiskFull]);
        assert_eq!(Fault::parse("disk-full-all,freeze-leader").unwrap(), [Fault::FreezeLeader, Fault::DiskFullAll]);
        assert!(Fault::parse("freeze").is_err() && Fault::parse("bit").is_err(), "asked for by name alone");
        assert!(Fault::parse("none").unwrap().is_empty());
        assert!(Fault::parse("kil").unwrap_err().to_string().contains("partition-ring"));
    }
}
