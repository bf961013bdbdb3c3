//! The compactor: everything that the disk needs in the background.
//!
//! Owns nothing but its schedule. Makes data segments durable, sweeps behind the compaction floor, writes checkpoints,
//! reclaims segments that are mostly dead (or, when a client asks for it, all that hold something dead), and lets the
//! leader compact on its own where that was asked for. Each step is bounded, and applying waits only for short slices of
//! it. When the node ends, it writes a last checkpoint.

mod defragment;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, StreamHandler, WrapFuture};
use chorus_proto::etcdserverpb as pb;
use futures::stream;

use super::compaction::Schedule;
use super::proposals::Proposals;
use super::state_machine::Shared;
use super::{Config, Error};
use super::{checkpoint, reclaim};
use crate::actor::Shutdown;
use crate::disk::space::RETRY;
use crate::disk::{self, Point, SegmentId};
use crate::raft;
use crate::world::failpoints::failpoint;
use crate::world::{Instant, Lane, World};

pub use defragment::Defragment;
use defragment::Defragmentation;
use sweep::Sweep;

/// How often data segments are made durable.
const TICK: Duration = Duration::from_millis(100);

/// A restart reads at most about this much besides the index.
const TAIL_BYTES_MAX: u64 = 64 << 20;

/// A smaller tail is not worth a checkpoint at the end of the node.
const LAST_TAIL_BYTES: u64 = 1 << 20;

/// Emptied segments wait this long for a checkpoint, so that each one serves many of them.
const RECLAIM_INTERVAL: Duration = Duration::from_secs(10);

/// Does what the disk needs in the background.
pub struct Compactor {
    world: World,
    raft: raft::Handle,
    shared: Arc<Shared>,
    proposals: Proposals,
    schedule: Schedule,
    sweep: Sweep,
    defragmentation: Option<Defragmentation>,
    checkpointed: Point,
    checkpointed_at: Instant,
    /// After the disk was found full.
    resumes_at: Instant,
    /// Nothing lives in them once the next checkpoint is written.
    emptied: Vec<SegmentId>,
    shutdown: Shutdown,
}

impl Compactor {
    pub fn start(
        world: &World,
        raft: raft::Handle,
        shared: Arc<Shared>,
        proposals: Proposals,
        config: &Config,
        shutdown: Shutdown,
    ) -> Addr<Compactor> {
        let checkpointed = shared.ledger().checkpointed;
        let compactor = Compactor {
            world: world.clone(),
            raft,
            checkpointed,
            checkpointed_at: world.clock.now(),
            resumes_at: world.clock.now(),
            shared,
            proposals,
            schedule: Schedule::new(config.compaction),
            sweep: Sweep::new(config.compaction_batch, config.compaction_pause),
            defragmentation: None,
            emptied: Vec::new(),
            shutdown,
        };
        world.spawner.start(Lane::Background, "store/compactor", move |_| compactor)
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        if self.shutdown.begun() {
            return;
        }
        self.compact_on_schedule(context);
        self.begin_sweep(context);
        match self.upkeep() {
            Err(error) if error.is_full() => {
                self.shared.space.run_short(&error);
                self.resumes_at = self.world.clock.now() + RETRY;
            }
            Err(error) => tracing::error!(%error, "the data files could not be looked after"),
            Ok(()) => (),
        }
    }

    fn upkeep(&mut self) -> Result<(), disk::Error> {
        self.sync()?;
        self.notice_installed();
        let now = self.world.clock.now();
        if now < self.resumes_at || self.shared.ledger().is_stalled() {
            return Ok(());
        }
        if self.shared.space.is_short() {
            // First of all: the little room that there is must do for the checkpoint.
            self.reclaim_dead()?;
        }
        self.shared.view().segments.provide()?;
        self.reclaim(now >= self.checkpointed_at + RECLAIM_INTERVAL)?;
        self.shared.space.suffice();
        Ok(())
    }

    fn reclaim(&mut self, rested: bool) -> Result<(), disk::Error> {
        if self.may_reclaim()
            && let Some(segment) = reclaim::candidate(&self.shared, self.checkpointed.segment, &self.emptied)?
        {
            self.empty(segment)?;
        }
        self.checkpoint_if_due(rested)
    }

    /// Gives back at once what needs no room for copies.
    fn reclaim_dead(&mut self) -> Result<(), disk::Error> {
        if self.may_reclaim() {
            self.emptied.extend(reclaim::dead(&self.shared, self.checkpointed.segment, &self.emptied)?);
        }
        self.checkpoint_if_due(true)
    }

    fn checkpoint_if_due(&mut self, rested: bool) -> Result<(), disk::Error> {
        if self.tail_bytes() >= TAIL_BYTES_MAX || (rested && !self.emptied.is_empty()) {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// While a sweep is under way, what it frees would be copied, and a checksum may be reading what is old.
    fn may_reclaim(&self) -> bool {
        !self.shared.ledger().is_stalled() && !self.sweep.is_under_way() && self.shared.view().state.index.is_swept()
    }

    fn empty(&mut self, segment: SegmentId) -> Result<(), disk::Error> {
        reclaim::empty(&self.shared, segment)?;
        self.emptied.push(segment);
        Ok(())
    }

    fn sync(&self) -> Result<(), disk::Error> {
        let segments = &self.shared.view().segments;
        if segments.synced() < segments.end() {
            let metrics = &self.shared.metrics;
            let _committing = metrics.measure(&metrics.disk.commit, None);
            failpoint!("commitBeforePreCommitHook");
            failpoint!("commitAfterPreCommitHook");
            failpoint!("beforeCommit");
            segments.sync()?;
            failpoint!("afterCommit");
            failpoint!("beforeStartDBTxn");
            failpoint!("afterStartDBTxn");
        }
        Ok(())
    }

    /// After a snapshot was installed, the files are others.
    fn notice_installed(&mut self) {
        let checkpointed = self.shared.ledger().checkpointed;
        if checkpointed != self.checkpointed {
            self.checkpointed = checkpointed;
            self.emptied.clear();
        }
    }

    /// Bytes of frames that a restart would have to read; about, where they span segments.
    fn tail_bytes(&self) -> u64 {
        let end = self.shared.view().segments.end();
        let segments = u64::from(end.segment.0.saturating_sub(self.checkpointed.segment.0));
        (segments * TAIL_BYTES_MAX + u64::from(end.offset)).saturating_sub(u64::from(self.checkpointed.offset))
    }

    fn checkpoint(&mut self) -> Result<(), disk::Error> {
        let (view, point, path) = self.shared.ledger().checkpoint()?;
        view.segments.sync()?;
        checkpoint::write(&self.world, &path, &view.state, point)?;
        let mut ledger = self.shared.ledger();
        self.checkpointed_at = self.world.clock.now();
        if ledger.index() != path {
            return Ok(());
        }
        ledger.checkpointed = point;
        self.checkpointed = point;
        let emptied = std::mem::take(&mut self.emptied);
        emptied.iter().for_each(|segment| ledger.usage.forget(*segment));
        drop(ledger);
        view.segments.remove(&emptied)
    }

    fn compact_on_schedule(&mut self, context: &mut Context<Self>) {
        let leads = self.raft.leadership().borrow().is_leader;
        let now = self.world.clock.now();
        let Some(revision) = self.schedule.due(now, self.shared.view().revision(), leads) else { return };
        let mode = self.schedule.mode();
        tracing::info!(revision, "starting auto {mode} compaction");
        let request = pb::CompactionRequest { revision, physical: false };
        let command = pb::InternalRaftRequest { compaction: Some(request), ..Default::default() };
        let proposals = self.proposals.clone();
        let compacted = async move { proposals.propose(command).await };
        context.spawn(compacted.into_actor(self).map(move |outcome, compactor, _| match outcome {
            Ok(_) | Err(Error::Compacted) => {
                tracing::info!(revision, "completed auto {mode} compaction");
                compactor.schedule.succeeded(compactor.world.clock.now(), revision);
            }
            Err(error) => tracing::warn!(revision, %error, "failed auto {mode} compaction"),
        }));
    }
}

impl Actor for Compactor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let end = self.shutdown.wait();
        context.add_stream(stream::once(async move {
            end.await;
            End
        }));
        context.run_interval(TICK, Self::tick);
    }
}

/// The node ends.
struct End;

impl StreamHandler<End> for Compactor {
    fn handle(&mut self, _: End, context: &mut Context<Self>) {
        if self.tail_bytes() >= LAST_TAIL_BYTES
            && let Err(error) = self.checkpoint()
        {
            tracing::warn!(%error, "no checkpoint was written; the next start reads more");
        }
        context.stop();
    }

    fn finished(&mut self, _: &mut Context<Self>) {}
}
