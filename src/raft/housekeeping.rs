//! What a replica does beside the log: it follows openraft's metrics and keeps leadership, addresses and membership
//! in step with them. Each function is one task; all end with the replica.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;

use super::Leadership;
use super::change::{Change, ChangeError, ChangeRequest};
use super::cluster_space::keeps_from_growing;
use super::context::ReplicaContext;
use super::membership::{self, ready_to_vote};
use super::peers::CallError;
use super::types::{LogId, Membership, Peer};
use super::wire::{Hello, Introduction};
use crate::world::NodeId;
use crate::world::failpoints::failpoint;

/// Pause between two checks of the learners, and between two attempts to publish.
const PACE: Duration = Duration::from_millis(200);
/// A change of the membership that is still half done after this many checks was abandoned.
const ABANDONED_LOOKS: u32 = 15;
/// Pause between two rounds of asking all other members for their state.
const PROBE_PACE: Duration = Duration::from_millis(500);
/// A member whose record is still out of date after this many rounds cannot update it on its own.
const UNRECORDED_ROUNDS_MAX: u32 = 4;
/// Pause between two checks for a quorum while there has been no leader yet.
const CAMPAIGN_PACE: Duration = Duration::from_millis(50);

impl ReplicaContext {
    /// Publishes who leads, and keeps the addresses of the members up to date.
    pub async fn follow(self, told: watch::Sender<Leadership>) {
        let mut metrics = self.metrics();
        loop {
            let (now, membership) = {
                let metrics = metrics.borrow_and_update();
                (Leadership::of(&metrics), metrics.membership_config.clone())
            };
            told.send_if_modified(|before| std::mem::replace(before, now) != now);
            membership.nodes().for_each(|(id, peer)| self.peers.know(*id, peer));
            self.peers.keep(|id| membership.get_node(&id).is_some());
            if !self.changed(&mut metrics).await {
                return;
            }
        }
    }

    /// Ends the process when consensus has broken: a node that is half alive does no good.
    pub async fn watch_health(self) {
        let mut metrics = self.raft.metrics();
        loop {
            let state = metrics.borrow_and_update().running_state.clone();
            if let Err(fatal) = state
                && !self.shutdown.begun()
            {
                panic!("consensus has stopped: {fatal}");
            }
            tokio::select! {
                biased;
                () = self.shutdown.wait() => return,
                changed = metrics.changed() => if changed.is_err() { return },
            }
        }
    }

    /// On the leader: promotes members that were added to vote and have caught up, and finishes changes that an earlier
    /// leader left half done.
    pub async fn promote_joining(self) {
        let (mut half_done, mut looks) = (None, 0);
        while self.rest(PACE).await {
            if !Leadership::of(&self.metrics().borrow_watched()).is_leader {
                continue;
            }
            // A change under way is half done for a moment, too. The task of the leader that makes it finishes it.
            let seen = membership::half_done(&self.raft);
            looks = if seen.is_some() && seen == half_done { looks + 1 } else { 0 };
            half_done = seen;
            if looks >= ABANDONED_LOOKS {
                membership::finish(&self.raft).await;
            }
            for id in self.caught_up() {
                let request = ChangeRequest { change: Change::Admit { id }, rules: self.rules };
                match membership::execute(&self.raft, request, self.membership_view.known_members()).await {
                    Ok(_) => tracing::info!(member = %NodeId(id), "a new member votes from now on"),
                    Err(reason) => tracing::debug!(member = %NodeId(id), ?reason, "a new member cannot vote yet"),
                }
            }
        }
    }

    fn caught_up(&self) -> Vec<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = |id| Some(metrics.replication.as_ref()?.get(&id).copied()??.index);
        let mut ready =
            ready_to_vote(metrics.membership_config.membership(), metrics.last_log_index.unwrap_or(0), matched);
        ready.retain(|id| self.membership_view.is_active(*id));
        ready
    }

    /// Asks all other members for their state, again and again. The answers show which ones are reachable, and whether
    /// this member was removed.
    pub async fn probe(self) {
        let mut unrecorded: BTreeMap<u64, u32> = BTreeMap::new();
        while self.rest(PROBE_PACE).await {
            let others = self.others(&self.membership());
            let limit = self.timings.election.start;
            for (id, answer) in join_all(others.into_iter().map(async |id| (id, self.greet(id, limit).await))).await {
                self.space.hear(id, answer.as_ref().is_ok_and(|hello| hello.short));
                match answer {
                    Ok(Hello { introduction: Some(said), you_removed: false, .. }) if self.is_unrecorded(id, &said) => {
                        let rounds = unrecorded.entry(id).or_default();
                        *rounds += 1;
                        if *rounds > UNRECORDED_ROUNDS_MAX {
                            *rounds = 0;
                            self.introduce(id, said).await;
                        }
                    }
                    Ok(hello) if hello.you_removed => self.membership_view.hear_removal(),
                    Err(CallError::Unreached { .. }) => self.peers.activity.lose(id),
                    Ok(_) | Err(_) => (),
                }
            }
        }
    }

    /// Whether the membership lacks what the member says of itself.
    fn is_unrecorded(&self, id: u64, said: &Introduction) -> bool {
        let recorded = |peer: &Peer| peer.started && peer.name == said.name && peer.client_urls == said.client_urls;
        self.membership().get_node(&id).is_some_and(|peer| !recorded(peer))
    }

    /// On the leader: records what a member says of itself. Members do that on their own, unless the others reach them
    /// but they reach none of the others.
    async fn introduce(&self, id: u64, said: Introduction) {
        if Leadership::of(&self.metrics().borrow_watched()).is_leader {
            let change = Change::Publish { id, name: said.name, client_urls: said.client_urls };
            if let Err(reason) = self.submit(change).await {
                tracing::debug!(member = %NodeId(id), ?reason, "a member could not be recorded as started");
            }
        }
    }

    /// Logs the removal of this member once it happens.
    pub async fn note_removal(self) {
        tokio::select! {
            biased;
            () = self.shutdown.wait() => (),
            () = self.membership_view.removed() => {
                tracing::warn!(member = %self.node, "the member has been permanently removed from the cluster");
            }
        }
    }

    /// Records in the membership that this member has started, its name, and where clients reach it.
    pub async fn publish(self, name: String, client_urls: Vec<String>) {
        let change = Change::Publish { id: self.node.0, name: name.clone(), client_urls: client_urls.clone() };
        loop {
            let recorded = self.membership().get_node(&self.node.0).cloned();
            if recorded.is_some_and(|peer| peer.started && peer.name == name && peer.client_urls == client_urls) {
                return;
            }
            failpoint!("beforePublishing", self.world.clock);
            let pace = match self.submit(change.clone()).await {
                // Removed, or yet to be added.
                Err(ChangeError::NotFound(_)) => PACE * 10,
                _ => PACE,
            };
            let jitter = self.world.random.duration(pace / 4..pace);
            if !self.rest(jitter).await {
                return;
            }
        }
    }

    /// Follows which members are short of space, and hands leadership over when this one is.
    pub async fn watch_space(self) {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.wait() => return,
                () = self.space.changed() => (),
                () = self.world.clock.sleep(PROBE_PACE) => (),
            }
            let (known, membership) = {
                let metrics = self.raft.server_metrics();
                let metrics = metrics.borrow_watched();
                (Leadership::of(&metrics), metrics.membership_config.membership().clone())
            };
            let short = self.space.all_short(self.node);
            let leader = known.leader.map(|leader| leader.0);
            let full = short.contains(&self.node.0) || keeps_from_growing(&short, leader, &membership);
            self.space.note_full(full);
            if known.is_leader
                && self.space.is_short()
                && let Some(to) = self.successor(|id| !short.contains(&id))
            {
                tracing::warn!(%to, "this leader is short of disk space and hands leadership over");
                // An error means that the replica has ended.
                let _ = self.raft.trigger().transfer_leader(to.0).await;
            }
        }
    }

    /// Until a leader is known: the best placed member starts an election as soon as it sees a quorum, rather than
    /// after a timeout. The election itself is Raft's, pre-vote included, so two members that both think they are best
    /// placed do no harm.
    pub async fn campaign(self) {
        while self.rest(CAMPAIGN_PACE).await {
            let (leader, membership) = {
                let metrics = self.metrics();
                let metrics = metrics.borrow_watched();
                (metrics.current_leader, metrics.membership_config.membership().clone())
            };
            if leader.is_some() {
                return;
            }
            if !membership.voter_ids().any(|id| id == self.node.0) {
                continue;
            }
            let heard = self.ask_around(&membership).await;
            let last = self.raft.data_metrics().borrow_watched().last_log;
            if best_placed(&membership, self.node.0, last, &heard) {
                tracing::info!("a quorum is up: starting an election");
                if self.raft.trigger().elect(true).await.is_err() || !self.rest(self.timings.election.start / 2).await {
                    return;
                }
            }
        }
    }
}

/// Whether this member sees a quorum without a leader, in which no voter has a longer log, or one as long and a smaller
/// ID.
fn best_placed(membership: &Membership, me: u64, last: Option<LogId>, heard: &[(u64, Hello)]) -> bool {
    let up = |id: &u64| *id == me || heard.iter().any(|(other, _)| other == id);
    let quorum =
        |voters: &std::collections::BTreeSet<u64>| voters.iter().filter(|id| up(id)).count() > voters.len() / 2;
    let behind = |(id, hello): &(u64, Hello)| (hello.last, me) < (last, *id);
    membership.get_joint_config().iter().all(quorum)
        && heard.iter().filter(|(id, _)| membership.voter_ids().any(|voter| voter == *id)).all(behind)
        && heard.iter().all(|(_, hello)| hello.leader.is_none())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::raft::machine::Position;
    use crate::raft::types::log_id;

    #[test]
    fn one_member_of_a_quorum_is_best_placed() {
        let nodes = BTreeMap::from([1, 2, 3].map(|id| (id, Peer::default())));
        let membership = Membership::new(vec![BTreeSet::from([1, 2, 3])], nodes).unwrap();
        let at = |index| Some(log_id(Position { term: 1, index }));
        let says = |id, last, leader| {
            (
                id,
                Hello {
                    leader,
                    last,
                    you_started: false,
                    you_removed: false,
                    version: String::new(),
                    introduction: None,
                    short: false,
                },
            )
        };
        let best = |me, last, heard: &[(u64, Hello)]| best_placed(&membership, me, last, heard);
        assert!(!best(1, at(1), &[]), "no quorum");
        assert!(best(1, at(1), &[says(2, at(1), None)]), "as much log, smaller ID");
        assert!(!best(2, at(1), &[says(1, at(1), None)]), "as much log, greater ID");
        assert!(best(3, at(9), &[says(1, at(1), None), says(2, at(8), None)]), "most log");
        assert!(!best(1, at(9), &[says(2, at(1), Some(3))]), "there is a leader");
    }
}
