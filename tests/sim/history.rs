//! What clients saw, in simulated time, and what must hold of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Shared by every client of a simulation.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    trace: String,
    /// Acknowledged writes: key to value and revision.
    acknowledged: BTreeMap<String, (String, i64)>,
    /// What the watch delivered: revision and key, in order.
    watched: Vec<(i64, String)>,
    facts: Vec<&'static str>,
    /// The simulated time of the last line, which those from outside of all hosts share.
    now: Duration,
}

impl History {
    /// Adds a line to the trace.
    pub fn note(&self, text: impl std::fmt::Display) {
        let mut inner = self.0.lock().unwrap();
        inner.now = turmoil::sim_elapsed().unwrap_or(inner.now);
        let now = inner.now.as_secs_f64();
        writeln!(inner.trace, "{now:>9.3} {text}").expect("a string grows");
    }

    pub fn acknowledge(&self, key: &str, value: &str, revision: i64) {
        self.note(format_args!("put {key} at {revision}"));
        self.0.lock().unwrap().acknowledged.insert(key.to_owned(), (value.to_owned(), revision));
    }

    /// A watch event: never twice, never backwards, and not before anything that was delivered.
    pub fn event(&self, revision: i64, key: &str) {
        self.note(format_args!("event {key} at {revision}"));
        let mut inner = self.0.lock().unwrap();
        if let Some((last, last_key)) = inner.watched.last() {
            assert!(*last < revision, "the watch went from {last_key} at {last} to {key} at {revision}");
        }
        inner.watched.push((revision, key.to_owned()));
    }

    /// Remembers that something has come true.
    pub fn fact(&self, fact: &'static str) {
        self.note(fact);
        self.0.lock().unwrap().facts.push(fact);
    }

    pub fn knows(&self, fact: &str) -> bool {
        self.0.lock().unwrap().facts.contains(&fact)
    }

    pub fn acknowledged(&self) -> usize {
        self.0.lock().unwrap().acknowledged.len()
    }

    /// Checks a read of all keys against what was acknowledged, and the watch against both.
    pub fn check(&self, stored: &BTreeMap<String, (String, i64)>) {
        let inner = self.0.lock().unwrap();
        for (key, written) in &inner.acknowledged {
            assert_eq!(stored.get(key), Some(written), "the acknowledged write of {key} is lost");
        }
        let watched: BTreeMap<i64, &String> = inner.watched.iter().map(|(revision, key)| (*revision, key)).collect();
        let first = inner.watched.first().map_or(i64::MAX, |(revision, _)| *revision);
        for (key, (_, revision)) in stored.iter().filter(|(_, (_, revision))| *revision >= first) {
            assert_eq!(watched.get(revision), Some(&key), "the watch missed {key} at {revision}");
        }
    }

    /// A hash of the trace: FNV-1a.
    pub fn hash(&self) -> u64 {
        let inner = self.0.lock().unwrap();
        if std::env::var_os("CHORUS_SIM_TRACE").is_some() {
            eprintln!("{}", inner.trace);
        }
        inner
            .trace
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    }
}
