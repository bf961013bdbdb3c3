//! Sweeping behind the compaction floor: first the checksum of what was compacted, then bit by bit what it frees.
//!
//! ```text
//!   compaction applied ──▶ checksum (away from here) ──▶ batch ──pause──▶ batch ... ──▶ done: told to those who wait
//! ```
//!
//! A restart begins again where the floor is; the checksum is then left out, because some of what it covers is gone.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::Compactor;
use crate::disk::space::RETRY;
use crate::store::generation::Generation;
use crate::store::mvcc::hash::{self, Hash};
use crate::world::Instant;
use crate::world::failpoints::failpoint;

/// What is being swept.
#[derive(Debug)]
pub struct Sweep {
    batch: usize,
    pause: Duration,
    /// When it was, and of what.
    started: Option<(Instant, Generation)>,
    freed: usize,
}

impl Sweep {
    pub fn new(batch: usize, pause: Duration) -> Sweep {
        Sweep { batch: batch.max(1), pause, started: None, freed: 0 }
    }

    pub fn is_under_way(&self) -> bool {
        self.started.is_some()
    }
}

impl Compactor {
    /// Starts a sweep when there is something to sweep and none is under way.
    pub(super) fn begin_sweep(&mut self, context: &mut Context<Self>) {
        if self.sweep.is_under_way() {
            return;
        }
        let ledger = self.shared.ledger();
        let Some(compaction) = ledger.compactions.front().copied() else { return };
        let generation = ledger.generation();
        let view = ledger.view();
        drop(ledger);
        failpoint!("compactBeforeCommitScheduledCompact");
        failpoint!("compactAfterCommitScheduledCompact");
        self.sweep.started = Some((self.world.clock.now(), generation));
        self.sweep.freed = 0;
        let Some(floor) = compaction.floor else {
            tracing::info!(
                "compact-revision" = compaction.revision,
                "previous compaction was interrupted, sweeping without its hash"
            );
            return self.sweep_on(context);
        };
        let spawner = self.world.spawner.clone();
        let hashing = async move {
            let hash = move || hash::of_compaction(&view.state.index, &view.segments, floor, compaction.revision);
            spawner.blocking(hash).await
        };
        let hashed = hashing.into_actor(self).map(move |hashed, compactor, context| {
            match hashed {
                Ok(hash) => compactor.keep_hash(generation, hash),
                Err(error) => tracing::warn!(%error, revision = compaction.revision, "a compaction has no hash"),
            }
            compactor.sweep_on(context);
        });
        context.spawn(hashed);
    }

    fn keep_hash(&self, generation: Generation, hash: Hash) {
        // What was remembered before a snapshot was installed is forgotten under this lock.
        let Ok(_ledger) = self.shared.ledger_of(generation) else { return };
        tracing::info!(
            hash = hash.hash,
            revision = hash.revision,
            "compact-revision" = hash.compacted,
            "storing new hash"
        );
        self.shared.hashes.push(hash);
    }

    /// Frees one batch and comes back for the next.
    fn sweep_on(&mut self, context: &mut Context<Self>) {
        let Some((_, generation)) = self.sweep.started.filter(|_| !self.shutdown.begun()) else { return };
        let slice = self.world.clock.now();
        let Ok(mut ledger) = self.shared.ledger_of(generation) else {
            // What was installed has a sweep of its own, where it needs one.
            self.sweep.started = None;
            return;
        };
        failpoint!("compactAfterAcquiredBatchTxLock");
        if ledger.is_stalled() {
            context.run_later(RETRY, Self::sweep_on);
            return;
        }
        match ledger.sweep(self.sweep.batch) {
            Some(freed) => {
                failpoint!("compactBeforeCommitBatch");
                self.sweep.freed += freed;
                self.shared.publish(&ledger);
                failpoint!("compactAfterCommitBatch");
                let swept = ledger.state.index.is_swept();
                drop(ledger);
                self.shared.metrics.compactions.slice(freed, self.world.clock.now() - slice);
                let pause = if swept { Duration::ZERO } else { self.sweep.pause };
                context.run_later(pause, Self::sweep_on);
            }
            None => {
                failpoint!("compactBeforeSetFinishedCompact");
                let done: Vec<_> = ledger.compactions.drain(..).collect();
                let compacted = ledger.state.index.compacted;
                drop(ledger);
                self.finish_sweep(done.into_iter().map(|compaction| compaction.revision));
                failpoint!("compactAfterSetFinishedCompact");
                self.shared.swept(compacted);
            }
        }
    }

    fn finish_sweep(&mut self, revisions: impl Iterator<Item = i64>) {
        let Some((started, _)) = self.sweep.started.take() else { return };
        let took = self.world.clock.now().saturating_duration_since(started);
        let size = self.shared.size();
        self.shared.metrics.compactions.finished(took, self.world.clock.unix());
        for revision in revisions {
            tracing::info!(
                "compact-revision" = revision,
                took = ?took,
                "number-of-keys-compacted" = self.sweep.freed,
                hash = self.shared.hashes.at(revision).map(|hash| hash.hash),
                "current-db-size-bytes" = size,
                "current-db-size-in-use-bytes" = size,
                "finished scheduled compaction"
            );
        }
    }
}
