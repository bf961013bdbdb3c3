//! Sweeping behind the compaction floor: first the checksum of what was compacted, then freeing it batch by batch.
//!
//! ```text
//!   compaction applied ──▶ checksum (on another thread) ──▶ batch ──pause──▶ batch ... ──▶ done: `wait_swept` resolves
//! ```
//!
//! After a restart the sweep begins again, without the checksum, because some of what it covers is gone.

use std::sync::Arc;
use std::time::Duration;

use crate::disk::space::RETRY;
use crate::store::generation::Generation;
use crate::store::member_state::MemberState;
use crate::store::mvcc::Fault;
use crate::store::mvcc::hash::{self, Hash};
use crate::store::view::View;
use crate::world::failpoints::failpoint;
use crate::world::{Clock, Instant, World};

/// Sweeps behind one compaction after the other.
pub struct Sweep {
    clock: Clock,
    member: Arc<MemberState>,
    batch: usize,
    pause: Duration,
    /// When the sweep under way began, and of which generation the files are.
    started: Option<(Instant, Generation)>,
    freed: usize,
}

/// What comes before the first batch of a sweep.
pub enum First {
    /// A checksum, for [`Sweep::keep_hash`].
    Hash(Hashing),
    Nothing,
}

/// The checksum of what a compaction is about to free, yet to be taken.
pub struct Hashing {
    view: View,
    floor: i64,
    /// That of the compaction.
    pub revision: i64,
}

impl Hashing {
    /// Takes its time.
    pub fn run(self) -> Result<Hash, Fault> {
        hash::of_compaction(&self.view.state.index, &self.view.segments, self.floor, self.revision)
    }
}

impl Sweep {
    pub fn new(world: &World, member: Arc<MemberState>, batch: usize, pause: Duration) -> Sweep {
        Sweep { clock: world.clock.clone(), member, batch: batch.max(1), pause, started: None, freed: 0 }
    }

    pub fn is_under_way(&self) -> bool {
        self.started.is_some()
    }

    /// Begins a sweep when there is something to sweep and none is under way.
    pub fn begin(&mut self) -> Option<First> {
        if self.is_under_way() {
            return None;
        }
        let ledger = self.member.ledger();
        let compaction = ledger.compactions.front().copied()?;
        let view = ledger.view();
        drop(ledger);
        failpoint!("compactBeforeCommitScheduledCompact");
        failpoint!("compactAfterCommitScheduledCompact");
        self.started = Some((self.clock.now(), view.generation));
        self.freed = 0;
        let revision = compaction.revision;
        let Some(floor) = compaction.floor else {
            tracing::info!(
                "compact-revision" = revision,
                "previous compaction was interrupted, sweeping without its hash"
            );
            return Some(First::Nothing);
        };
        Some(First::Hash(Hashing { view, floor, revision }))
    }

    /// Remembers the checksum of the compaction at `revision`, whose sweep is under way.
    pub fn keep_hash(&self, revision: i64, hashed: Result<Hash, Fault>) {
        let hash = match hashed {
            Ok(hash) => hash,
            Err(error) => return tracing::warn!(%error, revision, "failed to hash a compaction"),
        };
        let Some((_, generation)) = self.started else { return };
        // Installing a snapshot forgets the hashes of the state before it under this lock.
        let Ok(_ledger) = self.member.ledger_of(generation) else { return };
        tracing::info!(
            hash = hash.hash,
            revision = hash.revision,
            "compact-revision" = hash.compacted,
            "storing new hash"
        );
        self.member.hashes.push(hash);
    }

    /// Frees one batch, and says how long to wait before the next; `None` when there is none.
    pub fn free_batch(&mut self) -> Option<Duration> {
        let (started, generation) = self.started?;
        let slice = self.clock.now();
        let Ok(mut ledger) = self.member.ledger_of(generation) else {
            // The installed state has a sweep of its own, if it needs one.
            self.started = None;
            return None;
        };
        failpoint!("compactAfterAcquiredBatchTxLock");
        if ledger.is_stalled() {
            return Some(RETRY);
        }
        if let Some(freed) = ledger.sweep(self.batch) {
            failpoint!("compactBeforeCommitBatch");
            self.freed += freed;
            self.member.publish(&ledger);
            failpoint!("compactAfterCommitBatch");
            let swept = ledger.state.index.is_swept();
            drop(ledger);
            self.member.metrics.compactions.slice(freed, self.clock.now() - slice);
            return Some(if swept { Duration::ZERO } else { self.pause });
        }
        failpoint!("compactBeforeSetFinishedCompact");
        let done: Vec<_> = ledger.compactions.drain(..).collect();
        let compacted = ledger.state.index.compacted;
        drop(ledger);
        self.started = None;
        self.report(started, done.into_iter().map(|compaction| compaction.revision));
        failpoint!("compactAfterSetFinishedCompact");
        self.member.swept(compacted);
        None
    }

    fn report(&self, started: Instant, revisions: impl Iterator<Item = i64>) {
        let took = self.clock.now().saturating_duration_since(started);
        let size = self.member.size();
        self.member.metrics.compactions.finished(took, self.clock.unix());
        for revision in revisions {
            tracing::info!(
                "compact-revision" = revision,
                took = ?took,
                "number-of-keys-compacted" = self.freed,
                hash = self.member.hashes.at(revision).map(|hash| hash.hash),
                "current-db-size-bytes" = size,
                "current-db-size-in-use-bytes" = size,
                "finished scheduled compaction"
            );
        }
    }
}
