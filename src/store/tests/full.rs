//! A full disk: nothing is half applied, half visible or left behind, and all goes on once there is room.

use std::time::Duration;

use super::*;
use crate::disk::space::is_full;

fn fill(member: &Member) {
    member.disk.limit(Some(member.disk.used()));
}

fn history(member: &Member) -> (u32, i64) {
    let hash = member.state().view().hash_kv(0).unwrap();
    (hash.hash, hash.revision)
}

fn entry(member: &mut Member, command: pb::InternalRaftRequest) -> Committed {
    let at = Position { term: 1, index: member.next_index };
    member.next_index += 1;
    Committed { at, payload: Payload::Batch(vec![command.encode_to_vec().into()]) }
}

#[test]
fn what_the_disk_has_no_room_for_is_seen_by_nobody_until_it_has() {
    let mut member = Member::new(1);
    member.put(put("a", "before")).unwrap();
    let before = history(&member);
    fill(&member);
    let (id, mut outcome) = member.state().waiting.register().unwrap();
    let mut first = put_command(put("a", "during"));
    first.header = Some(member.state().waiting.header(id));
    let entries = vec![entry(&mut member, first), entry(&mut member, put_command(put("b", "after it")))];
    assert!(is_full(&member.machine.apply(entries).unwrap_err()));
    for _ in 0..3 {
        assert!(is_full(&member.machine.resume().unwrap_err()));
        assert!(member.state().space.is_short() && outcome.try_recv().is_err());
        assert_eq!(history(&member), before, "readers see the state that is on disk");
        assert!(member.state().ledger().checkpoint().is_err(), "what is ahead of the files is in no checkpoint");
    }
    member.disk.limit(None);
    member.machine.resume().unwrap();
    assert!(outcome.try_recv().unwrap().is_ok());
    let after = history(&member);
    assert_eq!(after.1, before.1 + 2);
    assert_eq!(history(&member.restart()), after);
}

#[test]
fn a_crash_while_the_disk_is_full_leaves_what_was_applied_before() {
    for seed in 0..20 {
        let mut member = Member::new(seed);
        member.put(put("a", "before")).unwrap();
        member.state().ledger().segments.sync().unwrap();
        let before = history(&member);
        member.disk.limit(Some(member.disk.used() + seed as usize * 8));
        let entry = entry(&mut member, put_command(put("a", &"during".repeat(100))));
        assert!(is_full(&member.machine.apply(vec![entry]).unwrap_err()));
        assert_eq!(history(&member.crash(seed)), before);
    }
}

#[test]
fn a_checkpoint_without_room_leaves_the_one_before_and_nothing_else() {
    let mut member = Member::new(1);
    member.put(put("a", "1")).unwrap();
    member.checkpoint();
    member.put(put("b", "2")).unwrap();
    let checkpoint = member.state().ledger().checkpoint().unwrap();
    member.state().ledger().segments.sync().unwrap();
    let (before, used) = (member.world.disk.read(&checkpoint.path).unwrap(), member.disk.used());
    member.disk.limit(Some(used + 40));
    assert!(checkpoint.write(&member.world).unwrap_err().is_full());
    assert_eq!((member.world.disk.read(&checkpoint.path).unwrap(), member.disk.used()), (before, used));
}

#[test]
fn a_snapshot_is_installed_whole_or_later() {
    let mut leader = Member::new(1);
    (0..20).for_each(|n| drop(leader.put(put(&format!("k{n}"), "of the leader")).unwrap()));
    let snapshot = (leader.machine.snapshot().unwrap().prepare)().unwrap();
    let mut refused = 0;
    for room in 0..64 {
        let mut follower = Member::new(2);
        follower.put(put("stale", "goes")).unwrap();
        let stale = history(&follower);
        let directory = follower.receive(&leader, &snapshot.paths);
        // What is still read keeps its room.
        let (disk, held) = (&follower.world.disk, follower.ledger_path().join("g00000001"));
        for name in disk.list(&held).unwrap() {
            disk.hard_link(&held.join(&name), &Path::new("/data/read").join(&name)).unwrap();
        }
        follower.disk.limit(Some(follower.disk.used() + room));
        if let Err(error) = follower.machine.install(directory.clone()) {
            refused += 1;
            assert!(is_full(&error), "{room} bytes of room: {error}");
            assert_eq!(history(&follower), stale);
            follower.disk.limit(None);
            follower.machine.install(directory).unwrap();
        }
        assert_eq!(history(&follower), history(&leader));
        assert_eq!(history(&follower.crash(3)), history(&leader));
    }
    assert!((1..64).contains(&refused), "{refused}");
}

#[test]
fn a_member_is_short_until_a_checkpoint_has_room_and_gets_back_what_is_dead() {
    single::run(8, || async {
        let disk = MemoryDisk::new();
        let (local, world, raft, _) = single::start(&disk, 8).await;
        for key in ["a", "b"] {
            local.put(put(key, &"x".repeat(1 << 20))).await.unwrap();
        }
        local.defragment(pb::DefragmentRequest {}).await.unwrap();
        local.delete_range(delete_range("a", "c")).await.unwrap();
        local.compact(pb::CompactionRequest { revision: 4, physical: true }).await.unwrap();
        world.clock.sleep(Duration::from_secs(1)).await;
        let (segments, mut short) = (local.member().ledger().segments.clone(), local.member().space.subscribe());
        assert_eq!((segments.list().unwrap().len(), *short.borrow_and_update()), (2, false));

        // There is room ahead, but none for a checkpoint.
        disk.limit(Some(disk.used()));
        short.wait_for(|short| *short).await.unwrap();
        world.clock.sleep(Duration::from_secs(5)).await;
        assert!(!short.has_changed().unwrap(), "it is told once");

        // There is room for a checkpoint, but none ahead.
        disk.limit(None);
        segments.seal().unwrap();
        segments.sync().unwrap();
        disk.limit(Some(disk.used() + (1 << 16)));
        let recovers = short.wait_for(|short| !short);
        let recovered = world.clock.timeout(Duration::from_secs(30), recovers).await;
        assert!(!*recovered.expect("what is dead makes room").unwrap());
        while raft.is_full() {
            world.clock.sleep(Duration::from_millis(100)).await;
        }
        local.put(put("c", "goes on")).await.unwrap();
    });
}

#[test]
fn segments_take_their_room_ahead_and_give_back_what_they_do_not_need() {
    let mut member = Member::new(1);
    let segments = member.state().ledger().segments.clone();
    let before = member.disk.used();
    segments.provide().unwrap();
    let ahead = member.disk.used() - before;
    assert!(ahead >= 1 << 20, "{ahead}");
    fill(&member);
    member.put(put("a", &"x".repeat(1 << 19))).unwrap();
    assert!(!member.state().space.is_short());
    segments.seal().unwrap_err();
    member.disk.limit(None);
    segments.seal().unwrap();
    segments.sync().unwrap();
    assert!(member.disk.used() < before + (1 << 20));
}

#[test]
fn file_descriptors_that_have_run_out_are_waited_for_as_a_full_disk_is() {
    let mut member = Member::new(1);
    member.put(put("a", "before")).unwrap();
    let before = history(&member);
    member.disk.withhold_descriptors(true);
    let value = "x".repeat(1 << 20);
    let put_now = |member: &mut Member| {
        let entry = entry(member, put_command(put("a", &value)));
        member.machine.apply(vec![entry])
    };
    let mut applied = 0;
    let failed = loop {
        match put_now(&mut member) {
            Ok(()) => applied += 1,
            Err(error) => break error,
        }
    };
    assert!(applied > 10 && is_full(&failed), "{applied} {failed}");
    assert!(member.state().space.is_short() && member.state().ledger().checkpoint().is_err());
    member.disk.withhold_descriptors(false);
    member.machine.resume().unwrap();
    put_now(&mut member).unwrap();
    let after = history(&member);
    assert_eq!(after.1, before.1 + applied + 2);
    assert_eq!(history(&member.restart()), after);
}
