//! Whether a change of the membership may be made now: etcd's strict reconfiguration checks, as pure functions.
//!
//! They count members that were added to vote and have yet to catch up as voters, because the operator does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::change::ChangeError;
use super::types::{Membership, Peer};

/// A member that was lost counts again once it has been reachable for this long.
pub(super) const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// What the leader knows when it judges a change.
pub(super) struct LeaderView<'a> {
    pub membership: &'a Membership,
    pub removed: &'a BTreeSet<u64>,
    pub me: u64,
    /// Index of the last entry of the log.
    pub last: u64,
    /// The last index of the log that other members are known to have.
    pub matched: BTreeMap<u64, u64>,
    /// Reachable now, this member among them.
    pub active: BTreeSet<u64>,
    /// Reachable now and not lost within [`HEALTH_INTERVAL`], this member among them.
    pub steady: BTreeSet<u64>,
}

fn quorum(members: usize) -> usize {
    members / 2 + 1
}

impl LeaderView<'_> {
    /// Members that vote, or are about to.
    fn voting(&self) -> impl Iterator<Item = (u64, &Peer)> {
        let voters: BTreeSet<u64> = self.membership.voter_ids().collect();
        let nodes = self.membership.nodes().map(|(id, peer)| (*id, peer));
        nodes.filter(move |(id, peer)| voters.contains(id) || peer.joining)
    }

    /// How many members vote or are about to, and how many of them have started.
    fn count(&self, without: Option<u64>) -> (usize, usize) {
        let voting = self.voting().filter(|(id, _)| Some(*id) != without);
        voting.fold((0, 0), |(members, started), (_, peer)| (members + 1, started + usize::from(!peer.name.is_empty())))
    }

    fn steady_voting(&self) -> usize {
        self.voting().filter(|(id, _)| self.steady.contains(id)).count()
    }

    /// Counts the newcomer as one that is down.
    pub fn may_add(&self, learner: bool) -> Result<(), ChangeError> {
        let (members, started) = self.count(None);
        // One member may always get a second one: it is how a cluster grows out of a restored member.
        let only = members == 1 && started == 1;
        if !learner && !only && started < quorum(members + 1) {
            return Err(ChangeError::NotEnoughStarted);
        }
        if members != 1 && self.steady_voting() < quorum(members + 1) {
            return Err(ChangeError::Unhealthy);
        }
        Ok(())
    }

    pub fn may_remove(&self, id: u64) -> Result<(), ChangeError> {
        if self.membership.get_node(&id).is_some() && !self.voting().any(|(voting, _)| voting == id) {
            return Ok(());
        }
        let (members, started) = self.count(Some(id));
        if started < quorum(members) {
            return Err(ChangeError::NotEnoughStarted);
        }
        // A member that is down is not part of the quorum that works.
        if id != self.me && !self.active.contains(&id) {
            return Ok(());
        }
        let (members, _) = self.count(None);
        if self.steady_voting() < 1 + quorum(members - 1) {
            return Err(ChangeError::Unhealthy);
        }
        Ok(())
    }

    pub fn may_promote(&self) -> Result<(), ChangeError> {
        let (members, started) = self.count(None);
        if started + 1 < quorum(members + 1) {
            return Err(ChangeError::NotEnoughStarted);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Voters from 1 on; those named in `started` have started, `steady` ones are reachable.
    fn judge<T>(voters: u64, started: &[u64], steady: &[u64], judge: impl FnOnce(&LeaderView) -> T) -> T {
        let name = |id| if started.contains(&id) { "named".to_owned() } else { String::new() };
        let nodes: BTreeMap<u64, Peer> =
            (1..=voters).map(|id| (id, Peer { name: name(id), ..Peer::default() })).collect();
        let membership = Membership::new(vec![(1..=voters).collect()], nodes).unwrap();
        let (removed, steady) = (BTreeSet::new(), steady.iter().copied().collect::<BTreeSet<_>>());
        let active = steady.clone();
        let view = LeaderView {
            membership: &membership,
            removed: &removed,
            me: 1,
            last: 9,
            matched: BTreeMap::new(),
            active,
            steady,
        };
        judge(&view)
    }

    #[test]
    fn adding_needs_a_quorum_of_the_greater_cluster() {
        let add = |voters, started: &[u64], steady: &[u64]| judge(voters, started, steady, |s| s.may_add(false));
        assert_eq!(add(1, &[1], &[1]), Ok(()));
        assert_eq!(add(2, &[1], &[1]), Err(ChangeError::NotEnoughStarted));
        assert_eq!(add(3, &[1, 2, 3], &[1, 2, 3]), Ok(()));
        assert_eq!(add(3, &[1, 2, 3], &[1, 2]), Err(ChangeError::Unhealthy));
        assert_eq!(judge(3, &[1, 2], &[1, 2, 3], |s| s.may_add(true)), Ok(()));
        assert_eq!(judge(3, &[1, 2], &[1, 2], |s| s.may_add(true)), Err(ChangeError::Unhealthy));
    }

    #[test]
    fn removing_leaves_a_quorum_that_works() {
        let remove = |voters, started: &[u64], steady: &[u64], id| judge(voters, started, steady, |s| s.may_remove(id));
        assert_eq!(remove(1, &[1], &[1], 1), Err(ChangeError::NotEnoughStarted));
        assert_eq!(remove(3, &[1, 2, 3], &[1, 2, 3], 2), Ok(()));
        assert_eq!(remove(3, &[1, 2, 3], &[1, 2], 3), Ok(()), "it is down");
        assert_eq!(remove(3, &[1, 2, 3], &[1, 2], 2), Err(ChangeError::Unhealthy));
        assert_eq!(remove(3, &[1], &[1, 2, 3], 2), Err(ChangeError::NotEnoughStarted));
        assert_eq!(remove(3, &[1, 2, 3], &[1, 2, 3], 9), Ok(()), "the plan tells that there is none");
    }

    #[test]
    fn promoting_counts_the_learner_as_started() {
        assert_eq!(judge(1, &[1], &[1], |s| s.may_promote()), Ok(()));
        assert_eq!(judge(3, &[1], &[1], |s| s.may_promote()), Err(ChangeError::NotEnoughStarted));
    }
}
