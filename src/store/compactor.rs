//! The compactor: background work on the data files.
//!
//! ```text
//!   tick ──▶ compaction on schedule ──▶ Proposals
//!        ├─▶ Sweep: checksum (on another thread), then batch by batch
//!        └─▶ Upkeep, one step at a time (on another thread) ◀── Defragment
//! ```
//!
//! Owns nothing but its schedule. Makes data segments durable, sweeps behind the compaction floor, writes checkpoints,
//! reclaims segments that are mostly dead (or, when a client asks for a defragmentation, all that hold dead records),
//! and proposes auto compactions while this member leads. Each step is bounded, and applying waits only for short
//! slices of it. When the node ends, it writes a last checkpoint.

mod defragment;
mod sweep;
pub(super) mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, StreamHandler, WrapFuture};
use chorus_proto::etcdserverpb as pb;
use futures::stream;
use tokio::sync::oneshot;

use super::auto_compaction::Schedule;
use super::generation::StepError;
use super::member_state::MemberState;
use super::proposals::Proposals;
use super::{Config, Error};
use crate::actor::Shutdown;
use crate::raft;
use crate::world::{Lane, World};

pub use defragment::Defragment;
use sweep::{First, Sweep};
use upkeep::Upkeep;

/// How often data segments are made durable.
const TICK: Duration = Duration::from_millis(100);

/// Does the background work on the data files.
pub struct Compactor {
    world: World,
    raft: raft::Handle,
    member: Arc<MemberState>,
    proposals: Proposals,
    schedule: Schedule,
    sweep: Sweep,
    /// `None` while one of its steps is under way.
    upkeep: Option<Upkeep>,
    /// The last step has begun.
    ending: bool,
    /// The callers that wait for the defragmentation under way.
    defragmenters: Vec<oneshot::Sender<Result<(), String>>>,
    shutdown: Shutdown,
}

impl Compactor {
    pub fn start(
        world: &World,
        raft: raft::Handle,
        member: Arc<MemberState>,
        proposals: Proposals,
        config: &Config,
        shutdown: Shutdown,
    ) -> Addr<Compactor> {
        let compactor = Compactor {
            world: world.clone(),
            raft,
            upkeep: Some(Upkeep::new(world, member.clone(), config.files)),
            ending: false,
            sweep: Sweep::new(world, member.clone(), config.compaction_batch, config.compaction_pause),
            member,
            proposals,
            schedule: Schedule::new(config.compaction),
            defragmenters: Vec::new(),
            shutdown,
        };
        world.spawner.start(Lane::Background, "store/compactor", move |_| compactor)
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        if self.shutdown.begun() {
            return;
        }
        self.compact_on_schedule(context);
        if self.upkeep.is_none() {
            return;
        }
        self.begin_sweep(context);
        let sweeping = self.sweep.is_under_way();
        self.step(context, move |upkeep| upkeep.tick(sweeping), |(), _, _| ());
    }

    /// Starts a sweep when there is something to sweep and none is under way.
    fn begin_sweep(&mut self, context: &mut Context<Self>) {
        match self.sweep.begin() {
            Some(First::Hash(hashing)) => {
                let (revision, spawner) = (hashing.revision, self.world.spawner.clone());
                let hashed = async move { spawner.blocking(move || hashing.run()).await };
                context.spawn(hashed.into_actor(self).map(move |hashed, compactor, context| {
                    compactor.sweep.keep_hash(revision, hashed);
                    compactor.sweep_on(context);
                }));
            }
            Some(First::Nothing) => self.sweep_on(context),
            None => {}
        }
    }

    /// Frees one batch and comes back for the next.
    fn sweep_on(&mut self, context: &mut Context<Self>) {
        if self.shutdown.begun() {
            return;
        }
        if let Some(pause) = self.sweep.free_batch() {
            context.run_later(pause, Self::sweep_on);
        }
    }

    /// Runs a step of the upkeep on another thread, then calls `then` with its outcome. No other step may be under way.
    fn step<T: Send + 'static>(
        &mut self,
        context: &mut Context<Self>,
        work: impl FnOnce(&mut Upkeep) -> T + Send + 'static,
        then: impl FnOnce(T, &mut Compactor, &mut Context<Self>) + 'static,
    ) {
        let (mut upkeep, spawner) = (self.upkeep.take().expect("one step at a time"), self.world.spawner.clone());
        let working = async move {
            let step = move || {
                let done = work(&mut upkeep);
                (upkeep, done)
            };
            spawner.blocking_on(Lane::Background, step).await
        };
        context.spawn(working.into_actor(self).map(|(upkeep, done), compactor, context| {
            compactor.upkeep = Some(upkeep);
            then(done, compactor, context);
            if compactor.shutdown.begun() {
                compactor.end(context);
            }
        }));
    }

    /// Writes a last checkpoint, after the step that is under way.
    fn end(&mut self, context: &mut Context<Self>) {
        if self.ending || self.upkeep.is_none() {
            return;
        }
        self.ending = true;
        self.step(context, Upkeep::end, |outcome, _, context| {
            match outcome {
                Ok(()) | Err(StepError::Superseded) => {}
                Err(error) => {
                    tracing::warn!(%error, "failed to write the last checkpoint; the next start has to read more")
                }
            }
            context.stop();
        });
    }

    fn compact_on_schedule(&mut self, context: &mut Context<Self>) {
        let leads = self.raft.leadership().borrow().is_leader;
        let now = self.world.clock.now();
        let Some(revision) = self.schedule.due(now, self.member.view().revision(), leads) else { return };
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
        self.end(context);
    }

    fn finished(&mut self, _: &mut Context<Self>) {}
}
