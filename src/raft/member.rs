//! Members of the cluster, as the log records them.

use std::collections::{BTreeMap, BTreeSet};

use super::types::{Membership, Peer};
use crate::world::NodeId;

/// A member, and what the cluster knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: NodeId,
    /// Empty until the member has started for the first time.
    pub name: String,
    /// `http://host:port`, where other members reach it.
    pub peer_urls: Vec<String>,
    /// `http://host:port`, where clients reach it. Empty until the member has started for the first time.
    pub client_urls: Vec<String>,
    /// Receives the log but does not vote. A member that was added to vote and has yet to catch up is not a learner.
    pub learner: bool,
}

impl Member {
    /// What the membership records of a member that has yet to start.
    pub(super) fn peer(&self, joining: bool) -> Peer {
        Peer {
            name: self.name.clone(),
            peer_urls: self.peer_urls.clone(),
            client_urls: self.client_urls.clone(),
            joining,
            started: false,
        }
    }
}

/// The members that a membership records, by ID.
pub(super) fn members_of(membership: &Membership) -> Vec<Member> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let member = |(&id, peer): (&u64, &Peer)| Member {
        id: NodeId(id),
        name: peer.name.clone(),
        peer_urls: peer.peer_urls.clone(),
        client_urls: peer.client_urls.clone(),
        learner: !voters.contains(&id) && !peer.joining,
    };
    membership.nodes().map(member).collect()
}

/// The first membership of a new cluster: all of `members` vote.
pub(super) fn initial_nodes(members: &[Member]) -> BTreeMap<u64, Peer> {
    members.iter().map(|member| (member.id.0, member.peer(false))).collect()
}
