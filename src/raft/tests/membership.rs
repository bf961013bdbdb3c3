//! Stories of members that come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::PATIENCE;
use super::simulation::Simulation;
use crate::raft::Rules;
use crate::world::NodeId;

/// Commands in the order of time, from whoever is asked, and which of them some member has applied.
struct Load {
    proposed: u64,
    applied: BTreeSet<Bytes>,
}

impl Load {
    fn new() -> Load {
        Load { proposed: 0, applied: BTreeSet::new() }
    }

    /// Some commands through every member, and a moment.
    fn some(&mut self, sim: &mut Simulation) {
        for node in sim.nodes() {
            for _ in 0..5 {
                self.proposed += 1;
                sim.try_propose(node, &format!("command {}", self.proposed));
            }
        }
        sim.run_for(Duration::from_millis(50));
        sim.assert_same_order();
        sim.nodes().into_iter().for_each(|node| self.applied.extend(sim.applied(node)));
    }

    fn until(&mut self, sim: &mut Simulation, what: &str, holds: impl Fn(&Simulation) -> bool) {
        let end = sim.elapsed() + PATIENCE;
        while !holds(sim) {
            assert!(sim.elapsed() < end, "no {what}\n{}", sim.trace());
            self.some(sim);
        }
    }

    /// Every member has all that was ever applied, each once.
    fn is_whole(&self, sim: &mut Simulation) {
        let leader = sim.await_leader(PATIENCE);
        sim.propose(leader, "last");
        let last = Bytes::from("last");
        sim.until("the last command everywhere", PATIENCE, |sim| {
            sim.nodes().into_iter().all(|node| sim.applied(node).contains(&last))
        });
        for node in sim.nodes() {
            let applied = sim.applied(node);
            let distinct: BTreeSet<Bytes> = applied.iter().cloned().collect();
            assert_eq!(distinct.len(), applied.len(), "member {node} applied a command twice");
            assert!(self.applied.is_subset(&distinct), "member {node} lost a command\n{}", sim.trace());
        }
    }
}

fn members(sim: &Simulation, node: NodeId) -> Vec<u64> {
    sim.members(node).into_iter().map(|member| member.id.0).collect()
}

#[test]
fn a_cluster_grows_to_five_and_shrinks_to_one_under_load() {
    let mut sim = Simulation::start(1, 40);
    let mut load = Load::new();
    sim.await_leader(PATIENCE);
    for id in (2..=5).map(NodeId) {
        let leader = sim.await_leader(PATIENCE);
        sim.add_member(leader, id);
        load.until(&mut sim, "new voter", |sim| sim.voters(leader).contains(&id.0));
    }
    let leader = sim.await_leader(PATIENCE);
    assert_eq!(sim.voters(leader), [1, 2, 3, 4, 5]);
    // The leader goes each time, so that every change of members is one of leaders, too.
    for left in (1..=4).rev() {
        let leader = sim.await_leader(PATIENCE);
        sim.remove_member(leader, leader);
        load.until(&mut sim, "removed leader", |sim| sim.was_removed(leader));
        sim.forget(leader);
        let next = sim.await_leader(PATIENCE);
        load.until(&mut sim, "smaller cluster", |sim| {
            members(sim, next).len() == left && sim.voters(next).len() == left
        });
    }
    load.is_whole(&mut sim);
    assert!(load.applied.len() > 500, "only {} commands were applied", load.applied.len());
}

#[test]
fn a_dead_member_is_replaced_by_a_new_one() {
    let mut sim = Simulation::start(3, 41);
    let mut load = Load::new();
    let leader = sim.await_leader(PATIENCE);
    let dead = sim.nodes().into_iter().find(|node| *node != leader).unwrap();
    load.until(&mut sim, "log worth a snapshot", |sim| sim.committed(leader) > 120);
    sim.crash(dead);
    sim.remove_member(leader, dead);
    load.until(&mut sim, "removal", |sim| sim.voters(leader).len() == 2);
    sim.add_member(leader, NodeId(4));
    load.until(&mut sim, "replacement", |sim| sim.voters(leader).contains(&4));
    // It was not there when it was removed: it hears of it when it comes back, and nobody listens to it.
    sim.restart(dead);
    load.until(&mut sim, "end of the removed member", |sim| sim.was_removed(dead));
    sim.forget(dead);
    assert_eq!(sim.removed_members(NodeId(4)), [dead]);
    load.is_whole(&mut sim);
}

#[test]
fn a_removed_id_never_comes_back() {
    let mut sim = Simulation::start(3, 42);
    let leader = sim.await_leader(PATIENCE);
    let gone = sim.nodes().into_iter().find(|node| *node != leader).unwrap();
    sim.remove_member(leader, gone);
    sim.until("the end of the removed member", PATIENCE, |sim| sim.was_removed(gone));
    sim.forget(gone);
    sim.order_to_add(leader, gone);
    let refused = format!("add: Err(MemberNotFound(NodeId({})))", gone.0);
    sim.until("a refusal", PATIENCE, |sim| sim.trace().contains(&refused));
    // Those who started later know it as well: from the log, or from a snapshot.
    sim.add_member(leader, NodeId(9));
    sim.until("a new member", PATIENCE, |sim| sim.voters(leader).contains(&9));
    sim.until("its knowledge", PATIENCE, |sim| sim.removed_members(NodeId(9)) == [gone]);
}

#[test]
fn who_is_removed_is_a_member_no_more() {
    let mut sim = Simulation::start(3, 47);
    let leader = sim.await_leader(PATIENCE);
    let gone = sim.nodes().into_iter().find(|node| *node != leader).expect("there are others");
    sim.remove_member(leader, gone);
    sim.until("end of its membership", Duration::from_secs(5), |sim| !members(sim, leader).contains(&gone.0));
}

#[test]
fn a_learner_follows_and_votes_only_when_promoted() {
    let mut sim = Simulation::start(3, 43);
    let mut load = Load::new();
    let leader = sim.await_leader(PATIENCE);
    sim.add_learner(leader, NodeId(4));
    load.until(&mut sim, "learner that follows", |sim| sim.applied(NodeId(4)).len() > 50);
    assert!(sim.is_learner(NodeId(4)) && !sim.voters(leader).contains(&4));
    sim.promote(leader, NodeId(4));
    load.until(&mut sim, "voter", |sim| sim.voters(leader).contains(&4) && !sim.is_learner(NodeId(4)));
    load.is_whole(&mut sim);
}

#[test]
fn one_member_goes_on_alone_with_all_it_had() {
    let mut sim = Simulation::start(3, 44);
    let mut load = Load::new();
    let leader = sim.await_leader(PATIENCE);
    sim.add_learner(leader, NodeId(4));
    load.until(&mut sim, "log", |sim| sim.committed(leader) > 120);
    sim.run_for(Duration::from_secs(1));
    sim.nodes().into_iter().for_each(|node| sim.crash(node));
    let alone = NodeId(2);
    let before = sim.applied(alone);
    for other in [1, 3, 4].map(NodeId) {
        sim.forget(other);
    }
    sim.force(alone);
    sim.restart(alone);
    sim.until("a leader", PATIENCE, |sim| sim.leader() == Some(alone));
    assert_eq!((members(&sim, alone), sim.voters(alone)), (vec![2], vec![2]));
    sim.propose(alone, "after");
    sim.until("a command", PATIENCE, |sim| sim.applied(alone).contains(&Bytes::from("after")));
    assert!(sim.applied(alone).starts_with(&before));
    assert_eq!(sim.removed_members(alone), [1, 3, 4].map(NodeId));
    // Forced once is forced for good, and once more does no harm.
    sim.crash(alone);
    sim.restart(alone);
    sim.until("the same leader", PATIENCE, |sim| sim.leader() == Some(alone));
    assert_eq!(members(&sim, alone), [2]);
    sim.add_member(alone, NodeId(5));
    sim.until("a second member", PATIENCE, |sim| sim.voters(alone) == [2, 5]);
}

#[test]
fn learners_come_one_after_the_other_as_fast_as_they_are_promoted() {
    let mut sim = Simulation::start_under(Rules::default(), 1, 48);
    let leader = sim.await_leader(PATIENCE);
    sim.run_for(Duration::from_secs(10));
    for id in (2..=4).map(NodeId) {
        let asked = sim.elapsed();
        sim.add_learner(leader, id);
        sim.until("a learner that has the log", PATIENCE, |sim| sim.committed(id) == sim.committed(leader));
        // Until the leader knows of it, too.
        sim.run_for(Duration::from_millis(500));
        sim.promote(leader, id);
        sim.until("a voter", PATIENCE, |sim| sim.voters(leader).contains(&id.0));
        assert!(sim.elapsed() < asked + Duration::from_secs(3), "{id} votes only after {:?}", sim.elapsed() - asked);
    }
    assert!(!sim.trace().contains("Unhealthy"), "{}", sim.trace());
}
