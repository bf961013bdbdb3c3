//! What a seed draws: how large the cluster is, how it is tuned, what clients do to it and what goes wrong.
//!
//! No seed has everything. One in which half of the faults cannot happen gets further into what the others cause.

use std::ops::Range;
use std::time::Duration;

use chorus::disk::log;
use chorus::raft::{Limits, Timings};
use chorus::store::DataFiles;
use chorus::world::Random;

use crate::faults::Fault;
use crate::traffic::Habit;

/// One seed in so many is about a whole cluster with its control plane; the others are about the store alone.
const CLUSTER_EVERY: u64 = 10;

/// What a simulation is made of.
#[derive(Clone, Debug)]
pub struct Swarm {
    pub members: u64,
    /// The whole control plane runs on the members.
    pub control_plane: bool,
    pub tick: Duration,
    pub latency_max: Duration,
    pub timings: Timings,
    pub limits: Limits,
    pub log: log::Options,
    pub files: DataFiles,
    pub compaction_batch: usize,
    pub lease_checkpoints: bool,
    pub faults: Vec<Fault>,
    /// Between two faults.
    pub calm: Range<Duration>,
    /// How long everything is well at first.
    pub prelude: Duration,
    /// How long faults go on.
    pub storm: Duration,
    /// Members refuse changes of the membership that put the quorum at risk.
    pub strict: bool,
    pub habits: Vec<Habit>,
    /// Between two calls of one client.
    pub pace: Range<Duration>,
}

fn ms(range: Range<u64>) -> Range<Duration> {
    Duration::from_millis(range.start)..Duration::from_millis(range.end)
}

/// One of `all`.
pub fn one_of<T: Clone>(random: &Random, all: &[T]) -> T {
    all[random.within(0..all.len() as u64) as usize].clone()
}

/// Each of `all` or not, but never none.
fn some_of<T: Clone>(random: &Random, all: &[T]) -> Vec<T> {
    let some: Vec<T> = all.iter().filter(|_| random.within(0..2) == 0).cloned().collect();
    if some.is_empty() { vec![one_of(random, all)] } else { some }
}

impl Swarm {
    pub fn is_about_a_cluster(seed: u64) -> bool {
        seed % CLUSTER_EVERY == CLUSTER_EVERY - 1
    }

    pub fn draw(seed: u64, random: &Random) -> Swarm {
        let control_plane = Swarm::is_about_a_cluster(seed);
        let members = if control_plane { one_of(random, &[1, 3, 3]) } else { one_of(random, &[1, 3, 3, 3, 5]) };
        let faults: Vec<Fault> =
            Fault::ALL.into_iter().filter(|fault| fault.is_possible(members, control_plane)).collect();
        let election = Duration::from_millis(random.within(300..1200));
        let (catch_up, purge_every) = one_of(random, &[(1..10, 2..20), (10..200, 20..300)]);
        let catch_up = random.within(catch_up);
        Swarm {
            members,
            control_plane,
            tick: Duration::from_millis(one_of(random, &[2, 3, 5])),
            latency_max: Duration::from_millis(random.within(2..25)),
            timings: Timings::new(election / random.within(5..11) as u32, election),
            limits: Limits {
                purge_every_entries: catch_up + random.within(purge_every),
                catch_up_entries: catch_up,
                batch_commands_max: one_of(random, &[1, 2, 16, 128]),
                ..Limits::default()
            },
            log: log::Options { segment_bytes: 1 << random.within(12..19), cache_bytes_max: 1 << random.within(8..20) },
            files: DataFiles {
                segment_bytes: 1 << random.within(10..20),
                tail_bytes_max: 1 << random.within(12..24),
                reclaim_interval: random.duration(ms(0..3000)),
            },
            compaction_batch: random.within(1..100) as usize,
            lease_checkpoints: random.within(0..2) == 0,
            faults: some_of(random, &faults),
            calm: one_of(random, &[ms(50..500), ms(200..2000), ms(1000..3000)]),
            prelude: Duration::from_secs(if control_plane { 8 } else { 1 }),
            storm: random.duration(ms(4000..12000)),
            strict: random.within(0..2) == 0,
            habits: some_of(random, &Habit::ALL),
            pace: one_of(random, &[ms(1..20), ms(5..100), ms(20..200)]),
        }
    }
}
