//! Whether a run deserves a verdict: an idle cluster that was never disturbed proves nothing.

use std::collections::BTreeMap;

use super::{Report, Verdict};
use crate::history::{Event, Kind, Process};

/// The value of the event of a fault that can't happen with this machine or this binary.
pub const SKIPPED: &str = "skipped";

/// What a run must have seen.
#[derive(Clone, Debug, Default)]
pub struct Floor {
    /// Each of these faults was put in place at least once, unless it can't happen here.
    pub faults: Vec<String>,
    /// Faults that were asked for and need not happen in this run, and why.
    pub spared: BTreeMap<String, String>,
    /// Acknowledged operations.
    pub operations: u64,
    /// Changes of the leader.
    pub leader_changes: u64,
}

/// Compares what happened with `floor`. Falling short makes a run unknown, never false.
pub fn check(events: &[Event], leader_changes: u64, floor: &Floor) -> Report {
    let mut installed: BTreeMap<&str, u64> = BTreeMap::new();
    let mut skipped: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut acknowledged, mut unknown) = (0, 0);
    for event in events {
        match (event.process, event.kind) {
            (Process::Nemesis, Kind::Ok) => *installed.entry(&event.f).or_default() += 1,
            (Process::Nemesis, Kind::Info) if event.value == SKIPPED => {
                skipped.insert(&event.f, event.error.as_deref().unwrap_or_default());
            }
            (Process::Client(_), Kind::Ok) => acknowledged += 1,
            (Process::Client(_), Kind::Info) => unknown += 1,
            _ => {}
        }
    }
    for (fault, why) in floor.spared.iter().filter(|(fault, _)| !installed.contains_key(fault.as_str())) {
        skipped.entry(fault).or_insert(why);
    }
    let mut missing = Vec::new();
    let happened = |fault: &str| installed.contains_key(fault) || skipped.contains_key(fault);
    for fault in floor.faults.iter().filter(|fault| !happened(fault)) {
        missing.push(format!("the fault {fault} never happened"));
    }
    if acknowledged < floor.operations {
        missing.push(format!("{acknowledged} operations were acknowledged, {} are needed", floor.operations));
    }
    if leader_changes < floor.leader_changes {
        missing.push(format!("the leader changed {leader_changes} times, {} are needed", floor.leader_changes));
    }
    let mut report = Report::of("coverage", Vec::new()).note(format!(
        "{acknowledged} operations acknowledged, {unknown} of unknown outcome, {leader_changes} changes of leader"
    ));
    for (fault, times) in installed {
        report = report.note(format!("{fault}: {times}"));
    }
    for (fault, reason) in skipped {
        report = report.note(format!("{fault}: {reason}"));
    }
    if !missing.is_empty() {
        report.verdict = Verdict::Unknown;
        report.notes.extend(missing);
    }
    report
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::tests::history;

    #[test]
    fn an_idle_run_is_no_pass() {
        let mut events = history(&[(0, Kind::Ok, "read", json!(null)), (1, Kind::Ok, "kill", json!(null))]);
        events[1].process = Process::Nemesis;
        let floor = |faults: &[&str], operations, leader_changes| Floor {
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
            operations,
            leader_changes,
            ..Floor::default()
        };
        assert_eq!(check(&events, 1, &floor(&["kill"], 1, 1)).verdict, Verdict::True);
        for short in [floor(&["kill", "pause"], 1, 1), floor(&["kill"], 2, 1), floor(&["kill"], 1, 2)] {
            assert_eq!(check(&events, 1, &short).verdict, Verdict::Unknown);
        }
        events[1].kind = Kind::Info;
        assert_eq!(check(&events, 1, &floor(&["kill"], 1, 1)).verdict, Verdict::Unknown);
        events[1].value = json!(SKIPPED);
        assert_eq!(check(&events, 1, &floor(&["kill"], 1, 1)).verdict, Verdict::True, "it can't happen here");
        let spared = BTreeMap::from([("pause".to_owned(), "skipped: no time".to_owned())]);
        let report = check(&events, 1, &Floor { spared, ..floor(&["kill", "pause"], 1, 1) });
        assert_eq!(report.verdict, Verdict::True);
        assert!(report.notes.contains(&"pause: skipped: no time".to_owned()), "the reader is told: {:?}", report.notes);
    }
}
