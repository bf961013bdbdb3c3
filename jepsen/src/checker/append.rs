//! Transactions that append to lists and read them. Every element is appended once, so that a read tells the whole
//! order of the versions before it; from there on it is [`graph`](super::graph).

use std::collections::BTreeMap;

use serde_json::Value;

use super::graph::{Edge, Graph};
use super::{Anomaly, Report};
use crate::history::{Event, Kind, Operation, operations};

type Key = String;

/// One step of a transaction.
enum Step {
    Append(Key, i64),
    /// The list, where the transaction happened.
    Read(Key, Option<Vec<i64>>),
}

fn steps(value: &Value) -> Vec<Step> {
    let step = |step: &Value| {
        let key = step.get(1)?.to_string();
        match step.get(0)?.as_str()? {
            "append" => Some(Step::Append(key, step.get(2)?.as_i64()?)),
            "r" => Some(Step::Read(
                key,
                step.get(2)?.as_array().map(|list| list.iter().filter_map(Value::as_i64).collect()),
            )),
            _ => None,
        }
    };
    value.as_array().map(|all| all.iter().filter_map(step).collect()).unwrap_or_default()
}

pub fn check(events: &[Event]) -> Report {
    let operations: Vec<Operation<'_>> = operations(events).into_iter().filter(|op| op.invoked.f == "txn").collect();
    let transactions: Vec<Vec<Step>> = operations.iter().map(|operation| steps(operation.value())).collect();
    let mut check = Check::default();
    check.internal(&operations, &transactions);
    check.index(&operations, &transactions);
    check.order(&operations, &transactions);
    check.aborted(&operations, &transactions);
    let graph = check.graph(&operations, &transactions);
    check.anomalies.extend(graph.anomalies(&operations));
    let happened = operations.iter().filter(|operation| operation.outcome() == Kind::Ok).count();
    Report::of("list-append", check.anomalies).note(format!("{happened} transactions, {} keys", check.longest.len()))
}

#[derive(Default)]
struct Check {
    anomalies: Vec<Anomaly>,
    /// Who appended an element, and whether it was that transaction's last one on the key.
    appended: BTreeMap<(Key, i64), (usize, bool)>,
    /// The longest list read of each key: the order of its versions, as far as it was seen.
    longest: BTreeMap<Key, Vec<i64>>,
}

impl Check {
    fn found(&mut self, name: &str, what: String, events: &[&Operation<'_>]) {
        let events = events.iter().map(|operation| operation.invoked.index).collect();
        self.anomalies.push(Anomaly { name: name.to_owned(), what, events, because: Vec::new() });
    }

    /// A transaction sees what itself did before.
    fn internal(&mut self, operations: &[Operation<'_>], transactions: &[Vec<Step>]) {
        for (operation, steps) in operations.iter().zip(transactions) {
            if operation.outcome() != Kind::Ok {
                continue;
            }
            // What must stand at the end of the list, and the whole of it where it was read before.
            let mut expected: BTreeMap<&Key, (bool, Vec<i64>)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Append(key, element) => expected.entry(key).or_default().1.push(*element),
                    Step::Read(key, Some(list)) => {
                        if let Some((whole, end)) = expected.get(key) {
                            let fits = if *whole { list == end } else { list.ends_with(end) };
                            if !fits {
                                let what =
                                    format!("key {key} was read as {list:?} after the transaction itself left {end:?}");
                                self.found("internal", what, &[operation]);
                            }
                        }
                        expected.insert(key, (true, list.clone()));
                    }
                    Step::Read(_, None) => {}
                }
            }
        }
    }

    fn index(&mut self, operations: &[Operation<'_>], transactions: &[Vec<Step>]) {
        for (at, steps) in transactions.iter().enumerate() {
            let mut last = BTreeMap::new();
            for step in steps {
                if let Step::Append(key, element) = step {
                    if let Some(before) = last.insert(key, *element) {
                        self.appended.insert((key.clone(), before), (at, false));
                    }
                    self.appended.insert((key.clone(), *element), (at, true));
                }
            }
        }
        for (operation, key, list) in reads(operations, transactions) {
            let mut seen = list.to_vec();
            seen.sort_unstable();
            if let Some(pair) = seen.windows(2).find(|pair| pair[0] == pair[1]) {
                self.found(
                    "duplicate",
                    format!("element {} stands twice in key {key}: {list:?}", pair[0]),
                    &[operation],
                );
            }
            let longest = self.longest.entry(key.clone()).or_default();
            if list.len() > longest.len() {
                *longest = list.to_vec();
            }
        }
    }

    /// All reads of a key are beginnings of one list, made of what was really appended.
    fn order(&mut self, operations: &[Operation<'_>], transactions: &[Vec<Step>]) {
        for (operation, key, list) in reads(operations, transactions) {
            let longest = &self.longest[key];
            if !longest.starts_with(list) {
                let what = format!("key {key} was read as {list:?}, which does not begin {longest:?}");
                self.found("incompatible-order", what, &[operation]);
            }
        }
    }

    /// Nobody reads what was not appended, what surely failed, or the middle of a transaction.
    fn aborted(&mut self, operations: &[Operation<'_>], transactions: &[Vec<Step>]) {
        for (operation, key, list) in reads(operations, transactions) {
            for element in list {
                let Some((writer, _)) = self.appended.get(&(key.clone(), *element)) else {
                    self.found("phantom", format!("key {key} holds {element}, which nobody appended"), &[operation]);
                    continue;
                };
                if operations[*writer].outcome() == Kind::Fail {
                    let writer = &operations[*writer];
                    let what = format!("key {key} holds {element} of a transaction that failed");
                    self.found("G1a", what, &[writer, operation]);
                }
            }
            let Some(last) = list.last() else { continue };
            if let Some(&(writer, false)) = self.appended.get(&(key.clone(), *last))
                && operations[writer].invoked.index != operation.invoked.index
            {
                let what = format!("key {key} was read at {last}, in the middle of a transaction");
                self.found("G1b", what, &[&operations[writer], operation]);
            }
        }
    }

    fn graph(&self, operations: &[Operation<'_>], transactions: &[Vec<Step>]) -> Graph {
        let mut graph = Graph::new(operations.len());
        graph.add_realtime(operations);
        let writer = |key: &Key, element: i64| self.appended.get(&(key.clone(), element)).map(|(writer, _)| *writer);
        for (key, order) in &self.longest {
            for pair in order.windows(2) {
                if let (Some(first), Some(second)) = (writer(key, pair[0]), writer(key, pair[1])) {
                    graph.add(first, second, Edge::Ww, || {
                        format!("it appended {} to key {key}, the next one {} after it", pair[0], pair[1])
                    });
                }
            }
        }
        for (at, (operation, steps)) in operations.iter().zip(transactions).enumerate() {
            if operation.outcome() != Kind::Ok {
                continue;
            }
            // Only the first read of a key before any append of one's own tells of others.
            let mut touched = std::collections::BTreeSet::new();
            for step in steps {
                let (Step::Append(key, _) | Step::Read(key, _)) = step;
                if !touched.insert(key) {
                    continue;
                }
                let Step::Read(_, Some(list)) = step else { continue };
                if let Some(from) = list.last().and_then(|last| writer(key, *last)) {
                    graph.add(from, at, Edge::Wr, || {
                        format!("it appended what the next one read of key {key}: {list:?}")
                    });
                }
                let next = self.longest[key].get(list.len());
                if let Some((element, to)) = next.and_then(|next| Some((next, writer(key, *next)?))) {
                    graph.add(at, to, Edge::Rw, || {
                        format!("it read key {key} as {list:?}, before the next one appended {element}")
                    });
                }
            }
        }
        graph
    }
}

/// All lists that were read.
fn reads<'a>(
    operations: &'a [Operation<'a>],
    transactions: &'a [Vec<Step>],
) -> impl Iterator<Item = (&'a Operation<'a>, &'a Key, &'a [i64])> {
    operations.iter().zip(transactions).filter(|(operation, _)| operation.outcome() == Kind::Ok).flat_map(
        |(operation, steps)| {
            steps.iter().filter_map(move |step| match step {
                Step::Read(key, Some(list)) => Some((operation, key, list.as_slice())),
                _ => None,
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::Kind::{Fail, Info, Invoke, Ok};
    use crate::history::tests::history;

    /// Transactions one after the other, or all at once.
    fn run(serial: bool, transactions: &[(Kind, Value)]) -> Vec<String> {
        let mut rows = Vec::new();
        for (at, (_, value)) in transactions.iter().enumerate() {
            rows.push((at as u64, Invoke, "txn", value.clone()));
            if serial {
                rows.push((at as u64, transactions[at].0, "txn", value.clone()));
            }
        }
        if !serial {
            rows.extend(
                transactions.iter().enumerate().map(|(at, (kind, value))| (at as u64, *kind, "txn", value.clone())),
            );
        }
        check(&history(&rows)).anomalies.into_iter().map(|anomaly| anomaly.name).collect()
    }

    #[test]
    fn a_serial_history_is_fine() {
        let transactions = [
            (Ok, json!([["append", 1, 1], ["append", 2, 1]])),
            (Info, json!([["append", 1, 2]])),
            (Ok, json!([["r", 1, [1]], ["append", 1, 3], ["r", 1, [1, 3]]])),
            (Fail, json!([["append", 1, 4]])),
            (Ok, json!([["r", 1, [1, 3, 2]], ["r", 2, [1]]])),
        ];
        assert!(run(true, &transactions).is_empty());
    }

    #[test]
    fn each_anomaly_has_its_name() {
        for (serial, transactions, name) in [
            (false, vec![(Ok, json!([["append", 1, 1], ["r", 1, [2]]]))], "internal"),
            (false, vec![(Ok, json!([["append", 1, 1]])), (Ok, json!([["r", 1, [1, 1]]]))], "duplicate"),
            (
                false,
                vec![
                    (Ok, json!([["append", 1, 1]])),
                    (Ok, json!([["append", 1, 2]])),
                    (Ok, json!([["r", 1, [1, 2]]])),
                    (Ok, json!([["r", 1, [2]]])),
                ],
                "incompatible-order",
            ),
            (false, vec![(Ok, json!([["r", 1, [7]]]))], "phantom"),
            (false, vec![(Fail, json!([["append", 1, 1]])), (Ok, json!([["r", 1, [1]]]))], "G1a"),
            (false, vec![(Ok, json!([["append", 1, 1], ["append", 1, 2]])), (Ok, json!([["r", 1, [1]]]))], "G1b"),
            // Two transactions appended to two keys in opposite orders.
            (
                false,
                vec![
                    (Ok, json!([["append", 1, 1], ["append", 2, 1]])),
                    (Ok, json!([["append", 1, 2], ["append", 2, 2]])),
                    (Ok, json!([["r", 1, [1, 2]], ["r", 2, [2, 1]]])),
                ],
                "G0",
            ),
            // Each read what the other appended.
            (
                false,
                vec![(Ok, json!([["append", 1, 1], ["r", 2, [1]]])), (Ok, json!([["append", 2, 1], ["r", 1, [1]]]))],
                "G1c",
            ),
            // A lost update: one read the old list, yet appended after the other.
            (
                false,
                vec![
                    (Ok, json!([["r", 1, []], ["append", 1, 1]])),
                    (Ok, json!([["r", 1, []], ["append", 1, 2]])),
                    (Ok, json!([["r", 1, [1, 2]]])),
                ],
                "G-single",
            ),
            // Write skew.
            (
                false,
                vec![
                    (Ok, json!([["r", 1, []], ["append", 2, 1]])),
                    (Ok, json!([["r", 2, []], ["append", 1, 1]])),
                    (Ok, json!([["r", 1, [1]], ["r", 2, [1]]])),
                ],
                "G2",
            ),
            // A stale read.
            (
                true,
                vec![(Ok, json!([["append", 1, 1]])), (Ok, json!([["r", 1, []]])), (Ok, json!([["r", 1, [1]]]))],
                "G-single-realtime",
            ),
        ] {
            let found = run(serial, &transactions);
            assert!(found.iter().any(|found| found == name), "{name} was not found: {found:?}");
        }
    }

    #[test]
    fn a_cycle_is_told_with_its_reasons() {
        let report = check(&history(&[
            (0, Invoke, "txn", json!([["r", 1, null], ["append", 1, 1]])),
            (1, Invoke, "txn", json!([["r", 1, null], ["append", 1, 2]])),
            (0, Ok, "txn", json!([["r", 1, []], ["append", 1, 1]])),
            (1, Ok, "txn", json!([["r", 1, []], ["append", 1, 2]])),
            (2, Invoke, "txn", json!([["r", 1, null]])),
            (2, Ok, "txn", json!([["r", 1, [1, 2]]])),
        ]));
        let [cycle] = &report.anomalies[..] else { panic!("{report:?}") };
        assert_eq!((cycle.events.as_slice(), cycle.because.len()), (&[0, 1][..], 2));
    }
}
