//! Restarts, crashes, snapshots and reclaim: what was promised is there, and nothing is applied twice.

use super::*;
use crate::store::checkpoint;
use crate::store::reclaim;

fn contents(member: &Member) -> Vec<String> {
    member.range(all()).unwrap().kvs.iter().map(shown).collect()
}

fn history(member: &Member) -> (u32, i64, i64) {
    let hash = member.state().view().hash_kv(0).unwrap();
    (hash.hash, hash.compacted, hash.revision)
}

fn fill(member: &mut Member) {
    member.grant(9, 60).unwrap();
    for round in 0..5 {
        for key in ["a", "b", "c"] {
            member.put(pb::PutRequest { lease: 9, ..put(key, &format!("{key}{round}")) }).unwrap();
        }
        member.delete(delete("b")).unwrap();
    }
}

#[test]
fn a_restart_brings_back_everything_from_segments_or_from_the_index() {
    for with_checkpoint in [false, true] {
        let mut member = Member::new(1);
        member.apply_payload(Payload::Membership(bytes("members")));
        fill(&mut member);
        if with_checkpoint {
            member.checkpoint();
        }
        member.compact(12).unwrap();
        member.put(put("d", "after")).unwrap();
        let (before, hash, applied) = (contents(&member), history(&member), member.machine.applied());
        let member = member.restart();
        assert_eq!((contents(&member), history(&member)), (before, hash));
        assert_eq!(member.machine.applied().at, applied.at, "the applied position is lost");
        assert_eq!(member.machine.applied().membership, applied.membership);
        assert_eq!(member.state().view().state.leases.get(9).unwrap().keys.len(), 2);
        // The log may have been purged up to there.
        assert_eq!(member.machine.durable(), applied.at);
    }
}

#[test]
fn entries_that_are_offered_again_are_not_applied_again() {
    let mut member = Member::new(1);
    member.put(put("a", "1")).unwrap();
    let before = history(&member);
    let command = Bytes::from(put_command(put("a", "2")).encode_to_vec());
    let at = Position { term: 1, index: 1 };
    member.machine.apply(vec![Committed { at, payload: Payload::Batch(vec![command]) }]).unwrap();
    assert_eq!(history(&member), before);
}

#[test]
fn a_crash_keeps_a_prefix_that_holds_all_that_was_durable() {
    for seed in 0..30 {
        let mut member = Member::new(seed);
        let mut states = vec![history(&member)];
        let mut durable = 0;
        for round in 0..20 {
            member.put(put(&format!("k{}", round % 3), &format!("{round}"))).unwrap();
            states.push(history(&member));
            if round == seed % 20 {
                member.state().ledger().segments.sync().unwrap();
                durable = member.machine.durable().unwrap().index as usize;
                assert_eq!(durable, states.len() - 1);
            }
        }
        let member = member.crash(seed);
        let applied = member.machine.applied().at.map_or(0, |at| at.index as usize);
        assert!(applied >= durable, "seed {seed}: {applied} of {durable}");
        assert_eq!(history(&member), states[applied], "seed {seed}");
    }
}

#[test]
fn a_snapshot_carries_the_whole_state_to_another_member() {
    let mut leader = Member::new(1);
    fill(&mut leader);
    leader.compact(10).unwrap();
    let snapshot = leader.machine.snapshot().unwrap();
    let told = snapshot.applied.at;
    leader.put(put("later", "not in the snapshot")).unwrap();
    let snapshot = (snapshot.prepare)().unwrap();

    let mut follower = Member::new(2);
    follower.put(put("stale", "goes")).unwrap();
    let directory = follower.receive(&leader, &snapshot.paths);
    assert_eq!(follower.machine.install(directory).unwrap().at, told);
    let expected: Vec<String> = contents(&leader).into_iter().filter(|kv| !kv.starts_with("later")).collect();
    assert_eq!(contents(&follower), expected, "the state is not the one of the snapshot");
    drop(snapshot);
    assert_eq!(leader.world.disk.list(leader.ledger_path()).unwrap(), ["g00000001", "run-00000001"]);

    follower.next_index = told.unwrap().index + 1;
    follower.put(put("later", "not in the snapshot")).unwrap();
    assert_eq!(history(&follower), history(&leader), "the state is not the one of the snapshot");
    let follower = follower.crash(3);
    assert_eq!(follower.machine.applied().at.unwrap().index + 1, follower.next_index);
    assert!(contents(&follower).len() >= expected.len());
}

#[test]
fn reclaimed_segments_lose_nothing_that_lives() {
    let mut member = Member::new(1);
    fill(&mut member);
    member.with_ledger(|ledger| ledger.segments.seal()).unwrap();
    fill_more(&mut member);
    member.compact(20).unwrap();
    member.sweep_all();
    let (before, hash) = (contents(&member), history(&member));
    let end = member.state().ledger().segments.end().segment;
    let (state, basis) = (member.state(), member.state().ledger().basis());
    let first = reclaim::candidate(state, &basis, end, &[]).unwrap().expect("most of the first segment is dead");
    reclaim::empty(state, &basis, first).unwrap();
    assert_eq!(member.with_ledger(|ledger| ledger.usage.live(first)), 0);
    member.checkpoint();
    member.state().ledger().segments.remove(&[first]).unwrap();
    assert_eq!((contents(&member), history(&member)), (before.clone(), hash));
    let member = member.crash(1);
    assert_eq!((contents(&member), history(&member)), (before, hash));
}

fn fill_more(member: &mut Member) {
    for round in 0..6 {
        for key in ["a", "c"] {
            member.put(put(key, &format!("{key}{round}"))).unwrap();
        }
    }
}

#[test]
fn a_damaged_index_is_refused_by_name() {
    let mut member = Member::new(1);
    fill(&mut member);
    member.checkpoint();
    let path = Path::new("/data/state/g00000001/index");
    assert!(checkpoint::read(&member.world, path).unwrap().is_some());
    member.disk.flip_bit(path, 8 * 60).unwrap();
    let disk = member.disk.clone();
    drop(member);
    let error = Member::on(1, disk).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("/data/state/g00000001/index is damaged"), "{error}");
}
