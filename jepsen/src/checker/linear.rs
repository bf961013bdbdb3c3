//! Linearizability of registers, after Wing and Gong with Lowe's cache of visited configurations.
//!
//! Keys are independent, so each is searched alone. A register holds a value and counts its writes; a read or a write
//! that tells the count is checked against it, which prunes the search to almost a line.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Anomaly, Report, Verdict};
use crate::history::{Event, Kind, Operation, operations};

/// What a register holds: how often it was written, and the last value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Register {
    version: u64,
    value: Option<i64>,
}

/// An operation on a register. A version is known where the store told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Read { version: Option<u64>, value: Option<i64> },
    Write { version: Option<u64>, value: i64 },
    Cas { version: Option<u64>, from: i64, to: i64 },
}

impl Register {
    /// What becomes of the register, or `None` when the call can't have been answered so.
    fn step(self, call: Call) -> Option<Register> {
        let fits = |claimed: Option<u64>, version: u64| claimed.is_none_or(|claimed| claimed == version);
        match call {
            Call::Read { version, value } => (value == self.value && fits(version, self.version)).then_some(self),
            Call::Write { version, value } => {
                let next = self.version + 1;
                fits(version, next).then_some(Register { version: next, value: Some(value) })
            }
            Call::Cas { version, from, to } => {
                let next = self.version + 1;
                (self.value == Some(from) && fits(version, next)).then_some(Register { version: next, value: Some(to) })
            }
        }
    }
}

/// One call with the time in which it took effect. A call of unknown outcome never returns, and need not happen.
struct Span {
    call: Call,
    event: u64,
    from: u64,
    to: Option<u64>,
}

/// Checks the registers of `events`; all keys together may take `limit`.
pub fn check(events: &[Event], limit: Duration) -> Report {
    let deadline = Instant::now() + limit;
    let mut keys: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for operation in operations(events) {
        if let Some((key, span)) = span(&operation) {
            keys.entry(key).or_default().push(span);
        }
    }
    let (mut anomalies, mut undecided) = (Vec::new(), Vec::new());
    let count = keys.len();
    for (key, spans) in keys {
        match search(&spans, deadline) {
            Outcome::Linearizable => {}
            Outcome::Undecided => undecided.push(key),
            Outcome::Stuck { longest, culprit } => anomalies.push(Anomaly {
                name: "nonlinearizable".to_owned(),
                what: format!(
                    "key {key}: no order of its operations explains {:?}; the longest prefix that one explains has {longest} of {}",
                    spans[culprit].call,
                    spans.len()
                ),
                events: around(&spans, culprit),
                because: Vec::new(),
            }),
        }
    }
    let mut report = Report::of("linearizable", anomalies).note(format!("{count} keys"));
    if !undecided.is_empty() {
        report.verdict = report.verdict.and(Verdict::Unknown);
        report = report.note(format!("{} keys not decided within the time limit", undecided.len()));
    }
    report
}

/// The operations that overlap the one that can't be explained, and itself.
fn around(spans: &[Span], culprit: usize) -> Vec<u64> {
    let (from, to) = (spans[culprit].from, spans[culprit].to.unwrap_or(u64::MAX));
    let near = |span: &&Span| span.from <= to && span.to.is_none_or(|end| end >= from);
    spans.iter().filter(near).map(|span| span.event).take(64).collect()
}

/// The key and the span of an operation; nothing for one that is known not to have happened, or that tells nothing.
fn span(operation: &Operation<'_>) -> Option<(String, Span)> {
    let outcome = operation.outcome();
    if outcome == Kind::Fail {
        return None;
    }
    let pair = operation.value().as_array()?;
    let (key, value) = (pair.first()?.to_string(), pair.get(1)?);
    let version = operation.completed.and_then(|event| event.value.get(2)).and_then(Value::as_u64);
    let call = match operation.invoked.f.as_str() {
        "read" if outcome == Kind::Ok => Call::Read { version, value: value.as_i64() },
        "write" => Call::Write { version, value: value.as_i64()? },
        "cas" => Call::Cas { version, from: value.get(0)?.as_i64()?, to: value.get(1)?.as_i64()? },
        _ => return None,
    };
    let to = (outcome == Kind::Ok).then(|| operation.ended());
    Some((key, Span { call, event: operation.invoked.index, from: operation.invoked.time, to }))
}

enum Outcome {
    Linearizable,
    /// At most `longest` calls fit one order; `culprit` is the first call that had to fit and did not.
    Stuck {
        longest: usize,
        culprit: usize,
    },
    Undecided,
}

/// Where a call starts or ends, in a list linked by positions. Position 0 is the head.
#[derive(Clone, Copy, Debug)]
struct Node {
    call: usize,
    /// For a start: where it ends; 0 when it never does.
    end: usize,
    is_start: bool,
    before: usize,
    after: usize,
}

struct List(Vec<Node>);

const HEAD: usize = 0;

impl List {
    fn new(spans: &[Span]) -> List {
        let mut points: Vec<(u64, bool, usize)> = Vec::with_capacity(spans.len() * 2);
        for (call, span) in spans.iter().enumerate() {
            points.push((span.from, true, call));
            points.extend(span.to.map(|to| (to, false, call)));
        }
        // At the same time, starts come first: such calls overlap.
        points.sort_by_key(|&(time, is_start, call)| (time, !is_start, call));
        let mut nodes = vec![Node { call: usize::MAX, end: 0, is_start: false, before: 0, after: 0 }];
        let mut starts = vec![0; spans.len()];
        for (_, is_start, call) in points {
            let at = nodes.len();
            nodes[at - 1].after = at;
            nodes.push(Node { call, end: 0, is_start, before: at - 1, after: 0 });
            if is_start {
                starts[call] = at;
            } else {
                nodes[starts[call]].end = at;
            }
        }
        List(nodes)
    }

    fn unlink(&mut self, at: usize) {
        let Node { before, after, .. } = self.0[at];
        self.0[before].after = after;
        if after != 0 {
            self.0[after].before = before;
        }
    }

    fn relink(&mut self, at: usize) {
        let Node { before, after, .. } = self.0[at];
        self.0[before].after = at;
        if after != 0 {
            self.0[after].before = at;
        }
    }

    /// Takes a call out of the list.
    fn lift(&mut self, start: usize) {
        self.unlink(start);
        if self.0[start].end != 0 {
            self.unlink(self.0[start].end);
        }
    }

    /// Puts it back where it was. The last one lifted comes first.
    fn unlift(&mut self, start: usize) {
        if self.0[start].end != 0 {
            self.relink(self.0[start].end);
        }
        self.relink(start);
    }
}

/// Which calls stand in an order, as bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Set(Vec<u64>);

impl Set {
    fn flip(&mut self, call: usize) {
        self.0[call / 64] ^= 1 << (call % 64);
    }
}

/// How often the clock is looked at.
const STEPS_BETWEEN_LOOKS: u64 = 4096;

fn search(spans: &[Span], deadline: Instant) -> Outcome {
    let mut list = List::new(spans);
    let mut missing = spans.iter().filter(|span| span.to.is_some()).count();
    let mut register = Register::default();
    let mut placed = Set(vec![0; spans.len().div_ceil(64)]);
    let mut seen: HashSet<(Set, Register)> = HashSet::new();
    let mut stack: Vec<(usize, Register)> = Vec::new();
    let (mut longest, mut culprit) = (0, 0);
    let mut at = list.0[HEAD].after;
    let mut steps = 0_u64;
    while missing > 0 {
        steps += 1;
        if steps.is_multiple_of(STEPS_BETWEEN_LOOKS) && Instant::now() > deadline {
            return Outcome::Undecided;
        }
        let node = list.0[at];
        if at != HEAD && node.is_start {
            let span = &spans[node.call];
            if let Some(next) = register.step(span.call) {
                placed.flip(node.call);
                if seen.insert((placed.clone(), next)) {
                    stack.push((at, register));
                    register = next;
                    list.lift(at);
                    missing -= usize::from(span.to.is_some());
                    at = list.0[HEAD].after;
                    continue;
                }
                placed.flip(node.call);
            }
            at = node.after;
            continue;
        }
        // A call returns here that could not be placed before (or the list is at its end): take the last choice back.
        if at != HEAD && stack.len() >= longest {
            (longest, culprit) = (stack.len(), node.call);
        }
        let Some((start, before)) = stack.pop() else {
            return Outcome::Stuck { longest, culprit };
        };
        list.unlift(start);
        placed.flip(list.0[start].call);
        missing += usize::from(spans[list.0[start].call].to.is_some());
        register = before;
        at = list.0[start].after;
    }
    Outcome::Linearizable
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::Kind::{Fail, Info, Invoke, Ok};
    use crate::history::tests::history;

    const LIMIT: Duration = Duration::from_secs(10);

    fn verdict(rows: &[(u64, Kind, &str, Value)]) -> Verdict {
        check(&history(rows), LIMIT).verdict
    }

    #[test]
    fn a_read_sees_the_last_write() {
        let good = [
            (0, Invoke, "write", json!([1, 5])),
            (0, Ok, "write", json!([1, 5])),
            (1, Invoke, "read", json!([1, null])),
            (1, Ok, "read", json!([1, 5])),
        ];
        assert_eq!(verdict(&good), Verdict::True);
        let mut stale = good.clone();
        stale[3].3 = json!([1, null]);
        assert_eq!(verdict(&stale), Verdict::False);
    }

    #[test]
    fn overlapping_calls_may_take_either_order() {
        let rows = |first: i64, second: i64| {
            vec![
                (0, Invoke, "write", json!([1, 5])),
                (1, Invoke, "write", json!([1, 6])),
                (0, Ok, "write", json!([1, 5])),
                (1, Ok, "write", json!([1, 6])),
                (2, Invoke, "read", json!([1, null])),
                (2, Ok, "read", json!([1, first])),
                (2, Invoke, "read", json!([1, null])),
                (2, Ok, "read", json!([1, second])),
            ]
        };
        assert_eq!(verdict(&rows(5, 5)), Verdict::True);
        assert_eq!(verdict(&rows(6, 6)), Verdict::True);
        assert_eq!(verdict(&rows(5, 6)), Verdict::False);
    }

    #[test]
    fn a_write_of_unknown_outcome_may_happen_late_or_never() {
        let rows = |seen: Value| {
            vec![
                (0, Invoke, "write", json!([1, 5])),
                (0, Info, "write", json!([1, 5])),
                (1, Invoke, "write", json!([1, 6])),
                (1, Ok, "write", json!([1, 6])),
                (2, Invoke, "read", json!([1, null])),
                (2, Ok, "read", json!([1, seen])),
            ]
        };
        assert_eq!(verdict(&rows(json!(5))), Verdict::True);
        assert_eq!(verdict(&rows(json!(6))), Verdict::True);
        assert_eq!(verdict(&rows(json!(7))), Verdict::False);
    }

    #[test]
    fn a_failed_write_never_happens() {
        let rows = [
            (0, Invoke, "write", json!([1, 5])),
            (0, Fail, "write", json!([1, 5])),
            (1, Invoke, "read", json!([1, null])),
            (1, Ok, "read", json!([1, 5])),
        ];
        assert_eq!(verdict(&rows), Verdict::False);
    }

    #[test]
    fn versions_tell_a_lost_update_that_values_hide() {
        let rows = |version: u64| {
            vec![
                (0, Invoke, "write", json!([1, 5])),
                (0, Ok, "write", json!([1, 5, 1])),
                (0, Invoke, "write", json!([1, 5])),
                (0, Ok, "write", json!([1, 5, version])),
            ]
        };
        assert_eq!(verdict(&rows(2)), Verdict::True);
        assert_eq!(verdict(&rows(1)), Verdict::False);
    }

    #[test]
    fn cas_needs_its_value() {
        let rows = |from: i64| {
            vec![
                (0, Invoke, "write", json!([1, 5])),
                (0, Ok, "write", json!([1, 5])),
                (0, Invoke, "cas", json!([1, [from, 9]])),
                (0, Ok, "cas", json!([1, [from, 9]])),
            ]
        };
        assert_eq!(verdict(&rows(5)), Verdict::True);
        assert_eq!(verdict(&rows(4)), Verdict::False);
    }

    #[test]
    fn many_concurrent_calls_are_decided() {
        let mut rows = Vec::new();
        for round in 0..200_i64 {
            for process in 0..5 {
                rows.push((process, Invoke, "write", json!([1, round * 5 + process as i64])));
            }
            for process in 0..5 {
                rows.push((process, Ok, "write", json!([1, round * 5 + process as i64])));
            }
            rows.push((9, Invoke, "read", json!([1, null])));
            rows.push((9, Ok, "read", json!([1, round * 5 + round % 5])));
        }
        assert_eq!(verdict(&rows), Verdict::True);
        rows.push((9, Invoke, "read", json!([1, null])));
        rows.push((9, Ok, "read", json!([1, -1])));
        assert_eq!(verdict(&rows), Verdict::False);
    }

    /// Every history made by really running a register is accepted.
    #[test]
    fn real_registers_pass() {
        use proptest::prelude::*;
        proptest!(ProptestConfig::with_cases(64), |(choices in proptest::collection::vec((0u64..5, 0u8..3, 0i64..4), 1..80))| {
            let mut register = Register::default();
            let mut open: BTreeMap<u64, (u8, i64)> = BTreeMap::new();
            let mut rows = Vec::new();
            for (process, what, value) in choices {
                match open.remove(&process) {
                    None => {
                        let f = ["read", "write", "cas"][what as usize];
                        let argument = match what { 0 => json!([1, null]), 1 => json!([1, value]), _ => json!([1, [value, value + 1]]) };
                        rows.push((process, Invoke, f, argument));
                        open.insert(process, (what, value));
                    }
                    // It takes effect at its end.
                    Some((0, _)) => rows.push((process, Ok, "read", json!([1, register.value, register.version]))),
                    Some((1, value)) => {
                        register = register.step(Call::Write { version: None, value }).unwrap();
                        rows.push((process, Ok, "write", json!([1, value, register.version])));
                    }
                    Some((_, value)) => match register.step(Call::Cas { version: None, from: value, to: value + 1 }) {
                        Some(next) => {
                            register = next;
                            rows.push((process, Ok, "cas", json!([1, [value, value + 1], next.version])));
                        }
                        None => rows.push((process, Fail, "cas", json!([1, [value, value + 1]]))),
                    },
                }
            }
            prop_assert_eq!(verdict(&rows), Verdict::True);
        });
    }
}
