//! Changes of the membership: what each means to openraft, and when it must be refused.

use std::collections::{BTreeMap, BTreeSet};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Precondition};

use super::change::{Change, ChangeError, ChangeRequest, ChangeResult, CommittedChange};
use super::member::members_of;
use super::rules::LeaderView;
use super::state_machine::Raft;
use super::types::{LogId, Membership, Peer, Types, position};
use crate::world::planted::planted;

/// A member that was added to vote gets its vote once it lags behind the leader by no more than this many entries.
const READY_LAG_MAX: u64 = 1_000;
/// How much of the leader's log a learner must have to be promoted.
const READY_PERCENT_MIN: u64 = 90;

type Plan = Option<ChangeMembers<u64, Peer>>;

/// Judges `request` by its rules, in the order in which etcd does.
fn judge(view: &LeaderView, request: &ChangeRequest) -> Result<(), ChangeError> {
    match &request.change {
        Change::Add { id, .. } if view.membership.get_node(id).is_some() => Err(ChangeError::Exists(*id)),
        Change::Add { peer, .. } if request.rules.strict => view.may_add(!peer.joining),
        Change::Remove { id } if request.rules.strict => view.may_remove(*id),
        Change::Promote { id } => {
            caught_up(view, *id)?;
            if request.rules.strict { view.may_promote() } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

fn caught_up(view: &LeaderView, id: u64) -> Result<(), ChangeError> {
    view.membership.get_node(&id).ok_or(ChangeError::NotFound(id))?;
    let matched = if id == view.me { view.last } else { view.matched.get(&id).copied().unwrap_or(0) };
    if matched * 100 < view.last * READY_PERCENT_MIN { Err(ChangeError::NotReady(id)) } else { Ok(()) }
}

/// What `request` means to openraft; `None` when the membership is that already.
fn plan(view: &LeaderView, request: &ChangeRequest) -> Result<Plan, ChangeError> {
    let membership = view.membership;
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let known = |id: u64| membership.get_node(&id).cloned().ok_or(ChangeError::NotFound(id));
    let set =
        |id: u64, old: Peer, new: Peer| (old != new).then(|| ChangeMembers::SetNodes(BTreeMap::from([(id, new)])));
    match &request.change {
        Change::Add { id, .. } if view.removed.contains(id) => Err(ChangeError::NotFound(*id)),
        Change::Add { id, peer } => {
            unused(membership, *id, &peer.peer_urls)?;
            let learners = members_of(membership).iter().filter(|member| member.learner).count();
            if !peer.joining && learners >= request.rules.learners_max {
                return Err(ChangeError::TooManyLearners);
            }
            Ok(Some(ChangeMembers::AddNodes(BTreeMap::from([(*id, peer.clone())]))))
        }
        Change::Remove { id } => {
            known(*id)?;
            let ids = BTreeSet::from([*id]);
            match (voters.contains(id), voters.len()) {
                (true, 1) => Err(ChangeError::LastVoter),
                (true, _) => Ok(Some(ChangeMembers::RemoveVoters(ids))),
                (false, _) => Ok(Some(ChangeMembers::RemoveNodes(ids))),
            }
        }
        Change::Promote { id } => match known(*id)? {
            peer if voters.contains(id) || peer.joining => Err(ChangeError::NotLearner(*id)),
            _ => Ok(Some(ChangeMembers::AddVoterIds(BTreeSet::from([*id])))),
        },
        Change::Admit { id } => Ok((!voters.contains(id)).then(|| ChangeMembers::AddVoterIds(BTreeSet::from([*id])))),
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
fn unused(membership: &Membership, id: u64, urls: &[String]) -> Result<(), ChangeError> {
    let mut others = membership.nodes().filter(|(other, _)| **other != id).flat_map(|(_, peer)| &peer.peer_urls);
    match others.find(|url| urls.contains(url)) {
        Some(url) => Err(ChangeError::PeerUrlExists(url.clone())),
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

/// What the leader knows besides openraft's metrics.
pub(super) struct KnownMembers {
    pub removed: BTreeSet<u64>,
    pub active: BTreeSet<u64>,
    pub steady: BTreeSet<u64>,
}

/// Makes a change on this member, which must lead; resolves once it is committed.
pub(super) async fn execute(raft: &Raft, request: ChangeRequest, known: KnownMembers) -> ChangeResult {
    let (planned, based_on) = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref().ok_or(ChangeError::NotLeader)?;
        let matched = replication.iter().filter_map(|(id, at)| Some((*id, at.as_ref()?.index))).collect();
        let membership = &metrics.membership_config;
        // openraft would refuse, and complain.
        if *membership.log_id() > metrics.local_committed {
            return Err(ChangeError::InProgress);
        }
        let view = LeaderView {
            membership: membership.membership(),
            removed: &known.removed,
            me: metrics.id,
            last: metrics.last_log_index.unwrap_or(0),
            matched,
            active: known.active,
            steady: known.steady,
        };
        judge(&view, &request)?;
        let planned = plan(&view, &request)?;
        if planned.is_none() {
            let index = membership.log_id().as_ref().map_or(0, |at| position(at).index);
            return Ok(CommittedChange { index, membership: membership.membership().clone() });
        }
        (planned, *membership.log_id())
    };
    let planned = planned.expect("nothing to do was answered above");
    let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: based_on };
    match raft.change_membership_if(planned, planted!("removed-member-counts"), [unchanged]).await {
        Ok(made) => {
            let membership = made.membership.clone().expect("a change of the membership answers with one");
            Ok(CommittedChange { index: position(&made.log_id).index, membership })
        }
        Err(error) => Err(outcome(&error)),
    }
}

/// The entry of a change whose second half is missing: the membership is joint.
pub(super) fn half_done(raft: &Raft) -> Option<LogId> {
    let metrics = raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let membership = &metrics.membership_config;
    if membership.membership().get_joint_config().len() > 1 { *membership.log_id() } else { None }
}

/// On the leader: finishes a change that an earlier leader left half done.
pub(super) async fn finish(raft: &Raft) {
    let Some(joint) = half_done(raft) else { return };
    let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: Some(joint) };
    let nothing_more = ChangeMembers::AddVoterIds(BTreeSet::new());
    match raft.change_membership_if(nothing_more, false, [unchanged]).await {
        Ok(_) => tracing::info!("a membership change of an earlier leader was finished"),
        Err(error) => tracing::debug!(%error, "a membership change of an earlier leader is still half done"),
    }
}

fn outcome(error: &RaftError<Types, ClientWriteError<Types>>) -> ChangeError {
    match error {
        RaftError::Fatal(_) => ChangeError::Stopped,
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => ChangeError::NotLeader,
        RaftError::APIError(ClientWriteError::PreconditionFailed(_)) => ChangeError::InProgress,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
            ChangeMembershipError::EmptyMembership(_) => ChangeError::LastVoter,
            ChangeMembershipError::LearnerNotFound(missing) => ChangeError::NotFound(missing.node_id),
            _ => ChangeError::InProgress,
        },
        RaftError::APIError(_) => ChangeError::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Rules;

    fn peer(url: &str) -> Peer {
        Peer { peer_urls: vec![url.into()], ..Peer::default() }
    }

    /// Members 1 and 2 vote, member 3 is a learner.
    fn membership() -> Membership {
        let nodes = BTreeMap::from([(1, peer("http://a:1")), (2, peer("http://b:1")), (3, peer("http://c:1"))]);
        Membership::new(vec![BTreeSet::from([1, 2])], nodes).unwrap()
    }

    fn with_view<T>(membership: &Membership, matched: u64, look: impl FnOnce(&LeaderView) -> T) -> T {
        let everyone: BTreeSet<u64> = membership.nodes().map(|(id, _)| *id).collect();
        let removed = BTreeSet::from([9]);
        let matched = everyone.iter().map(|id| (*id, matched)).collect();
        let (active, steady) = (everyone.clone(), everyone);
        look(&LeaderView { membership, removed: &removed, me: 1, last: 5_000, matched, active, steady })
    }

    fn asked(membership: &Membership, change: Change, matched: u64) -> Result<Plan, ChangeError> {
        let request = ChangeRequest { change, rules: Rules { strict: false, learners_max: 1 } };
        with_view(membership, matched, |view| judge(view, &request).and_then(|()| plan(view, &request)))
    }

    #[test]
    fn a_change_that_was_made_before_is_told_from_one_that_never_will_be() {
        let membership = membership();
        let made = |change: Change| {
            let reason = asked(&membership, change.clone(), 5_000).unwrap_err();
            change.was_made_before(&reason) && change.shows_in(&members_of(&membership))
        };
        assert!(made(Change::Add { id: 3, peer: peer("http://c:1") }));
        assert!(made(Change::Remove { id: 4 }));
        assert!(made(Change::Promote { id: 2 }));
        assert!(!made(Change::Add { id: 4, peer: peer("http://c:1") }), "another member has its URL");
        assert!(!made(Change::Promote { id: 4 }), "it is gone");
        assert!(!Change::SetPeerUrls { id: 3, urls: Vec::new() }.repeats_are_refused());
    }

    fn planned(change: Change, matched: u64) -> Result<Plan, ChangeError> {
        asked(&membership(), change, matched)
    }

    #[test]
    fn changes_that_cannot_be_are_refused() {
        let urls = |url: &str| vec![url.to_owned()];
        for (change, refusal) in [
            (Change::Add { id: 1, peer: peer("http://d:1") }, ChangeError::Exists(1)),
            (Change::Add { id: 9, peer: peer("http://d:1") }, ChangeError::NotFound(9)),
            (Change::Add { id: 4, peer: peer("http://d:1") }, ChangeError::TooManyLearners),
            (Change::Add { id: 4, peer: peer("http://a:1") }, ChangeError::PeerUrlExists("http://a:1".into())),
            (Change::Remove { id: 4 }, ChangeError::NotFound(4)),
            (Change::Promote { id: 1 }, ChangeError::NotLearner(1)),
            (Change::Promote { id: 3 }, ChangeError::NotReady(3)),
            (Change::Promote { id: 4 }, ChangeError::NotFound(4)),
            (Change::SetPeerUrls { id: 4, urls: urls("http://d:1") }, ChangeError::NotFound(4)),
            (Change::SetPeerUrls { id: 2, urls: urls("http://a:1") }, ChangeError::PeerUrlExists("http://a:1".into())),
        ] {
            assert_eq!(planned(change.clone(), 10), Err(refusal), "{change:?}");
        }
    }

    #[test]
    fn the_last_voter_stays() {
        let alone = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, peer("http://a:1"))])).unwrap();
        assert_eq!(asked(&alone, Change::Remove { id: 1 }, 0), Err(ChangeError::LastVoter));
    }

    #[test]
    fn changes_reach_openraft() {
        let ids = |id| BTreeSet::from([id]);
        assert_eq!(planned(Change::Remove { id: 2 }, 0), Ok(Some(ChangeMembers::RemoveVoters(ids(2)))));
        assert_eq!(planned(Change::Remove { id: 3 }, 0), Ok(Some(ChangeMembers::RemoveNodes(ids(3)))));
        assert_eq!(planned(Change::Promote { id: 3 }, 4_500), Ok(Some(ChangeMembers::AddVoterIds(ids(3)))));
        let same = Change::SetPeerUrls { id: 2, urls: vec!["http://b:1".into()] };
        assert_eq!(planned(same, 0), Ok(None));
    }

    #[test]
    fn a_member_added_to_vote_is_promoted_once_it_has_caught_up() {
        let nodes = BTreeMap::from([(1, peer("a")), (2, Peer { joining: true, ..peer("b") }), (3, peer("c"))]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        assert!(ready_to_vote(&membership, 5_000, |_| Some(10)).is_empty());
        assert_eq!(ready_to_vote(&membership, 5_000, |_| Some(5_000)), [2]);
        let learners: Vec<bool> = members_of(&membership).iter().map(|member| member.learner).collect();
        assert_eq!(learners, [false, false, true]);
    }
}
