//! Commands that nobody should have proposed: each changes nothing, and what comes after it is applied.

use proptest::prelude::*;

use super::*;

fn state(member: &Member) -> (String, usize) {
    (shown_range(&member.range(all()).unwrap()), member.state().view().state.leases.count())
}

fn batch(commands: impl IntoIterator<Item = Vec<u8>>) -> Payload {
    Payload::Batch(commands.into_iter().map(Bytes::from).collect())
}

/// A command of a later release: all that this one knows of it is its header.
fn from_the_future(header: pb::RequestHeader) -> Vec<u8> {
    let mut command = pb::InternalRaftRequest { header: Some(header), ..Default::default() }.encode_to_vec();
    prost::encoding::string::encode(7_777, &"what it says".to_owned(), &mut command);
    command
}

/// Transactions that would fail once they have changed something.
fn failing_half_way() -> Vec<pb::TxnRequest> {
    let deletes = || Request::RequestDeleteRange(delete_range("a", "\0"));
    let keeps = Request::RequestPut(pb::PutRequest { ignore_value: true, ..put("a", "") });
    let twice = || Request::RequestPut(put("twice", ""));
    let branches = [vec![deletes(), keeps], vec![twice(), twice()], vec![twice(), Request::RequestPut(put("", ""))]];
    branches.map(|success| pb::TxnRequest { success: ops(success), ..Default::default() }).into()
}

#[test]
fn what_cannot_be_applied_is_refused_and_the_rest_of_its_entry_is_not() {
    let mut member = Member::new(1);
    member.put(put("a", "1")).unwrap();
    let (id, mut outcome) = member.state().waiting.register().unwrap();
    let mut entry = vec![b"\xff\xff no message".to_vec(), from_the_future(member.state().waiting.header(id))];
    entry.extend(
        failing_half_way()
            .into_iter()
            .map(|txn| pb::InternalRaftRequest { txn: Some(txn), ..Default::default() }.encode_to_vec()),
    );
    entry.iter().for_each(|command| assert!(member.machine.validate()(&command.clone().into()).is_err()));
    entry.push(put_command(put("b", "2")).encode_to_vec());
    member.apply_payload(batch(entry));
    assert_eq!(outcome.try_recv().unwrap(), Err(Error::unknown_command()));
    let after = state(&member);
    assert_eq!(after.0, r#"rev 3; a{2,2,1,"1"}; b{3,3,1,"2"}; count 2"#);
    assert_eq!(state(&member.restart()), after);
}

#[test]
fn another_members_command_under_the_same_id_answers_nobody_here() {
    let mut member = Member::new(1);
    let (id, mut outcome) = member.state().waiting.register().unwrap();
    let mut theirs = put_command(put("a", "theirs"));
    for proposer in [0, 2] {
        theirs.header = Some(pb::RequestHeader { id, proposer, ..Default::default() });
        member.apply_payload(batch([theirs.encode_to_vec()]));
        assert!(outcome.try_recv().is_err(), "{proposer}");
    }
    let mut ours = put_command(put("a", "ours"));
    ours.header = Some(member.state().waiting.header(id));
    member.apply_payload(batch([ours.encode_to_vec()]));
    assert!(outcome.try_recv().unwrap().is_ok());
}

fn valid() -> Vec<Vec<u8>> {
    let nested = pb::TxnRequest { success: ops(vec![Request::RequestPut(put("n", "1"))]), ..Default::default() };
    let txn = pb::TxnRequest {
        compare: vec![pb::Compare { key: bytes("a"), ..Default::default() }],
        success: ops(vec![Request::RequestTxn(nested), Request::RequestRange(get("a"))]),
        failure: ops(vec![Request::RequestDeleteRange(delete_range("a", "z"))]),
    };
    let checkpoints = vec![pb::LeaseCheckpoint { id: 7, remaining_ttl: 5 }];
    [
        put_command(pb::PutRequest { lease: 7, prev_kv: true, ..put("a", "1") }),
        pb::InternalRaftRequest { txn: Some(txn), ..Default::default() },
        pb::InternalRaftRequest { lease_grant: Some(pb::LeaseGrantRequest { id: 7, ttl: 9 }), ..Default::default() },
        pb::InternalRaftRequest { lease_revoke: Some(pb::LeaseRevokeRequest { id: 7 }), ..Default::default() },
        pb::InternalRaftRequest {
            lease_checkpoint: Some(pb::LeaseCheckpointRequest { checkpoints }),
            ..Default::default()
        },
        pb::InternalRaftRequest {
            compaction: Some(pb::CompactionRequest { revision: 2, physical: false }),
            ..Default::default()
        },
        pb::InternalRaftRequest {
            alarm: Some(pb::AlarmRequest { action: 1, ..Default::default() }),
            ..Default::default()
        },
    ]
    .map(|command| command.encode_to_vec())
    .into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Valid commands, with some bytes replaced: whatever they say now, the member goes on.
    #[test]
    fn no_command_stops_a_member(
        chosen in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)),
            1..20,
        ),
    ) {
        let (mut member, valid) = (Member::new(1), valid());
        for (which, changes) in chosen {
            let mut command = which.get(&valid).clone();
            for (at, byte) in changes {
                let at = at.index(command.len());
                command[at] = byte;
            }
            member.apply_payload(batch([command]));
        }
        let after = state(&member);
        prop_assert_eq!(state(&member.restart()), after);
    }
}
