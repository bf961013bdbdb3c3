//! Comparing what the members hold: at start, from time to time, and after compactions.
//!
//! ```text
//!   this member ──HashKv question──▶ every other member ──▶ comparison (pure) ──mismatch──▶ CORRUPT alarm through the log
//! ```
//!
//! While the alarm is on, writes are refused. Members that do not answer, or that compacted at another revision, are
//! left out.

mod compare;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use futures::future::join_all;

use super::Error;
use super::config::CorruptionChecks;
use super::local::Local;
use super::mvcc::hash::Hash;
use super::questions::{self, Question};
use crate::actor::Shutdown;
use crate::raft;
use crate::world::{NodeId, World};
use compare::{Compared, PeerHash, Suspect};

/// This member's data differ from those of its peers. Stop, and replace the member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} found data inconsistency with peers")]
pub struct Inconsistent(pub NodeId);

/// Compares this member with the others.
#[derive(Clone)]
pub(super) struct CorruptionChecker {
    local: Local,
    raft: raft::Handle,
    node: NodeId,
    limit: Duration,
    /// The revision of the newest compaction at which all members were found to hold the same.
    last_checked: Arc<Mutex<i64>>,
}

impl CorruptionChecker {
    pub fn new(local: Local, raft: raft::Handle, node: NodeId, limit: Duration) -> CorruptionChecker {
        CorruptionChecker { local, raft, node, limit, last_checked: Arc::new(Mutex::new(i64::MIN)) }
    }

    /// Runs the checks of `checks` until the end of the node.
    pub fn schedule(&self, world: &World, checks: &CorruptionChecks, shutdown: &Shutdown) {
        if let Some(interval) = checks.every {
            tracing::info!("local-member-id" = %self.node, ?interval, "enabled corruption checking");
            let corruption = self.clone();
            self.repeat(world, "store/corruption", interval, shutdown, move || corruption.clone().check_all());
        }
        if let Some(interval) = checks.compactions_every {
            let corruption = self.clone();
            self.repeat(world, "store/compact_hash", interval, shutdown, move || {
                corruption.clone().check_compactions()
            });
        }
    }

    fn repeat<F>(
        &self,
        world: &World,
        name: &str,
        interval: Duration,
        shutdown: &Shutdown,
        check: impl Fn() -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let (clock, raft, shutdown) = (world.clock.clone(), self.raft.clone(), shutdown.clone());
        world.spawner.keep(name, async move {
            let checking = async {
                loop {
                    clock.sleep(interval).await;
                    if raft.leadership().borrow().is_leader {
                        check().await;
                    }
                }
            };
            tokio::select! {
                () = checking => {}
                () = shutdown.wait() => {}
            }
        });
    }

    /// Compares this member's state, as it is at start, with those of its peers.
    pub async fn check_initially(&self) -> Result<(), Inconsistent> {
        tracing::info!("local-member-id" = %self.node, timeout = ?self.limit, "starting initial corruption check");
        let Ok(own) = self.own().await else { return Ok(()) };
        let mut differs = false;
        for heard in self.ask_all(own.hash_revision).await {
            match compare::at_start(&own, &heard) {
                Compared::Same => {}
                Compared::Unknown(reason) => {
                    tracing::warn!("remote-peer-id" = %heard.peer, "local-member-revision" = own.hash_revision, reason, "cannot compare with remote peer");
                }
                Compared::Differs => {
                    differs = true;
                    tracing::warn!(
                        "remote-peer-id" = %heard.peer,
                        "local-member-revision" = own.hash_revision,
                        "local-member-hash" = own.hash,
                        "remote-peer-hash" = heard.answer.as_ref().map_or(0, |answer| answer.hash),
                        "found different hash values from remote peer"
                    );
                }
            }
        }
        if differs {
            let inconsistent = Inconsistent(self.node);
            tracing::error!(error = %inconsistent, "checkInitialHashKV failed");
            return Err(inconsistent);
        }
        tracing::info!("local-member-id" = %self.node, "initial corruption checking passed; no corruption");
        Ok(())
    }

    /// Compares the whole state with those of all peers.
    async fn check_all(self) {
        if let Err(error) = self.compare_all().await {
            tracing::warn!(%error, "failed to check hash KV");
        }
    }

    async fn compare_all(&self) -> Result<(), Error> {
        let before = self.own().await?;
        let peers = self.ask_all(before.hash_revision).await;
        self.local.barrier().await?;
        let after = self.own().await?;
        if let Some(Suspect { member, reason }) = compare::all(self.node, &before, &after, &peers) {
            tracing::warn!(member = %member, "{reason}");
            self.raise(member).await;
        }
        let checked = peers.iter().filter(|heard| heard.answer.is_ok()).count();
        tracing::info!("number-of-peers-checked" = checked, "finished peer corruption check");
        Ok(())
    }

    /// Compares the hashes that the members took at compactions, the newest first, until one says whether they differ.
    async fn check_compactions(self) {
        tracing::info!("local-member-id" = %self.node, timeout = ?self.limit, "starting compact hash check");
        let last_checked = *self.last_checked();
        let hashes: Vec<Hash> =
            self.local.compaction_hashes().into_iter().filter(|hash| hash.revision > last_checked).collect();
        let mut checked = 0;
        for hash in hashes {
            checked += 1;
            let peers = self.ask_all(hash.revision).await;
            if !peers.is_empty() && self.compare_compaction(hash, &peers).await {
                break;
            }
        }
        tracing::info!("number-of-hashes-checked" = checked, "finished compaction hash check");
    }

    /// `false` when some members could not be compared: then an older compaction may tell more.
    async fn compare_compaction(&self, hash: Hash, peers: &[PeerHash]) -> bool {
        match compare::compaction(self.node, &hash, peers) {
            compare::Verdict::Same => {
                tracing::info!(
                    "number-of-peers-checked" = peers.len(),
                    revision = hash.revision,
                    "compact-revision" = hash.compacted,
                    "successfully checked hash on whole cluster"
                );
                let mut last_checked = self.last_checked();
                *last_checked = (*last_checked).max(hash.revision);
                true
            }
            compare::Verdict::Incomplete => {
                tracing::warn!(
                    "number-of-peers" = peers.len(),
                    revision = hash.revision,
                    "skipped revision in compaction hash check; was not able to check all peers"
                );
                false
            }
            compare::Verdict::Corrupt(members) => {
                for member in members {
                    tracing::error!("leader-id" = %self.node, "leader-revision" = hash.revision, "leader-hash" = hash.hash, "peer-id" = %member, "Detected compaction hash mismatch");
                    self.raise(member).await;
                }
                true
            }
        }
    }

    fn last_checked(&self) -> std::sync::MutexGuard<'_, i64> {
        self.last_checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn own(&self) -> Result<pb::HashKvResponse, Error> {
        self.local.hash_history(0).await
    }

    async fn ask_all(&self, revision: i64) -> Vec<PeerHash> {
        let others = self.raft.members().into_iter().map(|member| member.id).filter(|id| *id != self.node);
        join_all(others.map(async |peer| {
            let answer = questions::ask(&self.raft, peer, Question::HashKv { revision }, self.limit).await;
            if let Err(error) = &answer {
                tracing::warn!("requested-revision" = revision, "remote-peer-id" = %peer, %error, "failed hash kv request");
            }
            PeerHash { peer, answer }
        }))
        .await
    }

    async fn raise(&self, member: NodeId) {
        if let Err(error) = self.local.raise_corrupt(member).await {
            tracing::warn!(%error, %member, "failed to raise the CORRUPT alarm");
        }
    }
}
