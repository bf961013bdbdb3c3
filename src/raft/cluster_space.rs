//! Who is short of disk space, and what follows from it: such a member does not lead while another could, and nobody
//! takes what makes the log grow when the leader is one of them, or too many members are.
//!
//! Being short comes before being out of room: votes, and entries that are under way, still have theirs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::types::Membership;
use crate::disk::Space;
use crate::world::NodeId;

/// What is known of the members' space. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct ClusterSpace {
    /// Of this member's log and state.
    own: [Space; 2],
    /// Others that said so.
    short: Arc<Mutex<BTreeSet<u64>>>,
    /// Read for every write: a flag rather than a look at all that.
    full: Arc<AtomicBool>,
}

impl ClusterSpace {
    pub fn new(own: [Space; 2]) -> ClusterSpace {
        ClusterSpace { own, short: Arc::default(), full: Arc::default() }
    }

    fn short(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.short.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This member is short of space.
    pub fn is_short(&self) -> bool {
        self.own.iter().any(Space::is_short)
    }

    /// Another member says how it is.
    pub fn hear(&self, id: u64, short: bool) {
        if short {
            self.short().insert(id)
        } else {
            self.short().remove(&id)
        };
    }

    /// What makes the log grow would not be written by this member, its leader or a quorum.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub fn note_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Everyone that is short of space, this member by its ID.
    pub fn all_short(&self, me: NodeId) -> BTreeSet<u64> {
        let mut short = self.short().clone();
        short.extend(self.is_short().then_some(me.0));
        short
    }

    /// Waits until this member runs short or has room again.
    pub async fn changed(&self) {
        let [mut log, mut state] = self.own.each_ref().map(Space::subscribe);
        // The senders live as long as this.
        tokio::select! {
            _ = log.changed() => (),
            _ = state.changed() => (),
        }
    }
}

/// Whether those that are `short` keep the cluster from growing.
pub(super) fn keeps_from_growing(short: &BTreeSet<u64>, leader: Option<u64>, membership: &Membership) -> bool {
    let roomy = |voters: &BTreeSet<u64>| voters.difference(short).count() > voters.len() / 2;
    leader.is_some_and(|leader| short.contains(&leader)) || !membership.get_joint_config().iter().all(roomy)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::raft::types::Peer;

    #[test]
    fn a_minority_of_followers_keeps_nobody_from_growing() {
        let nodes = BTreeMap::from([1, 2, 3].map(|id| (id, Peer::default())));
        let membership = Membership::new(vec![BTreeSet::from([1, 2, 3])], nodes).unwrap();
        let full = |short: &[u64]| keeps_from_growing(&short.iter().copied().collect(), Some(1), &membership);
        assert!(!full(&[]) && !full(&[2]));
        assert!(full(&[1]), "the leader");
        assert!(full(&[2, 3]), "no quorum has room");
    }
}
