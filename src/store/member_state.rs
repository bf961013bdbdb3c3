//! The state of one member: what it has applied, the newest view of it, and what follows it: proposals that wait for
//! their outcome, the feed of the watch hub, the quota, the metrics.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::auth::sessions::Sessions;
use super::event_feed::EventFeed;
use super::generation::{Generation, StepError};
use super::ledger::Ledger;
use super::metrics::Metrics;
use super::mvcc::hash::Hashes;
use super::quota::Quota;
use super::view::View;
use super::waiting::Waiting;
use crate::disk::space::is_full;
use crate::disk::{self, Space};
use crate::world::lock::Guard;
use crate::world::planted::planted;
use crate::world::{Instant, Lock};

/// The state machine and the compactor change it; readers, proposals, the watch hub and the lessor look at it.
pub struct MemberState {
    ledger: Lock<Ledger>,
    view: ArcSwap<View>,
    pub waiting: Waiting,
    pub feed: EventFeed,
    /// The checksums of the last compactions.
    pub hashes: Hashes,
    pub quota: Quota,
    /// Whether the disk of the data segments has room.
    pub space: Space,
    pub metrics: Metrics,
    pub sessions: Sessions,
    authenticates: AtomicBool,
    /// See [`Usage`](super::usage::Usage).
    size: AtomicU64,
    /// How often the time of leases was reported, and when this member applied the last report.
    lease_time: Mutex<(u64, Instant)>,
    /// The revision of the last compaction behind which the history was swept.
    swept: watch::Sender<i64>,
}

impl MemberState {
    pub fn new(ledger: Ledger, waiting: Waiting, quota: Quota, sessions: Sessions, metrics: Metrics) -> MemberState {
        MemberState {
            view: ArcSwap::from_pointee(ledger.view()),
            size: AtomicU64::new(ledger.size()),
            lease_time: Mutex::new((ledger.state.leases.time.reports(), metrics.clock.now())),
            authenticates: AtomicBool::new(ledger.state.auth.enabled),
            ledger: Lock::new(ledger),
            waiting,
            quota,
            space: Space::new("store"),
            metrics,
            sessions,
            feed: EventFeed::default(),
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

    /// The same for a background step that began with `generation`.
    pub fn ledger_of(&self, generation: Generation) -> Result<Guard<'_, Ledger>, StepError> {
        let ledger = self.ledger();
        if ledger.generation() == generation || planted!("stale-step") {
            Ok(ledger)
        } else {
            Err(StepError::Superseded)
        }
    }

    /// The size of the store in bytes, as the quota counts it.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// The history below the compaction at `revision` was swept.
    pub fn swept(&self, revision: i64) {
        self.swept.send_if_modified(|swept| std::mem::replace(swept, revision) != revision);
    }

    /// Resolves once the history below `revision` was swept.
    pub async fn wait_swept(&self, revision: i64) {
        // The sender lives as long as this.
        let _ = self.swept.subscribe().wait_for(|swept| *swept >= revision).await;
    }

    /// Lets readers see what the ledger holds.
    pub fn publish(&self, ledger: &Ledger) {
        self.view.store(Arc::new(ledger.view()));
        self.size.store(ledger.size(), Ordering::Relaxed);
        let reports = ledger.state.leases.time.reports();
        if self.lease_time().0 != reports {
            self.note_lease_time(reports);
        }
        self.authenticates.store(ledger.state.auth.enabled, Ordering::Release);
    }

    fn lease_time(&self) -> (u64, Instant) {
        *self.lease_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This member has just applied a report of the time of leases, the one that `reports` counts.
    pub fn note_lease_time(&self, reports: u64) {
        let applied = (reports, self.metrics.clock.now());
        *self.lease_time.lock().unwrap_or_else(PoisonError::into_inner) = applied;
    }

    /// When this member applied the last report of the time of leases that is in its view.
    pub fn lease_time_since(&self) -> Instant {
        self.lease_time().1
    }

    /// From now on readers hold no segment that was removed. The published state must refer to none of those.
    pub fn let_go(&self, ledger: &Ledger) {
        let View { generation, state, .. } = View::clone(&self.view.load());
        assert_eq!(generation, ledger.generation(), "both change under the ledger's lock");
        self.view.store(Arc::new(View { generation, state, segments: ledger.segments.pin() }));
    }

    /// Notes that the disk is short of room, if that is what `error` is about.
    pub fn note_full(&self, error: &io::Error) {
        if is_full(error) {
            self.space.run_short(&disk::Error::Io(io::Error::new(error.kind(), error.to_string())));
        }
    }

    /// Whether authentication is enabled, so that callers must say who they are.
    pub fn authenticates(&self) -> bool {
        self.authenticates.load(Ordering::Acquire)
    }
}
