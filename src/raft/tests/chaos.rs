//! Random faults under load, and what must hold all the same: what a member applied for its client is never lost or
//! doubled, all members apply in one order, and a read sees everything that was applied anywhere before it began.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::PATIENCE;
use super::simulation::{ReadId, Simulation};
use crate::world::{NodeId, Random};

/// A seed from `CHORUS_SEED`, or these.
const SEEDS: std::ops::Range<u64> = 100..112;
const ROUNDS: u64 = 60;

#[test]
fn faults_lose_nothing_and_reads_are_never_stale() {
    let seeds = match std::env::var("CHORUS_SEED") {
        Ok(seed) => vec![seed.parse().expect("CHORUS_SEED is a number")],
        Err(_) => SEEDS.collect::<Vec<u64>>(),
    };
    for seed in seeds {
        eprintln!("CHORUS_SEED={seed} cargo test --lib raft::tests::chaos");
        Chaos::new(seed).run();
    }
}

struct Chaos {
    sim: Simulation,
    random: Random,
    down: BTreeSet<NodeId>,
    proposed: u64,
    /// Applied by a member at any time: never to be lost.
    acknowledged: BTreeSet<Bytes>,
    /// With what had been acknowledged when each began.
    reads: Vec<(ReadId, usize)>,
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        Chaos {
            sim: Simulation::start(3, seed),
            random: Random::from_seed(seed),
            down: BTreeSet::new(),
            proposed: 0,
            acknowledged: BTreeSet::new(),
            reads: Vec::new(),
        }
    }

    fn run(mut self) {
        self.sim.await_leader(PATIENCE);
        for _ in 0..ROUNDS {
            self.disturb();
            self.load();
            let pause = Duration::from_millis(self.random.within(5..700));
            self.sim.run_for(pause);
            self.look();
        }
        self.mend();
    }

    fn any_node(&self) -> NodeId {
        NodeId(self.random.within(1..4))
    }

    fn disturb(&mut self) {
        let node = self.any_node();
        match self.random.within(0..12) {
            0 | 1 => self.sim.isolate(node),
            2 | 3 => self.sim.heal(),
            4 if self.down.insert(node) => self.sim.crash(node),
            5 => {
                for node in self.sim.nodes() {
                    if self.down.insert(node) {
                        self.sim.crash(node);
                    }
                }
            }
            6..=8 => self.start_all(),
            _ => (),
        }
    }

    fn start_all(&mut self) {
        for node in std::mem::take(&mut self.down) {
            self.sim.restart(node);
        }
    }

    fn load(&mut self) {
        for _ in 0..self.random.within(0..20) {
            let node = self.any_node();
            self.proposed += 1;
            self.sim.try_propose(node, &format!("command {}", self.proposed));
        }
        let node = self.any_node();
        if let Some(read) = self.sim.try_read(node) {
            self.reads.push((read, self.acknowledged.len()));
        }
    }

    /// Notes what was applied, and checks that all agree on the order.
    fn look(&mut self) {
        self.sim.assert_same_order();
        for node in self.sim.nodes() {
            self.acknowledged.extend(self.sim.applied(node));
        }
        for (read, before) in &self.reads {
            if self.sim.has_read(*read) {
                let seen = self.sim.seen_by(*read);
                assert!(
                    seen >= *before,
                    "a stale read: {read:?} saw {seen} of {before} commands\n{}",
                    self.sim.trace()
                );
            }
        }
    }

    /// Ends all faults: everything goes on, and nothing is missing.
    fn mend(&mut self) {
        self.sim.heal();
        self.start_all();
        self.sim.await_leader(PATIENCE);
        // A connection that a fault has cut may swallow a command, but not one after another.
        let mut last = Bytes::new();
        let applied = |sim: &Simulation, command: &Bytes| sim.nodes().iter().any(|n| sim.applied(*n).contains(command));
        for attempt in 0..30 {
            last = Bytes::from(format!("last {attempt}"));
            let node = self.any_node();
            self.sim.propose(node, &format!("last {attempt}"));
            self.sim.run_for(Duration::from_secs(1));
            if applied(&self.sim, &last) {
                break;
            }
        }
        self.sim.until("the last command everywhere", PATIENCE, |sim| {
            sim.nodes().into_iter().all(|node| sim.applied(node).contains(&last))
        });
        self.look();
        for node in self.sim.nodes() {
            let applied = self.sim.applied(node);
            let distinct: BTreeSet<Bytes> = applied.iter().cloned().collect();
            assert_eq!(distinct.len(), applied.len(), "member {node} applied a command twice\n{}", self.sim.trace());
            let lost: Vec<_> = self.acknowledged.difference(&distinct).collect();
            assert!(lost.is_empty(), "member {node} lost {lost:?}\n{}", self.sim.trace());
        }
    }
}
