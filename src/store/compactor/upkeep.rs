//! The upkeep of the data files, step by step: makes data segments durable, reserves room ahead, writes checkpoints,
//! gives back segments that are mostly dead. Blocks; the compactor runs one step at a time on another thread.
//!
//! All of it belongs to one [`Generation`](crate::store::generation::Generation): a step whose files were replaced
//! meanwhile ends, and the next one begins with the new files.

use std::sync::Arc;

use crate::disk::space::RETRY;
use crate::disk::{Point, SegmentId};
use crate::store::config::DataFiles;
use crate::store::generation::{Basis, StepError};
use crate::store::member_state::MemberState;
use crate::store::reclaim;
use crate::world::failpoints::failpoint;
use crate::world::{Instant, World};

/// A smaller tail is not worth a checkpoint at the end of the node.
const LAST_TAIL_BYTES: u64 = 1 << 20;

/// Looks after the files of one generation.
pub struct Upkeep {
    world: World,
    member: Arc<MemberState>,
    config: DataFiles,
    basis: Basis,
    /// The point up to which a restart need not read frames.
    checkpointed: Point,
    /// Segments that hold no live record once the next checkpoint is written.
    emptied: Vec<SegmentId>,
    /// The segments that the defragmentation under way has yet to empty.
    defragmenting: Option<Vec<SegmentId>>,
    checkpointed_at: Instant,
    /// When work goes on after the disk was found full.
    resumes_at: Instant,
}

impl Upkeep {
    pub fn new(world: &World, member: Arc<MemberState>, config: DataFiles) -> Upkeep {
        let (basis, checkpointed) = begin(&member);
        let now = world.clock.now();
        Upkeep {
            world: world.clone(),
            member,
            config,
            basis,
            checkpointed,
            emptied: Vec::new(),
            defragmenting: None,
            checkpointed_at: now,
            resumes_at: now,
        }
    }

    /// The regular work. Nothing is reclaimed while `sweeping`.
    pub fn tick(&mut self, sweeping: bool) {
        match self.look_after(sweeping).map_err(|error| self.judge(error)) {
            Ok(()) | Err(StepError::Superseded) => {}
            Err(StepError::Disk(error)) if error.is_full() => {
                self.member.space.run_short(&error);
                self.resumes_at = self.world.clock.now() + RETRY;
            }
            Err(error) => tracing::error!(%error, "failed to maintain the data files"),
        }
    }

    fn look_after(&mut self, sweeping: bool) -> Result<(), StepError> {
        self.follow();
        self.sync()?;
        let now = self.world.clock.now();
        if now < self.resumes_at || self.member.ledger().is_stalled() {
            return Ok(());
        }
        let may_reclaim = !sweeping && self.may_reclaim();
        if self.member.space.is_short() {
            // This goes first, because the little room that is left must do for the checkpoint.
            self.reclaim_dead(may_reclaim)?;
        }
        self.basis.segments.provide()?;
        self.reclaim(may_reclaim, now >= self.checkpointed_at + self.config.reclaim_interval)?;
        self.member.space.suffice();
        Ok(())
    }

    /// Switches to the files that are in force.
    fn follow(&mut self) {
        let (basis, checkpointed) = begin(&self.member);
        if basis.generation != self.basis.generation {
            (self.basis, self.checkpointed) = (basis, checkpointed);
            self.emptied.clear();
            self.defragmenting = None;
        }
    }

    /// An error on files that were replaced counts as that: they were replaced.
    fn judge(&self, error: StepError) -> StepError {
        self.member.ledger_of(self.basis.generation).err().unwrap_or(error)
    }

    /// Not while a sweep is due: what it is about to free would be copied.
    pub fn may_reclaim(&self) -> bool {
        let ledger = self.member.ledger();
        !ledger.is_stalled() && ledger.state.index.is_swept()
    }

    fn reclaim(&mut self, may_reclaim: bool, rested: bool) -> Result<(), StepError> {
        if may_reclaim
            && let Some(segment) =
                reclaim::candidate(&self.member, &self.basis, self.checkpointed.segment, &self.emptied)?
        {
            self.empty(segment)?;
        }
        self.checkpoint_if_due(rested)
    }

    /// Gives back at once what needs no room for copies.
    fn reclaim_dead(&mut self, may_reclaim: bool) -> Result<(), StepError> {
        if may_reclaim {
            let dead = reclaim::dead(&self.member, &self.basis, self.checkpointed.segment, &self.emptied)?;
            self.emptied.extend(dead);
        }
        self.checkpoint_if_due(true)
    }

    fn checkpoint_if_due(&mut self, rested: bool) -> Result<(), StepError> {
        if self.tail_bytes() >= self.config.tail_bytes_max || (rested && !self.emptied.is_empty()) {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn empty(&mut self, segment: SegmentId) -> Result<(), StepError> {
        reclaim::empty(&self.member, &self.basis, segment)?;
        self.emptied.push(segment);
        Ok(())
    }

    fn sync(&self) -> Result<(), StepError> {
        let segments = &self.basis.segments;
        if segments.synced() < segments.end() {
            let metrics = &self.member.metrics;
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

    /// Bytes of frames that a restart would have to read; about, where they span segments.
    fn tail_bytes(&self) -> u64 {
        let end = self.basis.segments.end();
        let segments = u64::from(end.segment.0.saturating_sub(self.checkpointed.segment.0));
        let bytes = segments * u64::from(self.config.segment_bytes) + u64::from(end.offset);
        bytes.saturating_sub(u64::from(self.checkpointed.offset))
    }

    fn checkpoint(&mut self) -> Result<(), StepError> {
        let checkpoint = self.member.ledger_of(self.basis.generation)?.checkpoint()?;
        self.basis.segments.sync()?;
        checkpoint.write(&self.world)?;
        let mut ledger = self.member.ledger_of(self.basis.generation)?;
        ledger.checkpointed = checkpoint.point;
        self.checkpointed = checkpoint.point;
        self.checkpointed_at = self.world.clock.now();
        let emptied = std::mem::take(&mut self.emptied);
        for segment in &emptied {
            assert_eq!(ledger.usage.live(*segment), 0, "what still lives in a segment is never removed with it");
            ledger.usage.forget(*segment);
        }
        drop(ledger);
        self.basis.segments.remove(&emptied)?;
        let ledger = self.member.ledger_of(self.basis.generation)?;
        self.member.let_go(&ledger);
        Ok(())
    }

    /// Writes a last checkpoint, if it is worth it.
    pub fn end(&mut self) -> Result<(), StepError> {
        self.follow();
        if self.tail_bytes() < LAST_TAIL_BYTES {
            return Ok(());
        }
        self.checkpoint()
    }

    /// One step of a defragmentation: first a checkpoint, so that all segments may be emptied, then one segment after
    /// the other, then a checkpoint, after which they are removed. `false` after the last step. Begins again when a
    /// snapshot is installed meanwhile.
    pub fn defragment(&mut self) -> Result<bool, StepError> {
        self.follow();
        match self.defragment_on().map_err(|error| self.judge(error)) {
            Ok(goes_on) => Ok(goes_on),
            Err(error) => {
                self.defragmenting = None;
                if matches!(error, StepError::Superseded) { Ok(true) } else { Err(error) }
            }
        }
    }

    fn defragment_on(&mut self) -> Result<bool, StepError> {
        let Some(segments) = &mut self.defragmenting else {
            failpoint!("defragOpenFileError", |error| Err(
                crate::disk::Error::from(std::io::Error::other(error)).into()
            ));
            failpoint!("defragBeforeCopy");
            self.basis.segments.seal()?;
            self.checkpoint()?;
            let segments = reclaim::with_dead(&self.member, &self.basis, self.checkpointed.segment)?;
            self.defragmenting = Some(segments);
            return Ok(true);
        };
        if let Some(segment) = segments.pop() {
            // The checkpoint of another step may have removed it.
            let there = self.basis.segments.list()?.iter().any(|listed| listed.id == segment);
            if there && !self.emptied.contains(&segment) {
                self.empty(segment)?;
            }
            return Ok(true);
        }
        failpoint!("defragdbFail", |error| Err(crate::disk::Error::from(std::io::Error::other(error)).into()));
        failpoint!("defragBeforeRename");
        self.defragmenting = None;
        self.checkpoint()?;
        Ok(false)
    }
}

fn begin(member: &MemberState) -> (Basis, Point) {
    let ledger = member.ledger();
    (ledger.basis(), ledger.checkpointed)
}
