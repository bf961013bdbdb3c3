//! Checkers: pure functions from a history to a verdict.
//!
//! - [`linear`]: linearizability of registers, key by key
//! - [`graph`]: dependencies between transactions and their cycles; [`append`], [`registers`]: where they come from
//! - [`set`]: elements of a set: lost, stale, never read
//! - [`watch`]: what a watcher may rely on
//! - [`exclusion`]: locks and leases held by one at a time
//! - [`bank`]: money is neither made nor lost
//! - [`desired`]: as many pods as asked for, and what watches told of them
//! - [`coverage`]: whether a run deserves a verdict at all

pub mod append;
pub mod bank;
pub mod coverage;
pub mod desired;
pub mod exclusion;
pub mod graph;
pub mod linear;
pub mod registers;
pub mod set;
pub mod watch;

use serde::Serialize;

/// Whether a history is what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    True,
    /// Neither shown right nor wrong: too little happened, or the search took too long.
    Unknown,
    False,
}

impl Verdict {
    /// The verdict over both.
    pub fn and(self, other: Verdict) -> Verdict {
        self.max(other)
    }
}

/// Something that must not be, with what shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Anomaly {
    /// Its name in the literature: `G1a`, `lost`, `nonlinearizable`, ...
    pub name: String,
    /// One sentence that says what was seen.
    pub what: String,
    /// Indices of the events that show it, in the order in which they are to be read.
    pub events: Vec<u64>,
    /// For a cycle: why each event comes before the next one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<String>,
}

/// What a checker found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub checker: &'static str,
    pub verdict: Verdict,
    pub anomalies: Vec<Anomaly>,
    /// Figures and reasons for the reader.
    pub notes: Vec<String>,
}

impl Report {
    /// True unless there are anomalies.
    pub fn of(checker: &'static str, anomalies: Vec<Anomaly>) -> Report {
        let verdict = if anomalies.is_empty() { Verdict::True } else { Verdict::False };
        Report { checker, verdict, anomalies, notes: Vec::new() }
    }

    pub fn note(mut self, note: impl Into<String>) -> Report {
        self.notes.push(note.into());
        self
    }
}
