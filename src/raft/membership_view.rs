//! How this member sees the membership: its own role, who was removed, and which members are reachable.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::applied_membership::AppliedMembership;
use super::membership::KnownMembers;
use super::peers::Peers;
use super::rules::HEALTH_INTERVAL;
use crate::world::{Clock, Instant, NodeId};

/// Clones share what they see.
#[derive(Clone)]
pub(super) struct MembershipView {
    pub node: NodeId,
    pub clock: Clock,
    pub peers: Arc<Peers>,
    /// As this member has applied it.
    pub applied: watch::Receiver<AppliedMembership>,
    /// Another member said that this one was removed.
    told_removed: watch::Sender<bool>,
    /// A flag, because every call of a client reads it.
    learner: Arc<AtomicBool>,
}

impl MembershipView {
    pub fn new(
        node: NodeId,
        clock: Clock,
        peers: Arc<Peers>,
        applied: watch::Receiver<AppliedMembership>,
    ) -> MembershipView {
        let view = MembershipView {
            node,
            clock,
            peers,
            applied,
            told_removed: watch::Sender::new(false),
            learner: Arc::default(),
        };
        view.note_role();
        view
    }

    pub fn was_removed(&self, id: u64) -> bool {
        self.applied.borrow().removed.contains(&id)
    }

    /// Notes that another member said that this one was removed.
    pub fn hear_removal(&self) {
        self.told_removed.send_if_modified(|told| !std::mem::replace(told, true));
    }

    /// Resolves once this member has been removed from the cluster, for good.
    pub async fn removed(&self) {
        let (mut applied, mut told, me) = (self.applied.clone(), self.told_removed.subscribe(), self.node.0);
        let gone = tokio::select! {
            gone = applied.wait_for(|applied| applied.removed.contains(&me)) => gone.is_ok(),
            gone = told.wait_for(|told| *told) => gone.is_ok(),
        };
        // The replica has ended, which says nothing about the membership.
        if !gone {
            std::future::pending().await
        }
    }

    /// Whether this member receives the log but has no vote, and is not about to get one.
    pub fn is_learner(&self) -> bool {
        self.learner.load(Ordering::Relaxed)
    }

    fn note_role(&self) {
        let applied = self.applied.borrow();
        let votes = || applied.membership.voter_ids().any(|id| id == self.node.0);
        let learner = applied.get(self.node).is_some_and(|peer| !peer.joining && !votes());
        self.learner.store(learner, Ordering::Relaxed);
    }

    /// Keeps [`Self::is_learner`] up to date until the replica ends.
    pub async fn follow_role(self) {
        let mut applied = self.applied.clone();
        while applied.changed().await.is_ok() {
            self.note_role();
        }
    }

    pub fn is_active(&self, id: u64) -> bool {
        self.peers.activity.since(id, self.clock.now()).is_some()
    }

    /// Whether this member has had a connection since `start` to what a proposal needs: to the leader or, as the
    /// leader, to a quorum of the voters. Without a leader there is no connection that could have been lost.
    pub fn connected_since(&self, leader: Option<NodeId>, start: Instant) -> bool {
        let now = self.clock.now();
        let connected = |id: u64| id == self.node.0 || self.peers.activity.throughout(id, start, now);
        match leader {
            Some(leader) if leader == self.node => {
                let applied = self.applied.borrow();
                let (with, without): (Vec<u64>, Vec<u64>) =
                    applied.membership.voter_ids().partition(|id| connected(*id));
                with.len() > without.len()
            }
            Some(leader) => connected(leader.0),
            None => true,
        }
    }

    pub fn known_members(&self) -> KnownMembers {
        let now = self.clock.now();
        let applied = self.applied.borrow();
        let members = |holds: &dyn Fn(u64) -> bool| -> BTreeSet<u64> {
            let ids = applied.membership.nodes().map(|(id, _)| *id);
            ids.filter(|id| *id == self.node.0 || holds(*id)).collect()
        };
        let activity = &self.peers.activity;
        let active = members(&|id| activity.since(id, now).is_some());
        let steady = members(&|id| activity.is_steady(id, HEALTH_INTERVAL, now));
        KnownMembers { removed: applied.removed.clone(), active, steady }
    }
}
