//! A set that only grows: what was added stays, and every read that begins later sees it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Anomaly, Report, Verdict};
use crate::history::{Event, Kind, operations};

#[derive(Default)]
struct Element {
    /// The event of its `add`, and whether that surely failed.
    added: Option<(u64, Kind)>,
    /// When it surely was in the set: its `add` was acknowledged, or a read that saw it ended.
    known: Option<(u64, u64)>,
}

pub fn check(events: &[Event]) -> Report {
    let operations = operations(events);
    let mut elements: BTreeMap<i64, Element> = BTreeMap::new();
    let mut reads: Vec<(u64, u64, u64, BTreeSet<i64>)> = Vec::new();
    let mut anomalies = Vec::new();
    let mut found = |name: &str, what: String, events: Vec<u64>| {
        anomalies.push(Anomaly { name: name.to_owned(), what, events, because: Vec::new() });
    };
    for operation in &operations {
        let (index, outcome) = (operation.invoked.index, operation.outcome());
        match operation.invoked.f.as_str() {
            "add" => {
                let Some(value) = operation.invoked.value.as_i64() else { continue };
                let element = elements.entry(value).or_default();
                element.added = Some((index, outcome));
                if outcome == Kind::Ok {
                    element.known = Some((operation.ended(), index));
                }
            }
            "read" if outcome == Kind::Ok => {
                let list: Vec<i64> =
                    operation.value().as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
                let set: BTreeSet<i64> = list.iter().copied().collect();
                if set.len() < list.len() {
                    found("duplicate", "a read shows an element twice".to_owned(), vec![index]);
                }
                reads.push((operation.invoked.time, operation.ended(), index, set));
            }
            _ => {}
        }
    }
    reads.sort_by_key(|(_, ended, ..)| *ended);
    for (_, ended, index, set) in &reads {
        for value in set {
            let element = elements.entry(*value).or_default();
            match element.added {
                None => found("phantom", format!("{value} was read and never added"), vec![*index]),
                Some((added, Kind::Fail)) => {
                    found("aborted", format!("{value} was read although its add failed"), vec![added, *index]);
                }
                Some(_) => {}
            }
            if element.known.is_none_or(|(known, _)| *ended < known) {
                element.known = Some((*ended, *index));
            }
        }
    }
    let last = reads.iter().max_by_key(|(began, ..)| *began);
    for (value, element) in &elements {
        let Some((known, shown)) = element.known else { continue };
        let missing = reads.iter().filter(|(began, _, _, set)| *began > known && !set.contains(value));
        let missing: Vec<u64> = missing.map(|(_, _, index, _)| *index).collect();
        let (Some(first), Some((_, _, last, _))) = (missing.first(), last) else { continue };
        let (name, how) =
            if missing.contains(last) { ("lost", "is gone in the end") } else { ("stale", "was not seen") };
        found(name, format!("{value} was in the set and {how}; {} reads miss it", missing.len()), vec![shown, *first]);
    }
    let acknowledged = elements.values().filter(|element| matches!(element.added, Some((_, Kind::Ok)))).count();
    let count = reads.len();
    let report = Report::of("set", anomalies).note(format!("{acknowledged} elements acknowledged, {count} reads"));
    match last {
        Some(_) => report,
        None => Report { verdict: Verdict::Unknown, ..report }.note("the set was never read"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::Kind::{Fail, Info, Invoke, Ok};
    use crate::history::tests::history;

    fn run(rows: &[(Kind, &'static str, Value)]) -> Vec<String> {
        let rows: Vec<_> = rows
            .iter()
            .enumerate()
            .flat_map(|(at, (kind, f, value))| {
                [(at as u64, Invoke, *f, value.clone()), (at as u64, *kind, *f, value.clone())]
            })
            .collect();
        check(&history(&rows)).anomalies.into_iter().map(|anomaly| anomaly.name).collect()
    }

    #[test]
    fn what_was_added_stays() {
        let rows = [
            (Ok, "add", json!(1)),
            (Info, "add", json!(2)),
            (Fail, "add", json!(3)),
            (Ok, "read", json!([1])),
            (Ok, "read", json!([1, 2])),
        ];
        assert!(run(&rows).is_empty());
    }

    #[test]
    fn each_anomaly_has_its_name() {
        for (rows, name) in [
            (vec![(Ok, "add", json!(1)), (Ok, "read", json!([]))], "lost"),
            (vec![(Ok, "add", json!(1)), (Ok, "read", json!([])), (Ok, "read", json!([1]))], "stale"),
            (vec![(Info, "add", json!(1)), (Ok, "read", json!([1])), (Ok, "read", json!([]))], "lost"),
            (vec![(Ok, "read", json!([9]))], "phantom"),
            (vec![(Fail, "add", json!(1)), (Ok, "read", json!([1]))], "aborted"),
            (vec![(Ok, "add", json!(1)), (Ok, "read", json!([1, 1]))], "duplicate"),
        ] {
            assert_eq!(run(&rows), [name]);
        }
    }

    #[test]
    fn a_set_that_nobody_read_proves_nothing() {
        assert_eq!(
            check(&history(&[(0, Invoke, "add", json!(1)), (0, Ok, "add", json!(1))])).verdict,
            Verdict::Unknown
        );
    }
}
