//! The room under simulation: three members and what becomes of them.

mod chaos;
mod churn;
pub(crate) mod conformance;
mod full;
mod membership;
mod simulation;
mod sockets;
mod toy;

use std::time::Duration;

use crate::raft::Refused;
use crate::world::NodeId;
use simulation::Simulation;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn three_members_elect_a_leader_in_well_under_a_second_and_commit() {
    let mut sim = Simulation::start(3, 1);
    let leader = sim.await_leader(PATIENCE);
    assert!(sim.elapsed() < Duration::from_millis(500), "a leader only after {:?}", sim.elapsed());
    sim.propose(leader, "a");
    sim.await_applied_everywhere(1);
}

#[test]
fn followers_forward_what_they_are_given() {
    let mut sim = Simulation::start(3, 2);
    sim.await_leader(PATIENCE);
    for (node, command) in [(1, "from 1"), (2, "from 2"), (3, "from 3")] {
        sim.propose(NodeId(node), command);
    }
    sim.await_applied_everywhere(3);
    sim.assert_same_order();
    assert!(sim.refusals().is_empty());
}

#[test]
fn a_follower_cannot_have_a_command_committed_that_no_machine_could_apply() {
    let mut sim = Simulation::start(3, 17);
    let leader = sim.await_leader(PATIENCE);
    let follower = sim.nodes().into_iter().find(|node| *node != leader).unwrap();
    sim.propose(follower, toy::INDIGESTIBLE);
    sim.until("a refusal", PATIENCE, |sim| sim.refusals() == [Refused::Malformed]);
    sim.propose(follower, "after it");
    sim.await_applied_everywhere(1);
}

#[test]
fn a_burst_is_batched_and_nothing_is_lost_or_doubled() {
    let mut sim = Simulation::start(3, 3);
    let leader = sim.await_leader(PATIENCE);
    (0..1_000).for_each(|n| sim.propose(leader, &format!("command {n}")));
    sim.await_applied_everywhere(1_000);
    sim.assert_same_order();
    assert!(sim.committed(leader) < 200, "{} entries for 1,000 commands", sim.committed(leader));
}

#[test]
fn commands_are_refused_when_there_is_no_leader_for_long() {
    let mut sim = Simulation::start(3, 4);
    sim.await_leader(PATIENCE);
    sim.crash(NodeId(2));
    sim.crash(NodeId(3));
    sim.run_for(Duration::from_secs(5));
    sim.propose(NodeId(1), "nobody hears");
    sim.until("a refusal", PATIENCE, |sim| sim.refusals() == [Refused::NoLeader]);
}

#[test]
fn the_majority_goes_on_without_a_partitioned_leader_which_then_follows() {
    let mut sim = Simulation::start(3, 5);
    let old = sim.await_leader(PATIENCE);
    sim.propose(old, "before");
    sim.await_applied_everywhere(1);
    sim.isolate(old);
    let new = sim.await_other_leader(old, PATIENCE);
    sim.propose(new, "during");
    sim.until("the majority applies", PATIENCE, |sim| sim.applied(new).len() == 2);
    assert_eq!(sim.applied(old).len(), 1);
    sim.heal();
    sim.await_applied_everywhere(2);
    sim.assert_same_order();
}

/// What a leader proposes in vain reaches its successor's log. That of which it decided as the leader must not.
#[test]
fn what_is_bound_to_a_term_is_in_the_log_of_that_term_or_nowhere() {
    let mut sim = Simulation::start(3, 18);
    let old = sim.await_leader(PATIENCE);
    // A leader takes nothing before a quorum has heard of it.
    sim.run_for(Duration::from_millis(500));
    sim.propose_in_term(old, "in its term");
    sim.await_applied_everywhere(1);
    sim.isolate(old);
    // It may have happened for all that the leader knows: nobody is refused.
    sim.propose_in_term(old, "too late");
    let new = sim.await_other_leader(old, PATIENCE);
    sim.propose_in_term(old, "far too late");
    sim.propose(new, "of its successor");
    sim.heal();
    sim.await_applied_everywhere(2);
    sim.until("refusals", PATIENCE, |sim| sim.refusals() == [Refused::NotLeader; 1]);
    sim.propose_in_term(old, "of no leader");
    sim.until("another refusal", PATIENCE, |sim| sim.refusals() == [Refused::NotLeader; 2]);
    sim.run_for(Duration::from_secs(5));
    sim.await_applied_everywhere(2);
    sim.assert_same_order();
}

#[test]
fn a_read_sees_what_was_committed_before_it_and_a_partitioned_leader_answers_none() {
    let mut sim = Simulation::start(3, 6);
    let old = sim.await_leader(PATIENCE);
    sim.isolate(old);
    let new = sim.await_other_leader(old, PATIENCE);
    sim.propose(new, "newer");
    sim.until("the majority applies", PATIENCE, |sim| sim.applied(new).len() == 1);
    let stale = sim.read(old);
    sim.run_for(Duration::from_secs(3));
    assert!(!sim.has_read(stale), "a leader without a quorum must not answer");
    sim.heal();
    for node in sim.nodes() {
        let read = sim.read(node);
        sim.until("a read", PATIENCE, |sim| sim.has_read(read));
        assert_eq!(sim.seen_by(read), 1, "member {node}");
    }
}

#[test]
fn members_come_back_after_a_crash_with_all_they_had() {
    let mut sim = Simulation::start(3, 7);
    for round in 0..6 {
        let leader = sim.await_leader(PATIENCE);
        (0..10).for_each(|n| sim.propose(leader, &format!("round {round}, command {n}")));
        sim.await_applied_everywhere(10 * (round + 1));
        let victim = if round % 2 == 0 { leader } else { NodeId(round as u64 % 3 + 1) };
        sim.crash(victim);
        sim.run_for(Duration::from_millis(300));
        sim.restart(victim);
    }
    sim.await_leader(PATIENCE);
    sim.await_applied_everywhere(60);
    sim.assert_same_order();
}

#[test]
fn all_members_crash_at_once_and_have_every_command_that_was_applied() {
    let mut sim = Simulation::start(3, 8);
    for round in 1..=5 {
        let leader = sim.await_leader(PATIENCE);
        (0..20).for_each(|n| sim.propose(leader, &format!("round {round}, command {n}")));
        sim.until("one member applies all", PATIENCE, |sim| sim.applied(leader).len() >= 20 * round);
        sim.nodes().into_iter().for_each(|node| sim.crash(node));
        sim.nodes().into_iter().for_each(|node| sim.restart(node));
    }
    sim.await_leader(PATIENCE);
    sim.await_applied_everywhere(100);
    sim.assert_same_order();
}

/// Crashes a follower and applies so many commands without it: one at a time, so that each is an entry and the log is
/// purged on the way.
fn leave_behind(sim: &mut Simulation, commands: usize) -> NodeId {
    let leader = sim.await_leader(PATIENCE);
    let behind = sim.nodes().into_iter().find(|node| *node != leader).unwrap();
    sim.crash(behind);
    for n in 1..=commands {
        let leader = sim.await_leader(PATIENCE);
        sim.propose(leader, &format!("command {n}"));
        sim.until("applied", PATIENCE, |sim| sim.applied(leader).len() >= n);
    }
    behind
}

#[test]
fn a_member_that_lags_behind_the_log_gets_a_snapshot() {
    let mut sim = Simulation::start(3, 9);
    let behind = leave_behind(&mut sim, 300);
    sim.restart(behind);
    sim.await_applied_everywhere(300);
    sim.assert_same_order();
    let leader = sim.await_leader(PATIENCE);
    sim.propose(leader, "after");
    sim.await_applied_everywhere(301);
}

#[test]
fn members_are_added_and_removed() {
    let mut sim = Simulation::start(3, 10);
    let leader = sim.await_leader(PATIENCE);
    sim.propose(leader, "before");
    sim.await_applied_everywhere(1);
    sim.add_member(leader, NodeId(4));
    sim.await_applied_everywhere(1);
    sim.until("the new member votes", PATIENCE, |sim| sim.voters(leader).contains(&4));
    sim.remove_member(leader, NodeId(if leader == NodeId(1) { 2 } else { 1 }));
    sim.until("three voters", PATIENCE, |sim| sim.voters(leader).len() == 3);
    sim.propose(NodeId(4), "after");
    sim.until("applied by the new member", PATIENCE, |sim| sim.applied(NodeId(4)).len() == 2);
}

#[test]
fn leadership_is_handed_over() {
    let mut sim = Simulation::start(3, 11);
    let old = sim.await_leader(PATIENCE);
    let to = sim.nodes().into_iter().find(|node| *node != old).unwrap();
    sim.transfer_leader(old, to);
    sim.until("the new leader", PATIENCE, |sim| sim.leader() == Some(to));
}

#[test]
fn a_member_without_the_log_it_once_had_is_refused() {
    let mut sim = Simulation::start(3, 12);
    sim.await_leader(PATIENCE);
    sim.until("all are published", PATIENCE, |sim| sim.nodes().iter().all(|node| sim.published(*node)));
    sim.crash(NodeId(2));
    sim.wipe(NodeId(2));
    sim.restart(NodeId(2));
    sim.until("a refusal to start", PATIENCE, |sim| {
        sim.start_error(NodeId(2)).is_some_and(|error| error.contains("already been bootstrapped"))
    });
}

#[test]
fn a_follower_keeps_what_it_is_given_until_there_is_a_new_leader() {
    let mut sim = Simulation::start(3, 15);
    let old = sim.await_leader(PATIENCE);
    sim.run_for(Duration::from_millis(500));
    sim.crash(old);
    sim.run_for(Duration::from_millis(100));
    let follower = sim.nodes().into_iter().find(|node| *node != old).unwrap();
    (0..50).for_each(|n| sim.propose(follower, &format!("command {n}")));
    sim.until("all applied", PATIENCE, |sim| sim.applied(follower).len() == 50);
    assert!(sim.refusals().is_empty());
}

/// The same seed gives the same trace, another seed another one.
#[test]
fn a_seed_reproduces_its_run() {
    let run = |seed| {
        let mut sim = Simulation::start(3, seed);
        let old = sim.await_leader(PATIENCE);
        (0..50).for_each(|n| sim.propose(NodeId(n % 3 + 1), &format!("command {n}")));
        sim.run_for(Duration::from_millis(20));
        sim.isolate(old);
        sim.await_other_leader(old, PATIENCE);
        sim.crash(old);
        sim.heal();
        sim.restart(old);
        (50..80).for_each(|n| sim.propose(NodeId(n % 3 + 1), &format!("command {n}")));
        sim.run_for(Duration::from_secs(10));
        sim.assert_same_order();
        sim.trace()
    };
    let trace = run(13);
    assert_eq!(trace, run(13));
    assert_ne!(trace, run(14));
}

/// The old leader's lease, one election timeout, and a round of votes.
#[test]
fn a_new_leader_takes_over_soon_after_the_old_one_crashed() {
    let mut took: Vec<Duration> = (20..30)
        .map(|seed| {
            let mut sim = Simulation::start(3, seed);
            let old = sim.await_leader(PATIENCE);
            sim.run_for(Duration::from_secs(1));
            let crashed = sim.elapsed();
            sim.crash(old);
            sim.await_other_leader(old, PATIENCE);
            sim.elapsed() - crashed
        })
        .collect();
    took.sort();
    assert!(took[5] < Duration::from_millis(1_500), "median of {took:?}");
    assert!(took[9] < Duration::from_millis(3_000), "worst of {took:?}");
}
