//! What only one may hold at a time.
//!
//! A holder believes that it holds from the moment at which its `acquire` was acknowledged. It stops believing when it
//! asks for the `release`, or, where its claim has a lifetime, when that ends by its own clock; an `extend` moves that
//! end. Values are `[name, token, until]`, `until` in nanoseconds of the run or null.
//!
//! A lock without such an end is not safe in any system with leases: its holder can be cut off or stopped for longer
//! than its lease lives. A history that shows this is no fault of the store, so the workload says which of the two it
//! asked for.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Anomaly, Report, Verdict};
use crate::history::{Event, Kind, Process, operations};

#[derive(Debug)]
struct Hold {
    process: Process,
    event: u64,
    from: u64,
    until: u64,
}

pub fn check(events: &[Event]) -> Report {
    let mut holds: BTreeMap<String, Vec<Hold>> = BTreeMap::new();
    let mut tokens: BTreeMap<(String, String), usize> = BTreeMap::new();
    for operation in operations(events) {
        let value = operation.value();
        let name = value.get(0).map(Value::to_string).unwrap_or_default();
        let token = (name.clone(), value.get(1).map(Value::to_string).unwrap_or_default());
        let until = value.get(2).and_then(Value::as_u64).unwrap_or(u64::MAX);
        let held = holds.entry(name).or_default();
        match (operation.invoked.f.as_str(), operation.outcome()) {
            ("acquire", Kind::Ok) => {
                tokens.insert(token, held.len());
                let Event { process, index, .. } = *operation.invoked;
                held.push(Hold { process, event: index, from: operation.ended(), until });
            }
            ("extend", Kind::Ok) => {
                if let Some(&at) = tokens.get(&token) {
                    // A claim that had run out is not mended by an answer that comes later.
                    if held[at].until > operation.ended() {
                        held[at].until = until;
                    }
                }
            }
            ("release", _) => {
                if let Some(&at) = tokens.get(&token) {
                    held[at].until = held[at].until.min(operation.invoked.time);
                }
            }
            _ => {}
        }
    }
    let mut anomalies = Vec::new();
    let count: usize = holds.values().map(Vec::len).sum();
    for (name, mut held) in holds {
        held.sort_by_key(|hold| hold.from);
        let mut last: Option<&Hold> = None;
        for hold in &held {
            if let Some(before) = last.filter(|before| before.until > hold.from) {
                anomalies.push(Anomaly {
                    name: "held-twice".to_owned(),
                    what: format!(
                        "{name} was held by {:?} and from {} ms on by {:?} too",
                        before.process,
                        hold.from / 1_000_000,
                        hold.process
                    ),
                    events: vec![before.event, hold.event],
                    because: Vec::new(),
                });
            }
            if last.is_none_or(|before| hold.until > before.until) {
                last = Some(hold);
            }
        }
    }
    let report = Report::of("exclusion", anomalies).note(format!("{count} times held"));
    if count < 2 { Report { verdict: report.verdict.and(Verdict::Unknown), ..report } } else { report }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::Kind::{Invoke, Ok};
    use crate::history::tests::history;

    #[test]
    fn one_after_the_other_is_fine_and_both_at_once_is_not() {
        let acquire = |process, until: Value| {
            [
                (process, Invoke, "acquire", json!(["l", process, null])),
                (process, Ok, "acquire", json!(["l", process, until])),
            ]
        };
        let release = |process| {
            [(process, Invoke, "release", json!(["l", process])), (process, Ok, "release", json!(["l", process]))]
        };
        let good = [acquire(0, json!(null)), release(0), acquire(1, json!(null)), release(1)].concat();
        assert_eq!(check(&history(&good)).verdict, Verdict::True);
        let bad = [acquire(0, json!(null)), acquire(1, json!(null)), release(0)].concat();
        assert_eq!(check(&history(&bad)).verdict, Verdict::False);
        // The first claim ran out by its holder's own clock.
        let lapsed = [acquire(0, json!(2)), acquire(1, json!(null))].concat();
        assert_eq!(check(&history(&lapsed)).verdict, Verdict::True);
        let extended = [
            acquire(0, json!(2)).to_vec(),
            vec![(0, Invoke, "extend", json!(["l", 0, null])), (0, Ok, "extend", json!(["l", 0, 90]))],
            acquire(1, json!(null)).to_vec(),
        ]
        .concat();
        assert_eq!(check(&history(&extended)).verdict, Verdict::True, "it had run out before it was extended");
        let extended = [
            acquire(0, json!(4)).to_vec(),
            vec![(0, Invoke, "extend", json!(["l", 0, null])), (0, Ok, "extend", json!(["l", 0, 90]))],
            acquire(1, json!(null)).to_vec(),
        ]
        .concat();
        assert_eq!(check(&history(&extended)).verdict, Verdict::False);
    }
}
