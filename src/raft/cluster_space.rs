//! Which members are short of disk space, and what follows. A member that is short does not lead while another one
//! could. When the leader is short, or so many voters that no quorum is left, no member takes commands that make the
//! log grow.
//!
//! A member is short before it has no space at all: votes and entries under way still have theirs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::types::Membership;
use crate::disk::Space;
use crate::world::NodeId;

/// The disk space of the members, as far as this one knows. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct ClusterSpace {
    /// Of this member's log and state.
    own: [Space; 2],
    /// Other members that said that they are short.
    short: Arc<Mutex<BTreeSet<u64>>>,
    /// A flag, because every write reads it.
    full: Arc<AtomicBool>,
}

impl ClusterSpace {
    pub fn new(own: [Space; 2]) -> ClusterSpace {
        ClusterSpace { own, short: Arc::default(), full: Arc::default() }
    }

    fn short(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.short.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this member is short of space.
    pub fn is_short(&self) -> bool {
        self.own.iter().any(Space::is_short)
    }

    /// Notes what another member says of its space.
    pub fn hear(&self, id: u64, short: bool) {
        if short {
            self.short().insert(id)
        } else {
            self.short().remove(&id)
        };
    }

    /// Whether this member, the leader or too many voters lack the space for what makes the log grow.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub fn note_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// All members that are short of space; `me` is this one.
    pub fn all_short(&self, me: NodeId) -> BTreeSet<u64> {
        let mut short = self.short().clone();
        short.extend(self.is_short().then_some(me.0));
        short
    }

    /// Waits until this member runs short of space or has enough again.
    pub async fn changed(&self) {
        let [mut log, mut state] = self.own.each_ref().map(Space::subscribe);
        // The senders live as long as `self`.
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
