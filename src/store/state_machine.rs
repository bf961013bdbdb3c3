//! The applied state of one member, as the replica drives it.
//!
//! One call applies many entries: everything is written first, then readers see it, then watchers hear of it, then
//! the clients of this member get their answers.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use prost::Message;
use tokio::sync::watch;

use super::auth::sessions::Sessions;
use super::command::{self, Batch};
use super::feed::Feed;
use super::ledger::{Happened, Ledger};
use super::metrics::{Kind, Metrics};
use super::mvcc::Fault;
use super::mvcc::hash::Hashes;
use super::quota::Quota;
use super::view::View;
use super::waiting::{Outcome, Waiting};
use crate::raft::machine::{Applied, Committed, Machine, Payload, Position, Snapshot};
use crate::world::failpoints::failpoint;

/// What the state machine shares with readers, waiting clients, watchers and the compactor.
pub struct Shared {
    ledger: Mutex<Ledger>,
    view: ArcSwap<View>,
    pub waiting: Waiting,
    pub feed: Feed,
    /// The checksums of the last compactions.
    pub hashes: Hashes,
    pub quota: Quota,
    pub metrics: Metrics,
    pub sessions: Sessions,
    authenticates: AtomicBool,
    /// See [`Usage`](super::usage::Usage).
    size: AtomicU64,
    /// The compaction up to which the history was swept, durably.
    swept: watch::Sender<i64>,
}

impl Shared {
    pub fn new(ledger: Ledger, waiting: Waiting, quota: Quota, sessions: Sessions, metrics: Metrics) -> Shared {
        Shared {
            view: ArcSwap::from_pointee(ledger.view()),
            size: AtomicU64::new(ledger.size()),
            authenticates: AtomicBool::new(ledger.state.auth.enabled),
            ledger: Mutex::new(ledger),
            waiting,
            quota,
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
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.authenticates.store(ledger.state.auth.enabled, Ordering::Release);
    }

    /// Whether callers must say who they are.
    pub fn authenticates(&self) -> bool {
        self.authenticates.load(Ordering::Acquire)
    }
}

/// The applied state, driven by the replica.
pub struct StateMachine(pub(super) Arc<Shared>);

impl StateMachine {
    /// Applies the commands of one entry; the outcomes that someone waits for are added to `outcomes`.
    fn apply_batch(
        &self,
        ledger: &mut Ledger,
        index: u64,
        commands: Vec<Bytes>,
        outcomes: &mut Vec<(u64, Outcome)>,
    ) -> io::Result<Batch> {
        let mut batch = Batch { index, ..Batch::default() };
        let (size, metrics) = (ledger.size(), &self.0.metrics);
        let mut started = metrics.clock.now();
        for command in commands {
            let bytes = command.len();
            let command = pb::InternalRaftRequest::decode(command).map_err(io::Error::other)?;
            let id = command.header.as_ref().map_or(command.id, |header| header.id);
            let answer = self.0.waiting.waits(id);
            let kind = Kind::of(&command);
            let overdraws = self.0.quota.overdraws(size, &command, bytes);
            let outcome = match command::apply(&mut ledger.state, &ledger.segments, &mut batch, command, answer) {
                Ok(answer) => Ok(answer),
                Err(Fault::Refused(error)) => Err(error),
                Err(fault) => return Err(io::Error::other(fault)),
            };
            started = metrics.applied(kind, outcome.is_ok(), started);
            metrics.leases.count(&outcome);
            if overdraws && outcome.is_ok() {
                self.0.quota.note(answer.then_some(id));
            } else if answer {
                outcomes.push((id, outcome));
            }
        }
        metrics.changed(&batch.ops);
        // Before readers see the entry: a token is there as soon as the entry that made it.
        self.0.sessions.follow(std::mem::take(&mut batch.sessions));
        Ok(batch)
    }

    fn apply_entry(
        &self,
        ledger: &mut Ledger,
        entry: Committed,
        outcomes: &mut Vec<(u64, Outcome)>,
    ) -> io::Result<Vec<Happened>> {
        let (membership, batch) = match entry.payload {
            Payload::Blank => (None, Batch::default()),
            Payload::Membership(membership) => (Some(membership), Batch::default()),
            Payload::Batch(commands) => (None, self.apply_batch(ledger, entry.at.index, commands, outcomes)?),
        };
        Ok(ledger.commit(entry.at, membership, batch)?)
    }
}

impl Machine for StateMachine {
    fn applied(&self) -> Applied {
        self.0.ledger().applied()
    }

    fn apply(&mut self, entries: Vec<Committed>) -> io::Result<()> {
        let mut ledger = self.0.ledger();
        let (mut happened, mut outcomes) = (Vec::new(), Vec::new());
        for entry in entries {
            // After a restart the log may offer entries that the state already holds.
            if ledger.state.applied.is_some_and(|applied| entry.at.index <= applied.index) {
                continue;
            }
            happened.extend(self.apply_entry(&mut ledger, entry, &mut outcomes)?);
        }
        failpoint!("beforeWritebackBuf");
        self.0.publish(&ledger);
        failpoint!("afterWritebackBuf");
        drop(ledger);
        self.0.feed.push(happened);
        self.0.waiting.answer_all(outcomes);
        Ok(())
    }

    fn durable(&self) -> Option<Position> {
        self.0.ledger().durable()
    }

    fn snapshot(&mut self) -> io::Result<Snapshot> {
        self.0.ledger().snapshot()
    }

    fn incoming(&mut self) -> io::Result<PathBuf> {
        self.0.ledger().incoming()
    }

    fn install(&mut self, directory: PathBuf) -> io::Result<Applied> {
        let disk = &self.0.metrics.disk;
        let _installing = self.0.metrics.measure(&disk.install, Some(&disk.installing));
        let mut ledger = self.0.ledger();
        let applied = ledger.install(&directory)?;
        self.0.metrics.replaced(ledger.state.index.live_count());
        self.0.hashes.clear();
        self.0.sessions.forget();
        self.0.publish(&ledger);
        drop(ledger);
        self.0.feed.lose();
        Ok(applied)
    }
}
