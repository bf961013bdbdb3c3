//! Comparing the hashes of several members. Pure.

use std::collections::BTreeMap;

use chorus_proto::etcdserverpb as pb;

use crate::store::Error;
use crate::store::mvcc::hash::Hash;
use crate::world::NodeId;

/// A peer's answer to the question for its hash at a revision.
#[derive(Clone, Debug)]
pub struct PeerHash {
    pub peer: NodeId,
    pub answer: Result<pb::HashKvResponse, Error>,
}

/// One peer compared with this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    Same,
    Differs,
    /// The two can't be compared, and why.
    Unknown(&'static str),
}

/// Whether a peer holds the same at the revision of `own`.
pub fn at_start(own: &pb::HashKvResponse, heard: &PeerHash) -> Compared {
    match &heard.answer {
        Ok(answer) if answer.hash == own.hash => Compared::Same,
        Ok(answer) if answer.compact_revision == own.compact_revision => Compared::Differs,
        Ok(_) => Compared::Unknown("found different compact revision values from remote peer"),
        Err(Error::FutureRevision) => Compared::Unknown("cannot fetch hash from slow remote peer"),
        Err(Error::Compacted) => Compared::Unknown("cannot fetch hash from remote peer; local member is behind"),
        Err(_) => Compared::Unknown("no response"),
    }
}

/// A member whose data can't be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub member: NodeId,
    pub reason: &'static str,
}

/// Compares the leader's hash, from before and after it asked its peers, with their answers.
pub fn all(
    leader: NodeId,
    before: &pb::HashKvResponse,
    after: &pb::HashKvResponse,
    peers: &[PeerHash],
) -> Option<Suspect> {
    let same_place = |a: &pb::HashKvResponse, b: &pb::HashKvResponse| {
        (a.hash_revision, a.compact_revision) == (b.hash_revision, b.compact_revision)
    };
    if same_place(before, after) && before.hash != after.hash {
        return Some(Suspect { member: leader, reason: "found hash mismatch" });
    }
    let revision = |answer: &pb::HashKvResponse| answer.header.as_ref().map_or(0, |header| header.revision);
    peers.iter().find_map(|heard| {
        let answer = heard.answer.as_ref().ok()?;
        let reason = if revision(answer) > revision(after) {
            "revision from follower must be less than or equal to leader's"
        } else if answer.compact_revision > after.compact_revision {
            "compact revision from follower must be less than or equal to leader's"
        } else if answer.compact_revision == before.compact_revision && answer.hash != before.hash {
            "same compact revision then hashes must match"
        } else {
            return None;
        };
        Some(Suspect { member: heard.peer, reason })
    })
}

/// The result of comparing the hashes of a compaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// Those that answered agree, but some did not answer.
    Incomplete,
    /// These members differ from most; member 0 stands for all of them when there is no majority.
    Corrupt(Vec<NodeId>),
}

pub fn compaction(leader: NodeId, own: &Hash, peers: &[PeerHash]) -> Verdict {
    let mut by_hash = BTreeMap::from([(own.hash, vec![leader])]);
    let mut heard_of = 0;
    for heard in peers {
        let comparable = heard.answer.as_ref().ok().filter(|answer| answer.compact_revision == own.compacted);
        let Some(answer) = comparable else { continue };
        heard_of += 1;
        by_hash.entry(answer.hash).or_default().push(heard.peer);
    }
    if by_hash.len() == 1 {
        return if heard_of == peers.len() { Verdict::Same } else { Verdict::Incomplete };
    }
    let quorum = peers.len().div_ceil(2) + 1;
    let majority = by_hash.iter().find(|(_, members)| members.len() >= quorum).map(|(hash, _)| *hash);
    match majority {
        Some(majority) => {
            by_hash.remove(&majority);
            Verdict::Corrupt(by_hash.into_values().flatten().collect())
        }
        None => Verdict::Corrupt(vec![NodeId(0)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(hash: u32, compact_revision: i64, revision: i64) -> pb::HashKvResponse {
        let header = Some(pb::ResponseHeader { revision, ..Default::default() });
        pb::HashKvResponse { header, hash, compact_revision, hash_revision: revision }
    }

    fn heard(peer: u64, answer: Result<pb::HashKvResponse, Error>) -> PeerHash {
        PeerHash { peer: NodeId(peer), answer }
    }

    #[test]
    fn a_member_that_starts_trusts_only_what_can_be_compared() {
        let own = answer(1, 5, 9);
        assert_eq!(at_start(&own, &heard(2, Ok(answer(1, 5, 12)))), Compared::Same);
        assert_eq!(at_start(&own, &heard(2, Ok(answer(2, 5, 12)))), Compared::Differs);
        for unknown in [Ok(answer(2, 6, 12)), Err(Error::FutureRevision), Err(Error::Compacted), Err(Error::Timeout)] {
            assert!(matches!(at_start(&own, &heard(2, unknown)), Compared::Unknown(_)));
        }
    }

    #[test]
    fn a_follower_ahead_of_its_leader_or_with_another_hash_is_suspect() {
        let (leader, before, after) = (NodeId(1), answer(1, 5, 9), answer(3, 5, 10));
        let suspect = |peer| all(leader, &before, &after, &[peer]).map(|suspect| suspect.member);
        assert_eq!(suspect(heard(2, Ok(answer(1, 5, 10)))), None);
        assert_eq!(suspect(heard(2, Ok(answer(7, 4, 10)))), None, "another compaction, another hash");
        assert_eq!(suspect(heard(2, Err(Error::Timeout))), None);
        assert_eq!(suspect(heard(2, Ok(answer(2, 5, 9)))), Some(NodeId(2)));
        assert_eq!(suspect(heard(2, Ok(answer(1, 5, 11)))), Some(NodeId(2)));
        assert_eq!(suspect(heard(2, Ok(answer(1, 6, 9)))), Some(NodeId(2)));
        let changed = pb::HashKvResponse { hash: 2, ..before };
        assert_eq!(all(leader, &before, &changed, &[]).map(|suspect| suspect.member), Some(leader));
    }

    #[test]
    fn the_minority_is_corrupt_and_without_a_majority_all_are() {
        let own = Hash { hash: 1, compacted: 5, revision: 9 };
        let verdict = |answers: &[Result<u32, Error>]| {
            let answers =
                (2..).zip(answers).map(|(peer, hash)| heard(peer, hash.clone().map(|hash| answer(hash, 5, 9))));
            compaction(NodeId(1), &own, &answers.collect::<Vec<_>>())
        };
        assert_eq!(verdict(&[Ok(1), Ok(1)]), Verdict::Same);
        assert_eq!(verdict(&[Ok(1), Err(Error::Timeout)]), Verdict::Incomplete);
        assert_eq!(verdict(&[Ok(1), Ok(2)]), Verdict::Corrupt(vec![NodeId(3)]));
        assert_eq!(verdict(&[Ok(2), Ok(2)]), Verdict::Corrupt(vec![NodeId(1)]));
        assert_eq!(verdict(&[Ok(2)]), Verdict::Corrupt(vec![NodeId(0)]));
        assert_eq!(verdict(&[Ok(2), Ok(3)]), Verdict::Corrupt(vec![NodeId(0)]));
        assert_eq!(verdict(&[Ok(2), Err(Error::Timeout), Ok(1), Ok(1)]), Verdict::Corrupt(vec![NodeId(2)]));
        let elsewhere = heard(2, Ok(answer(2, 4, 9)));
        assert_eq!(compaction(NodeId(1), &own, &[elsewhere]), Verdict::Incomplete);
    }
}
