//! What happened, in simulated time: a trace that is the same in every run of a seed, and the records by which the end
//! of a simulation is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chorus::world::LeaseId;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::mvccpb::Event;

use crate::watches::Watch;

/// Shared by all of a simulation.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Records>>);

/// All that is known.
#[derive(Default)]
pub struct Records {
    trace: String,
    now: Duration,
    over: bool,
    /// Those who still ask the control plane for this and that.
    wishing: BTreeSet<String>,
    satisfied: bool,
    settled: bool,
    /// How often each thing happened that a set of seeds must have seen.
    pub counts: BTreeMap<&'static str, u64>,
    /// Every change by revision, as the first member to apply it told.
    pub log: BTreeMap<i64, Applied>,
    /// The highest revision that anybody was told of.
    pub told: i64,
    /// Objects that the control plane said to have written, and the revisions it named.
    pub written: Vec<(String, i64)>,
    pub calls: Vec<Call>,
    pub watches: Vec<Watch>,
    pub leases: BTreeMap<LeaseId, Lease>,
    /// The highest revision that anybody asked to compact at.
    pub compacted: i64,
}

/// The changes of one revision.
pub struct Applied {
    pub events: Vec<Event>,
    pub first_seen: Duration,
}

/// A call, as a transaction, and how it ended.
pub struct Call {
    pub client: u64,
    pub request: pb::TxnRequest,
    /// What everybody had been told of when it began.
    pub told_before: i64,
    pub outcome: Outcome,
}

/// How a call ended.
pub enum Outcome {
    Answered(pb::TxnResponse),
    /// It surely changed nothing.
    Refused(String),
    /// It may have happened, or may happen yet.
    Unknown,
}

/// What a client knows of its lease.
#[derive(Default)]
pub struct Lease {
    /// It may not have expired before this.
    pub alive_until: Duration,
    /// Its owner asked to end it.
    pub revoked: bool,
}

impl History {
    pub fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().expect("a simulation that panics is over")
    }

    /// Tells the time to those outside of all hosts.
    pub fn pass_to(&self, now: Duration) {
        self.records().now = now;
    }

    /// The simulated time.
    pub fn now(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_else(|| self.records().now)
    }

    /// Adds a line to the trace.
    pub fn note(&self, text: impl Display) {
        let now = self.now();
        let line = format!("{:>9.3} {text}", now.as_secs_f64());
        if std::env::var_os("CHORUS_SIM_TRACE").is_some() {
            eprintln!("{line}");
        }
        let mut records = self.records();
        writeln!(records.trace, "{line}").expect("a string grows");
    }

    /// Notes something that a set of seeds must have seen.
    pub fn count(&self, what: &'static str) {
        *self.records().counts.entry(what).or_default() += 1;
    }

    /// What everybody has been told of by now.
    pub fn told(&self) -> i64 {
        self.records().told
    }

    /// Keeps a call that has ended.
    pub fn keep(&self, call: Call) {
        let Call { client, outcome, .. } = &call;
        let told = match outcome {
            Outcome::Answered(response) => response.header.as_ref().map_or(0, |header| header.revision),
            _ => 0,
        };
        match outcome {
            Outcome::Answered(response) => self.note(format_args!("c{client} ok={} at {told}", response.succeeded)),
            Outcome::Refused(why) => self.note(format_args!("c{client} is refused: {why}")),
            Outcome::Unknown => self.note(format_args!("c{client} has no answer")),
        }
        let mut records = self.records();
        // A serializable read may tell of what its member alone knows to be committed; that counts as told, too.
        records.told = records.told.max(told);
        records.calls.push(call);
    }

    /// The control plane said that it wrote the object `name` at `revision`, or had done so before.
    pub fn wrote(&self, name: String, revision: i64) {
        let mut records = self.records();
        records.told = records.told.max(revision);
        records.written.push((name, revision));
    }

    /// A member has applied `events`, all of one revision. Every member must tell the same of it.
    pub fn applied(&self, member: &str, revision: i64, events: &[Event]) {
        let first_seen = self.now();
        let mut records = self.records();
        let known = records.log.entry(revision).or_insert_with(|| Applied { events: events.to_vec(), first_seen });
        assert!(
            known.events == events,
            "members differ on revision {revision}: {member} applied {events:?}, another one {:?}",
            known.events
        );
    }

    /// A lease may not end before `until`, by what its owner knows.
    pub fn lives(&self, id: LeaseId, until: Duration) {
        let mut records = self.records();
        let lease = records.leases.entry(id).or_default();
        lease.alive_until = lease.alive_until.max(until);
    }

    /// The owner of a lease is about to end it.
    pub fn revokes(&self, id: LeaseId) {
        self.records().leases.entry(id).or_default().revoked = true;
    }

    /// Somebody is about to compact at `revision`.
    pub fn compacts(&self, revision: i64) {
        let mut records = self.records();
        records.compacted = records.compacted.max(revision);
    }

    /// A watch has ended.
    pub fn watched(&self, watch: Watch) {
        self.note(format_args!("{watch} saw {} events", watch.seen()));
        self.records().watches.push(watch);
    }

    /// Everything is well again: clients come to an end.
    pub fn end(&self) {
        self.note("all is healed");
        self.records().over = true;
    }

    pub fn is_over(&self) -> bool {
        self.records().over
    }

    /// `user` asks the control plane for this and that.
    pub fn wishes(&self, user: &str) {
        self.records().wishing.insert(user.to_owned());
    }

    /// `user` has been answered the last time.
    pub fn wishes_no_more(&self, user: &str) {
        self.records().wishing.remove(user);
    }

    /// Whether somebody may still change what there is.
    pub fn somebody_wishes(&self) -> bool {
        !self.records().wishing.is_empty()
    }

    /// Those who use the control plane have got what they wanted.
    pub fn satisfy(&self) {
        self.note("all wishes are fulfilled");
        self.records().satisfied = true;
    }

    pub fn is_satisfied(&self) -> bool {
        self.records().satisfied
    }

    /// All members agree, and clients have got what they wanted.
    pub fn settle(&self) {
        self.note("all is settled");
        self.records().settled = true;
    }

    /// Whether all is settled, and everything that clients were told of was seen to be applied.
    pub fn is_settled(&self) -> bool {
        let records = self.records();
        records.settled && records.log.last_key_value().is_some_and(|(last, _)| *last >= records.told)
    }

    /// A hash of the trace: FNV-1a.
    pub fn hash(&self) -> u64 {
        let records = self.records();
        let bytes = records.trace.bytes();
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    }
}
