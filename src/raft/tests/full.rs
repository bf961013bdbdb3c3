//! Full disks: a minority keeps nobody from writing, all of them keep nobody from reading, and room is all they need.

use std::time::Duration;

use super::simulation::Simulation;
use super::{PATIENCE, leave_behind};
use crate::world::NodeId;

/// Commands of which a few fill a segment.
fn propose_large(sim: &mut Simulation, node: NodeId, count: usize) {
    (0..count).for_each(|n| sim.propose(node, &format!("{n} {}", "x".repeat(40_000))));
}

#[test]
fn a_leader_without_space_gives_way_and_the_others_go_on() {
    let mut sim = Simulation::start(3, 41);
    let old = sim.await_leader(PATIENCE);
    sim.propose(old, "before");
    sim.await_applied_everywhere(1);
    sim.fill(old);
    propose_large(&mut sim, old, 20);
    let new = sim.await_other_leader(old, PATIENCE);
    assert!(sim.is_full(old) && !sim.is_full(new));
    sim.run_for(Duration::from_secs(20));
    assert_eq!(sim.leader(), Some(new), "it does not come back as long as it has no space");
    let applied = sim.applied(new).len();
    propose_large(&mut sim, new, 30);
    sim.until("the others go on", PATIENCE, |sim| sim.applied(new).len() == applied + 30);
    sim.free(old);
    sim.until("it has space again", PATIENCE, |sim| !sim.is_full(old));
    let applied = sim.applied(new).len();
    sim.await_applied_everywhere(applied);
    sim.assert_same_order();
}

#[test]
fn without_space_anywhere_reads_and_elections_go_on_and_writes_come_back() {
    for seed in 42..46 {
        let mut sim = Simulation::start(3, seed);
        let leader = sim.await_leader(PATIENCE);
        sim.nodes().into_iter().for_each(|node| sim.fill(node));
        let mut proposed = 0;
        while !sim.nodes().into_iter().all(|node| sim.is_full(node)) {
            propose_large(&mut sim, leader, 1);
            proposed += 1;
            assert!(proposed < 100, "nobody says that the disks are full");
            sim.run_for(Duration::from_millis(200));
        }
        sim.run_for(Duration::from_secs(5));
        let leader = sim.await_leader(PATIENCE);
        for node in sim.nodes() {
            let read = sim.read(node);
            sim.until("a read", PATIENCE, |sim| sim.has_read(read));
        }
        sim.isolate(leader);
        sim.await_other_leader(leader, PATIENCE);
        sim.heal();
        sim.nodes().into_iter().for_each(|node| sim.free(node));
        sim.until("space everywhere", PATIENCE, |sim| sim.nodes().into_iter().all(|node| !sim.is_full(node)));
        let leader = sim.await_leader(PATIENCE);
        sim.propose(leader, "after");
        sim.await_applied_everywhere(proposed + 1);
        sim.assert_same_order();
    }
}

#[test]
fn a_snapshot_waits_for_space() {
    let mut sim = Simulation::start(3, 47);
    let behind = leave_behind(&mut sim, 300);
    sim.fill(behind);
    sim.restart(behind);
    sim.run_for(Duration::from_secs(10));
    assert!(sim.applied(behind).len() < 300);
    sim.free(behind);
    sim.await_applied_everywhere(300);
    sim.assert_same_order();
}

#[test]
fn a_member_without_space_for_a_snapshot_stays_and_sends_it_later_or_lets_another_do_so() {
    for (seed, full) in [(49, 1), (50, 2)] {
        let mut sim = Simulation::start(3, seed);
        let behind = leave_behind(&mut sim, 300);
        let leader = sim.await_leader(PATIENCE);
        let other = sim.nodes().into_iter().find(|node| ![behind, leader].contains(node)).unwrap();
        [leader, other][..full].iter().for_each(|node| sim.fill(*node));
        sim.restart(behind);
        if full == 2 {
            sim.run_for(Duration::from_secs(10));
            assert!(sim.applied(behind).len() < 300 && sim.is_full(leader) && sim.is_full(other));
            [leader, other].into_iter().for_each(|node| sim.free(node));
        }
        sim.await_applied_everywhere(300);
        sim.assert_same_order();
        sim.free(leader);
        // As many as it takes for the first one to see that it has space.
        for n in 301..=320 {
            let leader = sim.await_leader(PATIENCE);
            sim.propose(leader, &format!("command {n}"));
            sim.until("applied", PATIENCE, |sim| sim.applied(leader).len() >= n);
        }
        sim.await_applied_everywhere(320);
        sim.until("space everywhere", PATIENCE, |sim| sim.nodes().into_iter().all(|node| !sim.is_full(node)));
    }
}

#[test]
fn a_member_without_space_ends_when_it_is_told_to() {
    let mut sim = Simulation::start(1, 48);
    let alone = sim.await_leader(PATIENCE);
    sim.fill(alone);
    propose_large(&mut sim, alone, 40);
    sim.until("no room", PATIENCE, |sim| sim.is_full(alone));
    sim.run_for(Duration::from_secs(3));
    sim.stop(alone);
    sim.free(alone);
    sim.restart(alone);
    sim.await_leader(PATIENCE);
    sim.assert_same_order();
}
