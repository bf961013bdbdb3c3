//! The applied state of one member, as the replica drives it.
//!
//! One call applies many entries: everything is written first, then readers see it, then watchers hear of it, then
//! the clients of this member get their answers.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::vec;

use arc_swap::ArcSwap;
use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use prost::Message;
use tokio::sync::watch;

use super::auth::sessions::Sessions;
use super::checks;
use super::command::{self, Batch};
use super::feed::Feed;
use super::generation::{Generation, StepError};
use super::ledger::{Happened, Ledger};
use super::metrics::{Kind, Metrics};
use super::mvcc::Fault;
use super::mvcc::hash::Hashes;
use super::quota::Quota;
use super::view::View;
use super::waiting::{Outcome, Waiting};
use crate::disk::space::is_full;
use crate::disk::{self, Space};
use crate::raft::machine::{Applied, Committed, Machine, Payload, Position, Snapshot, SnapshotFiles, Validate};
use crate::world::failpoints::failpoint;
use crate::world::lock::Guard;
use crate::world::{Instant, Lock};

/// What the state machine shares with readers, waiting clients, watchers and the compactor.
pub struct Shared {
    ledger: Lock<Ledger>,
    view: ArcSwap<View>,
    pub waiting: Waiting,
    pub feed: Feed,
    /// The checksums of the last compactions.
    pub hashes: Hashes,
    pub quota: Quota,
    /// Of the data segments.
    pub space: Space,
    pub metrics: Metrics,
    pub sessions: Sessions,
    authenticates: AtomicBool,
    /// See [`Usage`](super::usage::Usage).
    size: AtomicU64,
    /// How often the time of leases was told, and when this member last heard it.
    lease_time_told: Mutex<(u64, Instant)>,
    /// The compaction up to which the history was swept, durably.
    swept: watch::Sender<i64>,
}

impl Shared {
    pub fn new(ledger: Ledger, waiting: Waiting, quota: Quota, sessions: Sessions, metrics: Metrics) -> Shared {
        Shared {
            view: ArcSwap::from_pointee(ledger.view()),
            size: AtomicU64::new(ledger.size()),
            lease_time_told: Mutex::new((ledger.state.leases.time.tellings(), metrics.clock.now())),
            authenticates: AtomicBool::new(ledger.state.auth.enabled),
            ledger: Lock::new(ledger),
            waiting,
            quota,
            space: Space::new("store"),
            metrics,
            sessions,
            feed: Feed::default(),
            hashes: Hashes::default(),
            swept: watch::Sender::new(-1),
        }
    }

    /// The newest view.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The state and its files. Applying waits for this lock: hold it for a moment only.
    pub fn ledger(&self) -> Guard<'_, Ledger> {
        self.ledger.lock()
    }

    /// The same for a step in the background that began with `generation`.
    pub fn ledger_of(&self, generation: Generation) -> Result<Guard<'_, Ledger>, StepError> {
        let ledger = self.ledger();
        if ledger.generation() == generation { Ok(ledger) } else { Err(StepError::Superseded) }
    }

    /// The size of the store in bytes, as the quota counts it.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// The history below the compaction at `revision` is gone for good.
    pub fn swept(&self, revision: i64) {
        self.swept.send_if_modified(|swept| std::mem::replace(swept, revision) != revision);
    }

    /// Resolves once the history below `revision` is gone for good.
    pub async fn wait_swept(&self, revision: i64) {
        // The sender lives as long as this.
        let _ = self.swept.subscribe().wait_for(|swept| *swept >= revision).await;
    }

    /// Lets readers see what the ledger holds.
    pub fn publish(&self, ledger: &Ledger) {
        self.view.store(Arc::new(ledger.view()));
        self.size.store(ledger.size(), Ordering::Relaxed);
        let tellings = ledger.state.leases.time.tellings();
        if self.lease_time_told().0 != tellings {
            self.hear_lease_time(tellings);
        }
        self.authenticates.store(ledger.state.auth.enabled, Ordering::Release);
    }

    fn lease_time_told(&self) -> (u64, Instant) {
        *self.lease_time_told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear_lease_time(&self, tellings: u64) {
        let heard = (tellings, self.metrics.clock.now());
        *self.lease_time_told.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    }

    /// Since when this member has heard nothing of the time of leases but what is in its view.
    pub fn lease_time_since(&self) -> Instant {
        self.lease_time_told().1
    }

    /// Readers from now on hold no segment that was removed. Those must be empty for them, too.
    pub fn let_go(&self, ledger: &Ledger) {
        let View { generation, state, .. } = View::clone(&self.view.load());
        assert_eq!(generation, ledger.generation(), "both change under the ledger's lock");
        self.view.store(Arc::new(View { generation, state, segments: ledger.segments.pin() }));
    }

    /// Tells those who look after the room on the disk, if that is what `error` is about.
    fn note_full(&self, error: &io::Error) {
        if is_full(error) {
            self.space.run_short(&disk::Error::Io(io::Error::new(error.kind(), error.to_string())));
        }
    }

    /// Whether callers must say who they are.
    pub fn authenticates(&self) -> bool {
        self.authenticates.load(Ordering::Acquire)
    }
}

/// The applied state, driven by the replica.
pub struct StateMachine {
    pub(super) shared: Arc<Shared>,
    /// What the disk had no room for.
    stalled: Option<Work>,
}

/// Entries that are being applied.
struct Work {
    entries: vec::IntoIter<Committed>,
    /// Of those that are done.
    happened: Vec<Happened>,
    outcomes: Vec<(u64, Outcome)>,
}

impl StateMachine {
    pub fn new(shared: Arc<Shared>) -> StateMachine {
        StateMachine { shared, stalled: None }
    }

    /// Applies the commands of one entry; the outcomes that someone waits for are added to `outcomes`.
    fn apply_batch(
        &self,
        ledger: &mut Ledger,
        at: Position,
        commands: Vec<Bytes>,
        outcomes: &mut Vec<(u64, Outcome)>,
    ) -> io::Result<Batch> {
        let mut batch = Batch { at, ..Batch::default() };
        let (size, metrics) = (ledger.size(), &self.shared.metrics);
        let mut started = metrics.clock.now();
        for command in commands {
            let bytes = command.len();
            let command = match pb::InternalRaftRequest::decode(command) {
                Ok(command) => command,
                Err(error) => {
                    tracing::error!(%at, %error, "a command in the log cannot be read and changes nothing");
                    continue;
                }
            };
            let waiter = self.shared.waiting.waits(command.header.as_ref());
            let kind = Kind::of(&command);
            let overdraws = self.shared.quota.overdraws(size, &command, bytes);
            let outcome =
                match command::apply(&mut ledger.state, &ledger.segments, &mut batch, command, waiter.is_some()) {
                    Ok(answer) => Ok(answer),
                    Err(Fault::Refused(error)) => Err(error),
                    Err(fault) => return Err(io::Error::other(fault)),
                };
            started = metrics.applied(kind, outcome.is_ok(), started);
            metrics.leases.count(&outcome);
            if overdraws && outcome.is_ok() {
                self.shared.quota.note(waiter);
            } else {
                outcomes.extend(waiter.map(|id| (id, outcome)));
            }
        }
        metrics.changed(&batch.ops);
        // Before readers see the entry: a token is there as soon as the entry that made it.
        self.shared.sessions.follow(std::mem::take(&mut batch.sessions));
        Ok(batch)
    }

    fn work(&mut self, mut work: Work) -> io::Result<()> {
        let mut ledger = self.shared.ledger();
        if let Err(error) = self.work_off(&mut ledger, &mut work) {
            drop(ledger);
            if error.is_full() {
                self.shared.space.run_short(&error);
            }
            self.stalled = Some(work);
            return Err(error.into());
        }
        failpoint!("beforeWritebackBuf");
        self.shared.publish(&ledger);
        failpoint!("afterWritebackBuf");
        drop(ledger);
        self.shared.feed.push(work.happened);
        self.shared.waiting.answer_all(work.outcomes);
        Ok(())
    }

    fn work_off(&self, ledger: &mut Ledger, work: &mut Work) -> Result<(), disk::Error> {
        work.happened.extend(ledger.resume()?);
        for entry in work.entries.by_ref() {
            // After a restart the log may offer entries that the state already holds.
            if ledger.state.applied.is_none_or(|applied| entry.at.index > applied.index) {
                work.happened.extend(self.apply_entry(ledger, entry, &mut work.outcomes)?);
            }
        }
        Ok(())
    }

    fn apply_entry(
        &self,
        ledger: &mut Ledger,
        entry: Committed,
        outcomes: &mut Vec<(u64, Outcome)>,
    ) -> Result<Vec<Happened>, disk::Error> {
        let (membership, batch) = match entry.payload {
            Payload::Blank => (None, Batch::default()),
            Payload::Membership(membership) => (Some(membership), Batch::default()),
            Payload::Batch(commands) => (None, self.apply_batch(ledger, entry.at, commands, outcomes)?),
        };
        ledger.commit(entry.at, membership, batch)
    }
}

impl Machine for StateMachine {
    fn validate(&self) -> Validate {
        checks::marshalled
    }

    fn applied(&self) -> Applied {
        self.shared.ledger().applied()
    }

    fn apply(&mut self, entries: Vec<Committed>) -> io::Result<()> {
        assert!(self.stalled.is_none(), "what has no room yet goes first");
        self.work(Work { entries: entries.into_iter(), happened: Vec::new(), outcomes: Vec::new() })
    }

    fn resume(&mut self) -> io::Result<()> {
        self.stalled.take().map_or(Ok(()), |work| self.work(work))
    }

    fn space(&self) -> Space {
        self.shared.space.clone()
    }

    fn durable(&self) -> Option<Position> {
        self.shared.ledger().durable()
    }

    fn snapshot(&mut self) -> io::Result<Snapshot> {
        let outgoing = self.shared.ledger().snapshot()?;
        let (applied, shared) = (outgoing.applied(), self.shared.clone());
        let prepare = move || {
            let (paths, scratch) = outgoing.prepare().inspect_err(|error| shared.note_full(error))?;
            Ok(SnapshotFiles { paths, keep: Box::new(scratch) })
        };
        Ok(Snapshot { applied, prepare: Box::new(prepare) })
    }

    fn incoming(&mut self) -> io::Result<PathBuf> {
        let files = self.shared.ledger().files();
        files.incoming()
    }

    fn install(&mut self, directory: PathBuf) -> io::Result<Applied> {
        let disk = &self.shared.metrics.disk;
        let _installing = self.shared.metrics.measure(&disk.install, Some(&disk.installing));
        // Nothing is applied meanwhile, and what reads or looks after the files goes on with the old ones.
        let successor = self.shared.ledger().successor();
        let successor = successor.install(&directory)?;
        let live = successor.state.index.live_count();
        let mut ledger = self.shared.ledger();
        let replaced = std::mem::replace(&mut *ledger, successor);
        let (applied, index) = (ledger.applied(), &ledger.state.index);
        self.shared.metrics.replaced(live);
        self.shared.hashes.clear();
        self.shared.sessions.forget();
        // However often the other member heard it, this one hears it now.
        self.shared.hear_lease_time(ledger.state.leases.time.tellings());
        self.shared.publish(&ledger);
        if index.is_swept() {
            self.shared.swept(index.compacted);
        }
        drop(ledger);
        self.shared.feed.lose();
        replaced.discard();
        Ok(applied)
    }
}
