//! The metrics of one member's store, under etcd's names.
//!
//! - [`ops`]: operations on keys, as transactions do them
//! - [`kind`]: what kind of command a request is
//! - [`expose`]: names and texts

mod expose;
mod kind;
mod ops;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Error;
use super::bounds::Bounds;
use super::command::Answer;
use crate::actor::metrics::{Counter, Gauge, Histogram};
use crate::world::{Clock, Instant};

pub use expose::Exposed;
pub use kind::Kind;
pub use ops::Ops;

/// Counters of one member's store, shared by all that count.
pub struct Metrics {
    pub clock: Clock,
    /// Applying one command for longer is logged.
    slow_apply: Duration,
    /// How long applying a command takes, by kind and whether it succeeded.
    applied: Vec<[Histogram; 2]>,
    /// How long clients wait, by kind and whether there was an answer.
    requests: Vec<[Histogram; 2]>,
    pub ranges: [Histogram; 2],
    slow_applies: Counter,
    pub proposals_pending: Gauge,
    pub proposals_failed: Counter,
    pub read_indexes_failed: Counter,
    pub read_indexes_slow: Counter,
    pub leader_changes: Counter,
    pub promotions: Promotions,
    keys: Keys,
    pub leases: Leases,
    pub watches: Watches,
    pub bounds: Arc<Bounds>,
    pub compactions: Compactions,
    pub disk: Disk,
}

/// Keys, and the operations on them.
#[derive(Default)]
struct Keys {
    live: Gauge,
    puts: Counter,
    put_bytes: Counter,
    deletes: Counter,
    ranges: Counter,
    txns: Counter,
}

/// Requests to this member to let a learner vote.
#[derive(Default)]
pub struct Promotions {
    succeeded: Counter,
    /// By the text of the error. There are few texts.
    failed: Mutex<BTreeMap<String, u64>>,
}

impl Promotions {
    pub fn ended<T>(&self, outcome: &Result<T, Error>) {
        let Err(error) = outcome else { return self.succeeded.inc() };
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed.entry(error.to_wire().1.to_owned()).or_default() += 1;
    }
}

pub struct Leases {
    pub granted: Counter,
    pub revoked: Counter,
    pub renewed: Counter,
    pub expired: Counter,
    pub ttl_seconds: Histogram,
}

#[derive(Default)]
pub struct Watches {
    pub streams: Gauge,
    pub watchers: Gauge,
    pub unsynced: Gauge,
    pub events: Counter,
    /// Bytes that wait for clients.
    pub unread_bytes: Gauge,
    /// Streams that were ended because they were not read.
    pub ended: Counter,
}

pub struct Compactions {
    pub keys: Counter,
    /// Seconds of Unix time.
    pub last: Gauge,
    pub pause_ms: Histogram,
    pub total_ms: Histogram,
}

/// Work on the data files.
pub struct Disk {
    pub commit: Histogram,
    pub snapshot: Histogram,
    pub defragmentation: Histogram,
    pub defragmenting: Gauge,
    pub hash: Histogram,
    pub hash_revision: Histogram,
    pub install: Histogram,
    pub installing: Gauge,
}

impl Metrics {
    /// For a store with `live` keys, where applying a command is slow when it takes longer than `slow_apply`.
    pub fn new(clock: Clock, live: usize, slow_apply: Duration) -> Metrics {
        let keys = Keys::default();
        keys.live.set(live as i64);
        Metrics {
            clock,
            slow_apply,
            applied: by_kind(|| Histogram::doubling(0.0001, 20)),
            requests: by_kind(|| Histogram::doubling(0.001, 14)),
            ranges: [Histogram::doubling(0.0001, 20), Histogram::doubling(0.0001, 20)],
            slow_applies: Counter::default(),
            proposals_pending: Gauge::default(),
            proposals_failed: Counter::default(),
            read_indexes_failed: Counter::default(),
            read_indexes_slow: Counter::default(),
            leader_changes: Counter::default(),
            promotions: Promotions::default(),
            keys,
            leases: Leases {
                granted: Counter::default(),
                revoked: Counter::default(),
                renewed: Counter::default(),
                expired: Counter::default(),
                ttl_seconds: Histogram::doubling(1.0, 24),
            },
            watches: Watches::default(),
            bounds: Arc::default(),
            compactions: Compactions {
                keys: Counter::default(),
                last: Gauge::default(),
                pause_ms: Histogram::doubling(1.0, 13),
                total_ms: Histogram::doubling(100.0, 14),
            },
            disk: Disk {
                commit: Histogram::doubling(0.001, 14),
                snapshot: Histogram::doubling(0.01, 17),
                defragmentation: Histogram::doubling(0.1, 13),
                defragmenting: Gauge::default(),
                hash: Histogram::doubling(0.01, 15),
                hash_revision: Histogram::doubling(0.01, 15),
                install: Histogram::doubling(0.1, 10),
                installing: Gauge::default(),
            },
        }
    }

    /// A command of `kind` was applied since `started`; gives the present moment.
    pub fn applied(&self, kind: Kind, succeeded: bool, started: Instant) -> Instant {
        let now = self.clock.now();
        let took = now - started;
        self.applied[kind as usize][usize::from(succeeded)].observe(took);
        if took > self.slow_apply {
            self.slow_applies.inc();
            let (took, expected) = (tracing::field::debug(took), tracing::field::debug(self.slow_apply));
            tracing::warn!(took, "expected-duration" = expected, request = ?kind, "apply request took too long");
        }
        now
    }

    /// A client's request of `kind` was answered, or was not in time.
    pub fn requested(&self, kind: Kind, answered: bool, started: Instant) {
        self.requests[kind as usize][usize::from(answered)].observe(self.clock.now() - started);
    }

    /// Transactions were applied.
    pub fn changed(&self, ops: &Ops) {
        self.read(ops);
        self.keys.puts.add(ops.puts);
        self.keys.put_bytes.add(ops.put_bytes);
        self.keys.deletes.add(ops.deletes);
        self.keys.live.add(ops.created as i64 - ops.deleted as i64);
    }

    /// Something was read.
    pub fn read(&self, ops: &Ops) {
        self.keys.ranges.add(ops.ranges);
        self.keys.txns.add(ops.txns);
    }

    /// A proposal is on its way since `started`.
    pub fn pending(&self, kind: Kind, started: Instant) -> Pending<'_> {
        self.proposals_pending.add(1);
        Pending { metrics: self, kind, started, answered: false }
    }

    /// Measures a piece of work, and counts it as under way in `gauge`, until the answer is dropped.
    pub fn measure<'a>(&'a self, histogram: &'a Histogram, gauge: Option<&'a Gauge>) -> Measured<'a> {
        if let Some(gauge) = gauge {
            gauge.add(1);
        }
        Measured { clock: &self.clock, histogram, gauge, started: self.clock.now() }
    }

    /// The state was replaced by another one.
    pub fn replaced(&self, live: usize) {
        self.keys.live.set(live as i64);
    }
}

impl Compactions {
    /// A slice of the history was freed, while others waited.
    pub fn slice(&self, freed: usize, took: Duration) {
        self.keys.add(freed as u64);
        self.pause_ms.observe_value(took.as_secs_f64() * 1e3);
    }

    pub fn finished(&self, took: Duration, now: Duration) {
        self.total_ms.observe_value(took.as_secs_f64() * 1e3);
        self.last.set(now.as_secs() as i64);
    }
}

/// A proposal under way. It failed unless it was answered.
pub struct Pending<'a> {
    metrics: &'a Metrics,
    kind: Kind,
    started: Instant,
    answered: bool,
}

impl Pending<'_> {
    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.metrics.proposals_pending.add(-1);
        self.metrics.requested(self.kind, self.answered, self.started);
        if !self.answered {
            self.metrics.proposals_failed.inc();
        }
    }
}

impl Leases {
    pub fn count(&self, outcome: &Result<Answer, Error>) {
        match outcome {
            Ok(Answer::LeaseGrant(granted)) => {
                self.granted.inc();
                self.ttl_seconds.observe_value(granted.ttl as f64);
            }
            Ok(Answer::LeaseRevoke(_)) => self.revoked.inc(),
            _ => {}
        }
    }
}

/// Measures until it is dropped.
pub struct Measured<'a> {
    clock: &'a Clock,
    histogram: &'a Histogram,
    gauge: Option<&'a Gauge>,
    started: Instant,
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        self.histogram.observe(self.clock.now() - self.started);
        if let Some(gauge) = self.gauge {
            gauge.add(-1);
        }
    }
}

fn by_kind(make: impl Fn() -> Histogram) -> Vec<[Histogram; 2]> {
    Kind::ALL.iter().map(|_| [make(), make()]).collect()
}
