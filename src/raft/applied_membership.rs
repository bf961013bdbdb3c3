//! The membership as this member has applied it, and who has ever been removed from it.
//!
//! The state machine keeps it beside the position, as one record. A record that does not begin with [`MARK`] is a bare
//! membership, as older data directories have it.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Member;
use super::encoding::{malformed, parse, record};
use super::member::{initial_nodes, members_of};
use super::types::{Membership, Peer};
use crate::world::NodeId;

/// No bincode record of a membership begins with it.
const MARK: u8 = 0xff;
/// The version of the record that follows.
const VERSION: u8 = 1;

/// The members, and the IDs of former members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AppliedMembership {
    pub membership: Membership,
    /// None of these IDs ever becomes a member again.
    pub removed: BTreeSet<u64>,
}

impl AppliedMembership {
    /// The applied membership after `next`.
    pub fn followed_by(&self, next: Membership) -> AppliedMembership {
        let gone = self.membership.nodes().map(|(id, _)| *id).filter(|id| next.get_node(id).is_none());
        let removed = self.removed.iter().copied().chain(gone).collect();
        AppliedMembership { membership: next, removed }
    }

    pub fn encode(&self) -> Bytes {
        [&[MARK, VERSION], &record(self)[..]].concat().into()
    }

    pub fn decode(bytes: &[u8]) -> io::Result<AppliedMembership> {
        match bytes {
            [MARK, VERSION, rest @ ..] => parse(rest),
            [MARK, version, ..] => Err(malformed(format!("membership: version {version} is not known"))),
            bare => Ok(AppliedMembership { membership: parse(bare)?, removed: BTreeSet::new() }),
        }
    }

    pub fn members(&self) -> Vec<Member> {
        members_of(&self.membership)
    }

    pub fn get(&self, id: NodeId) -> Option<&Peer> {
        self.membership.get_node(&id.0)
    }

    /// Whether the voters are a quorum even of all members that were added to vote.
    pub fn is_settled(&self) -> bool {
        let voters = self.membership.voter_ids().count();
        let members = self.members().iter().filter(|member| !member.learner).count();
        voters > members / 2
    }
}

/// Encodes a membership that no log holds, for an imported state. A member with a name counts as one that has run
/// before. Without a voter the record is that of no cluster.
pub fn record_members(members: &[Member], removed: &[NodeId]) -> Bytes {
    let learners: BTreeSet<u64> = members.iter().filter(|member| member.learner).map(|member| member.id.0).collect();
    let mut nodes = initial_nodes(members);
    nodes.values_mut().for_each(|peer| peer.started = !peer.name.is_empty());
    let voters: BTreeSet<u64> = nodes.keys().copied().filter(|id| !learners.contains(id)).collect();
    let membership = match voters.is_empty() {
        true => Membership::default(),
        false => Membership::new(vec![voters], nodes).expect("every voter is among the nodes"),
    };
    AppliedMembership { membership, removed: removed.iter().map(|id| id.0).collect() }.encode()
}

/// The members and the removed IDs of a record that the state machine keeps.
pub fn recorded_members(record: &[u8]) -> io::Result<(Vec<Member>, Vec<NodeId>)> {
    let applied = AppliedMembership::decode(record)?;
    Ok((applied.members(), applied.removed.into_iter().map(NodeId).collect()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn membership(ids: &[u64]) -> Membership {
        let nodes: BTreeMap<u64, Peer> = ids.iter().map(|id| (*id, Peer::default())).collect();
        Membership::new(vec![ids.iter().copied().collect()], nodes).unwrap()
    }

    #[test]
    fn who_leaves_the_membership_is_remembered() {
        let applied = AppliedMembership::default().followed_by(membership(&[1, 2, 3]));
        assert!(applied.removed.is_empty());
        let applied = applied.followed_by(membership(&[1, 3])).followed_by(membership(&[1, 3, 4]));
        assert_eq!(applied.removed, BTreeSet::from([2]));
        assert_eq!(AppliedMembership::decode(&applied.encode()).unwrap(), applied);
    }

    #[test]
    fn a_bare_membership_is_read_as_well() {
        let bare = record(&membership(&[1, 2]));
        let applied = AppliedMembership { membership: membership(&[1, 2]), removed: BTreeSet::new() };
        assert_eq!(AppliedMembership::decode(&bare).unwrap(), applied);
        assert!(AppliedMembership::decode(&[MARK, 9, 0]).is_err());
    }

    #[test]
    fn a_record_from_elsewhere_tells_voters_and_learners() {
        let member = |id, learner| Member {
            id: NodeId(id),
            name: format!("m{id}"),
            peer_urls: vec![format!("http://m{id}:1")],
            client_urls: vec![],
            learner,
        };
        let told = [member(1, false), member(2, true)];
        let (members, removed) = recorded_members(&record_members(&told, &[NodeId(9)])).unwrap();
        assert_eq!((members, removed), (told.to_vec(), vec![NodeId(9)]));
    }

    #[test]
    fn a_newcomer_that_the_quorum_needs_leaves_it_unsettled() {
        let nodes = |ids: &[u64]| -> BTreeMap<u64, Peer> {
            ids.iter().map(|id| (*id, Peer { joining: *id > 8, ..Peer::default() })).collect()
        };
        let settled = |voters: &[u64], nodes: BTreeMap<u64, Peer>| {
            let membership = Membership::new(vec![voters.iter().copied().collect()], nodes).unwrap();
            AppliedMembership { membership, ..AppliedMembership::default() }.is_settled()
        };
        assert!(!settled(&[1], nodes(&[1, 9])));
        assert!(settled(&[1], nodes(&[1, 2])), "a learner is no newcomer");
        assert!(settled(&[1, 2, 3], nodes(&[1, 2, 3, 9])));
    }
}
