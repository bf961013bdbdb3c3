//! Changes of the membership: what each means to openraft, and when it must be refused.

use std::collections::{BTreeMap, BTreeSet};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Precondition};
use serde::{Deserialize, Serialize};

use super::types::{Membership, Peer, Raft, Types};
use super::{Error, Member};
use crate::world::NodeId;

/// Entries by which a learner may lag behind the leader and still become a voter.
const READY_LAG_MAX: u64 = 1_000;

/// A change, as it is sent to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    Add {
        id: u64,
        peer: Peer,
    },
    Remove {
        id: u64,
    },
    Promote {
        id: u64,
    },
    SetPeerUrls {
        id: u64,
        urls: Vec<String>,
    },
    /// A member has started, and tells its name and where clients reach it.
    Publish {
        id: u64,
        name: String,
        client_urls: Vec<String>,
    },
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Unchanged {
    /// Did not happen: ask the leader.
    NotLeader,
    /// Did not happen: try again in a moment.
    InProgress,
    /// May have happened.
    Unknown,
    Stopped,
    NotFound(u64),
    Exists(u64),
    PeerUrlExists(String),
    NotLearner(u64),
    NotReady(u64),
    LastVoter,
}

/// The answer to a [`Change`].
pub(super) type Changed = Result<(), Unchanged>;

impl Unchanged {
    pub fn into_error(self) -> Error {
        match self {
            Unchanged::NotLeader => Error::NoLeader,
            Unchanged::InProgress => Error::ChangeInProgress,
            Unchanged::Unknown => Error::LeaderChanged,
            Unchanged::Stopped => Error::Stopped,
            Unchanged::NotFound(id) => Error::MemberNotFound(NodeId(id)),
            Unchanged::Exists(id) => Error::MemberExists(NodeId(id)),
            Unchanged::PeerUrlExists(url) => Error::PeerUrlExists(url),
            Unchanged::NotLearner(id) => Error::NotLearner(NodeId(id)),
            Unchanged::NotReady(id) => Error::LearnerNotReady(NodeId(id)),
            Unchanged::LastVoter => Error::LastVoter,
        }
    }
}

type Plan = Option<ChangeMembers<u64, Peer>>;

/// The members that a membership records, by ID.
pub(super) fn members(membership: &Membership) -> Vec<Member> {
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
pub(super) fn first(members: &[Member]) -> BTreeMap<u64, Peer> {
    let peer = |member: &Member| Peer {
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        joining: false,
        started: false,
    };
    members.iter().map(|member| (member.id.0, peer(member))).collect()
}

/// What `change` asks of openraft; nothing when it already holds. `matched` tells up to which index the leader's log
/// is known to be on a member, `last` where that log ends.
fn plan(
    membership: &Membership,
    change: &Change,
    last: u64,
    matched: impl Fn(u64) -> Option<u64>,
) -> Result<Plan, Unchanged> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let known = |id: u64| membership.get_node(&id).cloned().ok_or(Unchanged::NotFound(id));
    let set =
        |id: u64, old: Peer, new: Peer| (old != new).then(|| ChangeMembers::SetNodes(BTreeMap::from([(id, new)])));
    match change {
        Change::Add { id, .. } if membership.get_node(id).is_some() => Err(Unchanged::Exists(*id)),
        Change::Add { id, peer } => {
            unused(membership, *id, &peer.peer_urls)?;
            Ok(Some(ChangeMembers::AddNodes(BTreeMap::from([(*id, peer.clone())]))))
        }
        Change::Remove { id } => {
            known(*id)?;
            let ids = BTreeSet::from([*id]);
            match (voters.contains(id), voters.len()) {
                (true, 1) => Err(Unchanged::LastVoter),
                (true, _) => Ok(Some(ChangeMembers::RemoveVoters(ids))),
                (false, _) => Ok(Some(ChangeMembers::RemoveNodes(ids))),
            }
        }
        Change::Promote { id } => {
            known(*id)?;
            if voters.contains(id) {
                return Err(Unchanged::NotLearner(*id));
            }
            match matched(*id) {
                Some(index) if index + READY_LAG_MAX >= last => {
                    Ok(Some(ChangeMembers::AddVoterIds(BTreeSet::from([*id]))))
                }
                _ => Err(Unchanged::NotReady(*id)),
            }
        }
        Change::SetPeerUrls { id, urls } => {
            let old = known(*id)?;
            unused(membership, *id, urls)?;
            Ok(set(*id, old.clone(), Peer { peer_urls: urls.clone(), ..old }))
        }
        Change::Publish { id, name, client_urls } => {
            let old = known(*id)?;
            Ok(set(
                *id,
                old.clone(),
                Peer { name: name.clone(), client_urls: client_urls.clone(), started: true, ..old },
            ))
        }
    }
}

/// Refuses peer URLs that another member has.
fn unused(membership: &Membership, id: u64, urls: &[String]) -> Result<(), Unchanged> {
    let mut others = membership.nodes().filter(|(other, _)| **other != id).flat_map(|(_, peer)| &peer.peer_urls);
    match others.find(|url| urls.contains(url)) {
        Some(url) => Err(Unchanged::PeerUrlExists(url.clone())),
        None => Ok(()),
    }
}

/// Members that were added to vote and have caught up.
pub(super) fn ready_to_vote(membership: &Membership, last: u64, matched: impl Fn(u64) -> Option<u64>) -> Vec<u64> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    membership
        .nodes()
        .filter(|(id, peer)| peer.joining && !voters.contains(id))
        .filter(|(id, _)| matched(**id).is_some_and(|index| index + READY_LAG_MAX >= last))
        .map(|(id, _)| *id)
        .collect()
}

/// Makes `change` on this member, which must lead; resolves once it is committed.
pub(super) async fn execute(raft: &Raft, change: Change) -> Changed {
    let (planned, based_on) = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref().ok_or(Unchanged::NotLeader)?;
        let matched = |id| replication.get(&id).copied().flatten().map(|log_id| log_id.index);
        let membership = &metrics.membership_config;
        let last = metrics.last_log_index.unwrap_or(0);
        (plan(membership.membership(), &change, last, matched)?, *membership.log_id())
    };
    let Some(planned) = planned else { return Ok(()) };
    let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: based_on };
    match raft.change_membership_if(planned, false, [unchanged]).await {
        Ok(_) => Ok(()),
        Err(error) => Err(outcome(&error)),
    }
}

fn outcome(error: &RaftError<Types, ClientWriteError<Types>>) -> Unchanged {
    match error {
        RaftError::Fatal(_) => Unchanged::Stopped,
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => Unchanged::NotLeader,
        RaftError::APIError(ClientWriteError::PreconditionFailed(_)) => Unchanged::InProgress,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
            ChangeMembershipError::EmptyMembership(_) => Unchanged::LastVoter,
            ChangeMembershipError::LearnerNotFound(missing) => Unchanged::NotFound(missing.node_id),
            _ => Unchanged::InProgress,
        },
        RaftError::APIError(_) => Unchanged::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(url: &str) -> Peer {
        Peer { peer_urls: vec![url.into()], ..Peer::default() }
    }

    /// Members 1 and 2 vote, member 3 is a learner.
    fn membership() -> Membership {
        let nodes = BTreeMap::from([(1, peer("http://a:1")), (2, peer("http://b:1")), (3, peer("http://c:1"))]);
        Membership::new(vec![BTreeSet::from([1, 2])], nodes).unwrap()
    }

    fn planned(change: Change, matched: Option<u64>) -> Result<Plan, Unchanged> {
        plan(&membership(), &change, 5_000, |_| matched)
    }

    #[test]
    fn changes_that_cannot_be_are_refused() {
        let urls = |url: &str| vec![url.to_owned()];
        for (change, refusal) in [
            (Change::Add { id: 1, peer: peer("http://d:1") }, Unchanged::Exists(1)),
            (Change::Add { id: 4, peer: peer("http://a:1") }, Unchanged::PeerUrlExists("http://a:1".into())),
            (Change::Remove { id: 4 }, Unchanged::NotFound(4)),
            (Change::Promote { id: 1 }, Unchanged::NotLearner(1)),
            (Change::Promote { id: 3 }, Unchanged::NotReady(3)),
            (Change::SetPeerUrls { id: 4, urls: urls("http://d:1") }, Unchanged::NotFound(4)),
            (Change::SetPeerUrls { id: 2, urls: urls("http://a:1") }, Unchanged::PeerUrlExists("http://a:1".into())),
        ] {
            assert_eq!(planned(change.clone(), Some(10)), Err(refusal), "{change:?}");
        }
    }

    #[test]
    fn the_last_voter_stays() {
        let alone = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, peer("http://a:1"))])).unwrap();
        assert_eq!(plan(&alone, &Change::Remove { id: 1 }, 0, |_| None), Err(Unchanged::LastVoter));
    }

    #[test]
    fn changes_reach_openraft() {
        let ids = |id| BTreeSet::from([id]);
        assert_eq!(planned(Change::Remove { id: 2 }, None), Ok(Some(ChangeMembers::RemoveVoters(ids(2)))));
        assert_eq!(planned(Change::Remove { id: 3 }, None), Ok(Some(ChangeMembers::RemoveNodes(ids(3)))));
        assert_eq!(planned(Change::Promote { id: 3 }, Some(4_900)), Ok(Some(ChangeMembers::AddVoterIds(ids(3)))));
        let same = Change::SetPeerUrls { id: 2, urls: vec!["http://b:1".into()] };
        assert_eq!(planned(same, None), Ok(None));
    }

    #[test]
    fn a_member_added_to_vote_is_promoted_once_it_has_caught_up() {
        let nodes = BTreeMap::from([(1, peer("a")), (2, Peer { joining: true, ..peer("b") }), (3, peer("c"))]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        assert!(ready_to_vote(&membership, 5_000, |_| Some(10)).is_empty());
        assert_eq!(ready_to_vote(&membership, 5_000, |_| Some(5_000)), [2]);
        let learners: Vec<bool> = members(&membership).iter().map(|member| member.learner).collect();
        assert_eq!(learners, [false, false, true]);
    }
}
