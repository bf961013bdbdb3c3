//! Histories: what clients and the nemesis did, in the order in which it was seen.
//!
//! An operation is invoked and then completed by the same process: `ok` when it happened, `fail` when it surely did
//! not, `info` when that is unknown. A write that timed out is `info`; its process takes no further part, since the write
//! may still happen at any later time.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an event says of its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// Who acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Process {
    Nemesis,
    #[serde(untagged)]
    Client(u64),
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub index: u64,
    /// Nanoseconds since the run began, by one monotonic clock.
    pub time: u64,
    pub process: Process,
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What was asked for: `read`, `write`, `cas`, `txn`, `add`, ...; of the nemesis: which fault.
    pub f: String,
    /// Its argument, and once it is `ok` its result. For an operation on one of many keys: `[key, value]`.
    pub value: Value,
    /// Which member was asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// Where events are written down. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    began: Instant,
    events: Mutex<Vec<Event>>,
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder(Arc::new(Inner { began: Instant::now(), events: Mutex::default() }))
    }
}

impl Recorder {
    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_nanos()).expect("a run ends before centuries have passed")
    }

    /// Notes an event. The time is taken under the lock, so that the order of the list is the order of the times.
    pub fn note(&self, process: Process, kind: Kind, f: &str, value: Value, node: Option<&str>, error: Option<String>) {
        let mut events = self.0.events.lock().unwrap_or_else(PoisonError::into_inner);
        let (index, time) = (events.len() as u64, self.now());
        events.push(Event { index, time, process, kind, f: f.to_owned(), value, node: node.map(str::to_owned), error });
    }

    /// How many events there are.
    pub fn count(&self) -> usize {
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// All that was noted so far.
    pub fn take(&self) -> Vec<Event> {
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An operation: what was invoked and how it ended.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    pub invoked: &'a Event,
    /// `None` when the run ended before it did, which says as little as `info`.
    pub completed: Option<&'a Event>,
}

impl Operation<'_> {
    pub fn outcome(&self) -> Kind {
        self.completed.map_or(Kind::Info, |event| event.kind)
    }

    /// The argument, or once it is known the result.
    pub fn value(&self) -> &Value {
        match self.completed {
            Some(event) if event.kind == Kind::Ok => &event.value,
            _ => &self.invoked.value,
        }
    }

    /// When it was over; never, for one whose outcome is unknown.
    pub fn ended(&self) -> u64 {
        match self.completed {
            Some(event) if event.kind != Kind::Info => event.time,
            _ => u64::MAX,
        }
    }
}

/// The operations of clients, in the order of their invocation.
pub fn operations(events: &[Event]) -> Vec<Operation<'_>> {
    let mut operations: Vec<Operation<'_>> = Vec::new();
    let mut open = std::collections::BTreeMap::new();
    for event in events.iter().filter(|event| event.process != Process::Nemesis) {
        if event.kind == Kind::Invoke {
            open.insert(event.process, operations.len());
            operations.push(Operation { invoked: event, completed: None });
        } else if let Some(at) = open.remove(&event.process) {
            operations[at].completed = Some(event);
        }
    }
    operations
}

/// One JSON object a line.
pub fn to_json_lines(events: &[Event]) -> String {
    let mut text = String::new();
    for event in events {
        text.push_str(&serde_json::to_string(event).expect("an event is JSON"));
        text.push('\n');
    }
    text
}

/// Reads what [`to_json_lines`] wrote. The error names the line.
pub fn from_json_lines(text: &str) -> Result<Vec<Event>, String> {
    let read = |(number, line)| serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1));
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(read).collect()
}

/// The names of micro-operations, which EDN writes as keywords.
const KEYWORDS: [&str; 3] = ["append", "r", "w"];

/// One EDN map a line, as Jepsen's tools read histories.
pub fn to_edn(events: &[Event]) -> String {
    let mut text = String::new();
    for event in events {
        let process = match event.process {
            Process::Nemesis => ":nemesis".to_owned(),
            Process::Client(number) => number.to_string(),
        };
        let kind = match event.kind {
            Kind::Invoke => "invoke",
            Kind::Ok => "ok",
            Kind::Fail => "fail",
            Kind::Info => "info",
        };
        let Event { index, time, f, .. } = event;
        let _ = write!(text, "{{:index {index}, :time {time}, :process {process}, :type :{kind}, :f :{f}, :value ");
        edn(&event.value, &mut text);
        if let Some(error) = &event.error {
            let _ = write!(text, ", :error {}", Value::from(error.as_str()));
        }
        text.push_str("}\n");
    }
    text
}

fn edn(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("nil"),
        Value::String(word) if KEYWORDS.contains(&word.as_str()) => {
            let _ = write!(text, ":{word}");
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = write!(text, "{value}");
        }
        Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(' ');
                }
                edn(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            text.push('{');
            for (at, (name, item)) in fields.iter().enumerate() {
                let _ = write!(text, "{}:{name} ", if at > 0 { ", " } else { "" });
                edn(item, text);
            }
            text.push('}');
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A history from rows of process, kind, f, value; one nanosecond apart.
    pub(crate) fn history(rows: &[(u64, Kind, &str, Value)]) -> Vec<Event> {
        let event = |(index, (process, kind, f, value)): (usize, &(u64, Kind, &str, Value))| Event {
            index: index as u64,
            time: index as u64,
            process: Process::Client(*process),
            kind: *kind,
            f: (*f).to_owned(),
            value: value.clone(),
            node: None,
            error: None,
        };
        rows.iter().enumerate().map(event).collect()
    }

    #[test]
    fn lines_are_read_back_as_written() {
        let mut events = history(&[
            (0, Kind::Invoke, "write", json!([7, 1])),
            (1, Kind::Invoke, "txn", json!([["append", 3, 1], ["r", 3, null]])),
            (0, Kind::Ok, "write", json!([7, 1])),
        ]);
        events[2].error = Some("\"odd\"".to_owned());
        events[2].process = Process::Nemesis;
        assert_eq!(from_json_lines(&to_json_lines(&events)).unwrap(), events);
        assert!(from_json_lines("{}").unwrap_err().starts_with("line 1: "));
    }

    #[test]
    fn edn_is_what_elle_reads() {
        let events = history(&[(1, Kind::Ok, "txn", json!([["append", 3, 1], ["r", 3, [1, 2]], ["r", 4, null]]))]);
        assert_eq!(
            to_edn(&events),
            "{:index 0, :time 0, :process 1, :type :ok, :f :txn, :value [[:append 3 1] [:r 3 [1 2]] [:r 4 nil]]}\n"
        );
    }

    #[test]
    fn completions_are_paired_with_their_invocations() {
        let events = history(&[
            (0, Kind::Invoke, "read", json!([1, null])),
            (1, Kind::Invoke, "write", json!([1, 5])),
            (0, Kind::Ok, "read", json!([1, 4])),
            (1, Kind::Info, "write", json!([1, 5])),
            (2, Kind::Invoke, "read", json!([1, null])),
        ]);
        let operations = operations(&events);
        let outcomes: Vec<Kind> = operations.iter().map(Operation::outcome).collect();
        assert_eq!(outcomes, [Kind::Ok, Kind::Info, Kind::Info]);
        assert_eq!((operations[0].ended(), operations[1].ended()), (2, u64::MAX));
        assert_eq!(operations[0].value(), &json!([1, 4]));
    }
}
