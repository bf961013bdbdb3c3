//! What goes on in the background, interrupted at every point: by a snapshot that is installed, by writes, by segments
//! that go. Each test runs its story once for every yield point of the work that is interrupted there.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::*;
use crate::store::DataFiles;
use crate::store::compactor::upkeep::Upkeep;
use crate::store::generation::StepError;
use crate::world::threads::SimThread;

/// Many segments, and nothing is put off.
const FILES: DataFiles =
    DataFiles { segment_bytes: 1 << 11, tail_bytes_max: 1 << 40, reclaim_interval: Duration::ZERO };

fn contents(member: &Member) -> (Vec<String>, u32) {
    let shown = member.range(all()).unwrap().kvs.iter().map(shown).collect();
    (shown, member.state().view().hash_kv(0).unwrap().hash)
}

fn open(seed: u64, disk: MemoryDisk) -> Member {
    Member::with(seed, disk, |config| config.files = FILES).unwrap()
}

/// A member with some segments, in each of which something lives and something is dead.
fn half_dead(seed: u64) -> Member {
    let mut member = open(seed, MemoryDisk::new());
    for round in 0..8 {
        for key in 0..6 {
            let kept = put(&format!("kept {round} {key}"), &"x".repeat(60));
            let dead = put(&format!("dead {key}"), &"y".repeat(200));
            member.put(kept).unwrap();
            member.put(dead).unwrap();
        }
    }
    let revision = member.state().view().revision();
    member.compact(revision).unwrap();
    member.sweep_all();
    member.with_ledger(|ledger| ledger.compactions.clear());
    member.state().ledger().segments.sync().unwrap();
    member
}

fn upkeep(member: &Member) -> Upkeep {
    Upkeep::new(&member.world, member.machine.member.clone(), FILES)
}

/// Two members that hold the same in the same places; the second one is a little behind, which no place shows.
fn leader_and_follower() -> (Member, Member) {
    let disk = half_dead(1).disk;
    let (mut leader, follower) = (open(1, disk.image()), open(2, disk.image()));
    leader.with_ledger(|ledger| ledger.segments.seal()).unwrap();
    leader.apply_payload(Payload::Blank);
    (leader, follower)
}

fn snapshot_for(follower: &mut Member, leader: &mut Member) -> PathBuf {
    let files = (leader.machine.snapshot().unwrap().prepare)().unwrap();
    follower.receive(leader, &files.paths)
}

/// Tells `story` how many yield points to pass before the interruption, one more each time, until it says that the work
/// had ended before.
fn at_every_yield_point(story: impl Fn(u32) -> bool) {
    let points = (1..).take_while(|points| story(*points)).count();
    assert!(points > 5, "only {points} interruptions");
}

#[test]
fn nothing_of_one_generation_is_done_to_the_next() {
    at_every_yield_point(|points| {
        let (mut leader, mut follower) = leader_and_follower();
        let incoming = snapshot_for(&mut follower, &mut leader);
        let mut upkeep = upkeep(&follower);
        let thread = SimThread::new(move || {
            while upkeep.defragment().unwrap() {}
            upkeep.tick(false);
            upkeep
        });
        let interrupted = thread.run(points);
        follower.machine.install(incoming).unwrap();
        let mut upkeep = thread.join();
        assert_eq!(contents(&follower), contents(&leader), "after {points} yield points");
        (0..3).for_each(|_| upkeep.tick(false));
        assert_eq!(contents(&follower), contents(&leader), "after {points} yield points");
        assert_eq!(contents(&follower.restart()), contents(&leader), "after {points} yield points and a restart");
        interrupted
    });
}

#[test]
fn two_generations_are_told_apart_when_nothing_else_differs() {
    let (mut leader, mut follower) = leader_and_follower();
    let incoming = snapshot_for(&mut follower, &mut leader);
    let mut upkeep = upkeep(&follower);
    assert!(upkeep.defragment().unwrap(), "all is sealed, and in a checkpoint");
    let before = follower.state().ledger().checkpointed;
    let basis = follower.state().ledger().basis();
    follower.machine.install(incoming).unwrap();
    assert_eq!(follower.state().ledger().checkpointed, before, "the story is about equal points");
    assert_ne!(follower.state().ledger().generation(), basis.generation);
    assert!(matches!(follower.state().ledger_of(basis.generation), Err(StepError::Superseded)));
}

#[test]
fn a_segment_that_goes_while_a_snapshot_is_made_is_in_it_all_the_same() {
    at_every_yield_point(|points| {
        let (mut leader, mut follower) = (half_dead(1), open(2, MemoryDisk::new()));
        let snapshot = leader.machine.snapshot().unwrap();
        let expected = contents(&leader);
        let thread = SimThread::new(move || (snapshot.prepare)().unwrap());
        let interrupted = thread.run(points);
        let mut upkeep = upkeep(&leader);
        while upkeep.defragment().unwrap() {}
        let files = thread.join();
        let incoming = follower.receive(&leader, &files.paths);
        follower.machine.install(incoming).unwrap();
        assert_eq!(
            (contents(&follower), contents(&leader)),
            (expected.clone(), expected),
            "after {points} yield points"
        );
        upkeep.tick(false);
        let listed = leader.state().ledger().segments.list().unwrap();
        let names = leader.world.disk.list(&leader.ledger_path().join("g00000001")).unwrap();
        let segments = names.iter().filter(|name| name.ends_with(".seg")).count();
        assert!(segments <= listed.len() + 1, "files of segments that went stay: {names:?}");
        interrupted
    });
}

/// A view is read bit by bit while everything in it that is dead, and where everything in it was, goes.
#[test]
fn readers_find_what_they_saw_wherever_it_is_by_then() {
    at_every_yield_point(|points| {
        let member = half_dead(1);
        let (expected, view) = (contents(&member), member.state().view());
        let thread = SimThread::new(move || {
            let answer = view.range(&all()).unwrap();
            (answer.kvs.iter().map(shown).collect::<Vec<_>>(), view.hash_kv(0).unwrap().hash)
        });
        let interrupted = thread.run(points);
        let mut upkeep = upkeep(&member);
        while upkeep.defragment().unwrap() {}
        assert_eq!(thread.join(), expected);
        assert_eq!(contents(&member), expected);
        interrupted
    });
}

/// The thread that does the work must not have moved: whoever waits for a lock of its lets it run.
#[test]
fn writes_do_not_wait_for_a_snapshot_that_is_made() {
    at_every_yield_point(|points| {
        let mut leader = half_dead(1);
        let snapshot = leader.machine.snapshot().unwrap();
        let thread = SimThread::new(move || (snapshot.prepare)().unwrap());
        let interrupted = thread.run(points);
        let passed = thread.passed();
        leader.put(put("meanwhile", "is written at once")).unwrap();
        assert_eq!(thread.passed(), passed, "the write waited for the snapshot at yield point {points}");
        drop(thread.join());
        interrupted
    });
}

#[test]
fn nothing_waits_for_a_snapshot_that_is_installed() {
    at_every_yield_point(|points| {
        let (mut leader, mut follower) = leader_and_follower();
        let incoming = snapshot_for(&mut follower, &mut leader);
        let mut machine = StateMachine::new(follower.machine.member.clone());
        let thread = SimThread::new(move || machine.install(incoming).map(drop).unwrap());
        let interrupted = thread.run(points);
        let passed = thread.passed();
        assert!(!follower.state().ledger().is_stalled());
        assert_eq!(contents(&follower), contents(&leader));
        assert_eq!(thread.passed(), passed, "the look at the state waited at yield point {points}");
        thread.join();
        assert_eq!(contents(&follower), contents(&leader));
        interrupted
    });
}

#[test]
fn writes_wait_for_no_checkpoint() {
    at_every_yield_point(|points| {
        let mut member = half_dead(1);
        let upkeep = upkeep(&member);
        let checkpoint = member.state().ledger().checkpoint().unwrap();
        let world = member.world.clone();
        let thread = SimThread::new(move || checkpoint.write(&world).unwrap());
        let interrupted = thread.run(points);
        let passed = thread.passed();
        member.put(put("meanwhile", "is written at once")).unwrap();
        assert_eq!(thread.passed(), passed);
        thread.join();
        drop(upkeep);
        interrupted
    });
}

#[test]
fn a_snapshot_that_was_swept_tells_those_who_wait_for_the_sweep() {
    let (mut leader, mut follower) = leader_and_follower();
    leader.sweep_all();
    let revision = leader.state().view().state.index.compacted;
    let incoming = snapshot_for(&mut follower, &mut leader);
    let member: Arc<MemberState> = follower.machine.member.clone();
    assert!(member.wait_swept(revision).now_or_never().is_none());
    follower.machine.install(incoming).unwrap();
    assert!(member.wait_swept(revision).now_or_never().is_some());
}
