//! Events.

use serde_json::{Value, json};

use super::age;
use super::table::Printer;
use super::words::name;
use crate::kube::tree::{has, text};

pub fn event() -> Printer {
    let columns = [
        ("Last Seen", "string", 0),
        ("Type", "string", 0),
        ("Reason", "string", 0),
        ("Object", "string", 0),
        ("Subobject", "string", 1),
        ("Source", "string", 1),
        ("Message", "string", 0),
        ("First Seen", "string", 1),
        ("Count", "string", 1),
        ("Name", "string", 1),
    ];
    Printer::new(&columns, |event, now| {
        let first = if has(event, "firstTimestamp") { &event["firstTimestamp"] } else { &event["eventTime"] };
        let series = &event["series"];
        let last = match () {
            () if series.is_object() => &series["lastObservedTime"],
            () if has(event, "lastTimestamp") => &event["lastTimestamp"],
            () => first,
        };
        let count = if series.is_object() { &series["count"] } else { &event["count"] };
        vec![
            json!(age::since(last, now)),
            json!(text(event, "type")),
            json!(text(event, "reason")),
            json!(object(&event["involvedObject"])),
            json!(text(&event["involvedObject"], "fieldPath")),
            json!(source(event)),
            json!(text(event, "message").trim()),
            json!(age::since(first, now)),
            json!(count.as_i64().unwrap_or(0).max(1)),
            name(event),
        ]
    })
}

fn object(involved: &Value) -> String {
    let kind = text(involved, "kind").to_lowercase();
    match text(involved, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let source = &event["source"];
    let (component, host) = match text(source, "component") {
        "" => (text(event, "reportingComponent"), text(event, "reportingInstance")),
        component => (component, text(source, "host")),
    };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}
