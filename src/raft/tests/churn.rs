//! Members that are replaced while others fail: what was applied is never lost or doubled, and all apply in one order.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::PATIENCE;
use super::simulation::Simulation;
use crate::world::{NodeId, Random};

/// A seed from `CHORUS_SEED`, or these.
const SEEDS: std::ops::Range<u64> = 200..204;
const ROUNDS: u64 = 40;

#[test]
fn replacing_members_among_faults_loses_nothing() {
    let seeds = match std::env::var("CHORUS_SEED") {
        Ok(seed) => vec![seed.parse().expect("CHORUS_SEED is a number")],
        Err(_) => SEEDS.collect::<Vec<u64>>(),
    };
    for seed in seeds {
        eprintln!("CHORUS_SEED={seed} cargo test --lib raft::tests::churn");
        Churn::new(seed).run();
    }
}

struct Churn {
    sim: Simulation,
    random: Random,
    down: Option<NodeId>,
    next_id: u64,
    proposed: u64,
    /// Applied by a member at any time: never to be lost.
    acknowledged: BTreeSet<Bytes>,
}

impl Churn {
    fn new(seed: u64) -> Churn {
        Churn {
            sim: Simulation::start(3, seed),
            random: Random::from_seed(seed),
            down: None,
            next_id: 4,
            proposed: 0,
            acknowledged: BTreeSet::new(),
        }
    }

    fn run(mut self) {
        self.sim.await_leader(PATIENCE);
        for _ in 0..ROUNDS {
            self.disturb();
            self.change();
            self.load();
            let pause = Duration::from_millis(self.random.within(5..900));
            self.sim.run_for(pause);
            self.look();
        }
        self.mend();
    }

    fn any_node(&self) -> NodeId {
        let nodes = self.sim.nodes();
        nodes[self.random.within(0..nodes.len() as u64) as usize]
    }

    /// One fault at a time, so that there mostly is a quorum to change the membership.
    fn disturb(&mut self) {
        match self.random.within(0..8) {
            0 => {
                self.sim.heal();
                let node = self.any_node();
                self.sim.isolate(node);
            }
            1 | 2 => self.sim.heal(),
            3 if self.down.is_none() => {
                let node = self.any_node();
                self.sim.crash(node);
                self.down = Some(node);
            }
            4 | 5 => self.start_all(),
            _ => (),
        }
    }

    fn start_all(&mut self) {
        if let Some(node) = self.down.take() {
            self.sim.restart(node);
        }
    }

    /// Asks whoever leads for a change; it may be refused, or never happen.
    fn change(&mut self) {
        let Some(leader) = self.sim.leader().filter(|leader| Some(*leader) != self.down) else { return };
        match self.random.within(0..6) {
            0 if self.sim.nodes().len() < 5 => {
                let id = NodeId(self.next_id);
                self.next_id += 1;
                self.sim.add_member(leader, id);
            }
            1 if self.sim.voters(leader).len() > 3 => {
                let node = self.any_node();
                self.sim.remove_member(leader, node);
            }
            2 => {
                let node = self.any_node();
                self.sim.transfer_leader(leader, node);
            }
            _ => (),
        }
        for node in self.sim.nodes() {
            if self.sim.was_removed(node) {
                self.sim.forget(node);
            }
        }
    }

    fn load(&mut self) {
        for _ in 0..self.random.within(0..30) {
            let node = self.any_node();
            self.proposed += 1;
            self.sim.try_propose(node, &format!("command {}", self.proposed));
        }
    }

    fn look(&mut self) {
        self.sim.assert_same_order();
        for node in self.sim.nodes() {
            self.acknowledged.extend(self.sim.applied(node));
        }
    }

    /// Ends all faults: everything goes on, and nothing is missing where it should be.
    fn mend(&mut self) {
        self.sim.heal();
        self.start_all();
        // What was asked for and not done by then never will be.
        self.sim.run_for(Duration::from_secs(25));
        let leader = self.sim.await_leader(PATIENCE);
        let mut last = Bytes::new();
        for attempt in 0..30 {
            last = Bytes::from(format!("last {attempt}"));
            self.sim.propose(leader, &format!("last {attempt}"));
            self.sim.run_for(Duration::from_secs(1));
            if self.sim.applied(leader).contains(&last) {
                break;
            }
        }
        let members: Vec<NodeId> = self.sim.members(leader).into_iter().map(|member| member.id).collect();
        self.sim.until("the last command everywhere", PATIENCE, |sim| {
            members.iter().all(|node| sim.applied(*node).contains(&last))
        });
        self.sim.until("one set of voters", PATIENCE, |sim| sim.voters(leader).len() == members.len());
        self.look();
        for node in members {
            let applied = self.sim.applied(node);
            let distinct: BTreeSet<Bytes> = applied.iter().cloned().collect();
            assert_eq!(distinct.len(), applied.len(), "member {node} applied a command twice\n{}", self.sim.trace());
            let lost: Vec<_> = self.acknowledged.difference(&distinct).collect();
            assert!(lost.is_empty(), "member {node} lost {lost:?}\n{}", self.sim.trace());
        }
    }
}
