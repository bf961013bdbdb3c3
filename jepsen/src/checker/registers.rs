//! Transactions that read and write registers. The store tells the revision of what is read and of what was written,
//! which gives the order of a key's versions; values are unique, so a revision that is told wrong shows as well.

use std::collections::BTreeMap;

use serde_json::Value;

use super::graph::{Edge, Graph};
use super::{Anomaly, Report};
use crate::history::{Event, Kind, Operation, operations};

type Key = String;

/// What a key held: the revision of the write and its value; nothing before the first.
type Version = (u64, Option<i64>);

/// A read `["r", key, value, revision]` or a write `["w", key, value, revision]`. The revision is null where it is
/// not known.
struct Step {
    key: Key,
    write: bool,
    value: Option<i64>,
    revision: Option<u64>,
}

fn steps(value: &Value) -> Vec<Step> {
    let step = |step: &Value| {
        let write = match step.get(0)?.as_str()? {
            "w" => true,
            "r" => false,
            _ => return None,
        };
        let key = step.get(1)?.to_string();
        Some(Step { key, write, value: step.get(2)?.as_i64(), revision: step.get(3).and_then(Value::as_u64) })
    };
    value.as_array().map(|all| all.iter().filter_map(step).collect()).unwrap_or_default()
}

pub fn check(events: &[Event]) -> Report {
    let operations: Vec<Operation<'_>> = operations(events).into_iter().filter(|op| op.invoked.f == "txn").collect();
    let transactions: Vec<Vec<Step>> = operations.iter().map(|operation| steps(operation.value())).collect();
    let mut anomalies = Vec::new();
    let writers = writers(&transactions);
    let versions = versions(&operations, &transactions, &mut anomalies);
    reads(&operations, &transactions, &writers, &mut anomalies);
    let graph = graph(&operations, &transactions, &writers, &versions);
    anomalies.extend(graph.anomalies(&operations));
    let happened = operations.iter().filter(|operation| operation.outcome() == Kind::Ok).count();
    Report::of("rw-register", anomalies).note(format!("{happened} transactions, {} keys", versions.len()))
}

/// Who wrote a value.
fn writers(transactions: &[Vec<Step>]) -> BTreeMap<(Key, i64), usize> {
    let mut writers = BTreeMap::new();
    for (at, steps) in transactions.iter().enumerate() {
        for step in steps.iter().filter(|step| step.write) {
            if let Some(value) = step.value {
                writers.insert((step.key.clone(), value), at);
            }
        }
    }
    writers
}

/// The versions of each key in order. Two values with one revision are an anomaly.
fn versions(
    operations: &[Operation<'_>],
    transactions: &[Vec<Step>],
    anomalies: &mut Vec<Anomaly>,
) -> BTreeMap<Key, Vec<Version>> {
    let mut versions: BTreeMap<Key, BTreeMap<u64, (Option<i64>, u64)>> = BTreeMap::new();
    for (operation, steps) in operations.iter().zip(transactions) {
        if operation.outcome() != Kind::Ok {
            continue;
        }
        for step in steps {
            let Some(revision) = step.revision else { continue };
            let event = operation.invoked.index;
            let (known, first) =
                *versions.entry(step.key.clone()).or_default().entry(revision).or_insert((step.value, event));
            if known != step.value {
                anomalies.push(Anomaly {
                    name: "revision-reused".to_owned(),
                    what: format!("key {} is {known:?} and {:?} at revision {revision}", step.key, step.value),
                    events: vec![first, event],
                    because: Vec::new(),
                });
            }
        }
    }
    let ordered = |of: BTreeMap<u64, (Option<i64>, u64)>| of.into_iter().map(|(at, (value, _))| (at, value)).collect();
    versions.into_iter().map(|(key, of)| (key, ordered(of))).collect()
}

/// Nobody reads what nobody wrote, or what surely failed.
fn reads(
    operations: &[Operation<'_>],
    transactions: &[Vec<Step>],
    writers: &BTreeMap<(Key, i64), usize>,
    anomalies: &mut Vec<Anomaly>,
) {
    for (operation, steps) in operations.iter().zip(transactions) {
        if operation.outcome() != Kind::Ok {
            continue;
        }
        for step in steps.iter().filter(|step| !step.write) {
            let Some(value) = step.value else { continue };
            let (name, what, mut events) = match writers.get(&(step.key.clone(), value)) {
                None => ("phantom", format!("key {} was read as {value}, which nobody wrote", step.key), vec![]),
                Some(writer) if operations[*writer].outcome() == Kind::Fail => {
                    let what = format!("key {} was read as {value}, of a transaction that failed", step.key);
                    ("G1a", what, vec![operations[*writer].invoked.index])
                }
                Some(_) => continue,
            };
            events.push(operation.invoked.index);
            anomalies.push(Anomaly { name: name.to_owned(), what, events, because: Vec::new() });
        }
    }
}

fn graph(
    operations: &[Operation<'_>],
    transactions: &[Vec<Step>],
    writers: &BTreeMap<(Key, i64), usize>,
    versions: &BTreeMap<Key, Vec<Version>>,
) -> Graph {
    let mut graph = Graph::new(operations.len());
    graph.add_realtime(operations);
    let writer = |key: &Key, value: Option<i64>| writers.get(&(key.clone(), value?)).copied();
    for (key, order) in versions {
        for pair in order.windows(2) {
            if let (Some(first), Some(second)) = (writer(key, pair[0].1), writer(key, pair[1].1)) {
                graph.add(first, second, Edge::Ww, || {
                    format!("it wrote key {key} at {}, the next one at {}", pair[0].0, pair[1].0)
                });
            }
        }
    }
    for (at, (operation, steps)) in operations.iter().zip(transactions).enumerate() {
        if operation.outcome() != Kind::Ok {
            continue;
        }
        for step in steps.iter().filter(|step| !step.write) {
            let key = &step.key;
            if let Some(from) = writer(key, step.value) {
                graph.add(from, at, Edge::Wr, || {
                    format!("it wrote what the next one read of key {key}: {:?}", step.value)
                });
            }
            let seen = step.revision.unwrap_or_default();
            let next = versions.get(key).and_then(|order| order.iter().find(|(revision, _)| *revision > seen));
            if let Some((revision, value)) = next
                && let Some(to) = writer(key, *value)
            {
                graph.add(at, to, Edge::Rw, || {
                    format!("it read key {key} at {seen}, before the next one wrote it at {revision}")
                });
            }
        }
    }
    graph
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::Kind::{Fail, Invoke, Ok};
    use crate::history::tests::history;

    fn run(transactions: &[(Kind, Value)]) -> Vec<String> {
        let mut rows = Vec::new();
        for (at, (kind, value)) in transactions.iter().enumerate() {
            rows.push((at as u64, Invoke, "txn", value.clone()));
            rows.push((at as u64, *kind, "txn", value.clone()));
        }
        check(&history(&rows)).anomalies.into_iter().map(|anomaly| anomaly.name).collect()
    }

    #[test]
    fn a_serial_history_is_fine() {
        assert!(
            run(&[
                (Ok, json!([["w", 1, 10, 2], ["w", 2, 20, 2]])),
                (Ok, json!([["r", 1, 10, 2], ["w", 1, 11, 3]])),
                (Fail, json!([["w", 1, 12, null]])),
                (Ok, json!([["r", 1, 11, 3], ["r", 2, 20, 2], ["r", 3, null, null]])),
            ])
            .is_empty()
        );
    }

    #[test]
    fn each_anomaly_has_its_name() {
        for (transactions, name) in [
            (vec![(Ok, json!([["r", 1, 5, 2]]))], "phantom"),
            (vec![(Fail, json!([["w", 1, 5, null]])), (Ok, json!([["r", 1, 5, 2]]))], "G1a"),
            (vec![(Ok, json!([["w", 1, 5, 2]])), (Ok, json!([["w", 1, 6, 2]]))], "revision-reused"),
            (
                vec![(Ok, json!([["w", 1, 5, 2]])), (Ok, json!([["w", 1, 6, 3]])), (Ok, json!([["r", 1, 5, 2]]))],
                "G-single-realtime",
            ),
            (vec![(Ok, json!([["w", 1, 5, 3]])), (Ok, json!([["w", 1, 6, 2]]))], "G0-realtime"),
        ] {
            let found = run(&transactions);
            assert!(found.iter().any(|found| found == name), "{name} was not found: {found:?}");
        }
    }
}
