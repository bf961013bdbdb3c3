//! Configuration, quotas, accounts and roles.

use serde_json::{Value, json};

use super::age;
use super::table::Printer;
use super::words::{created_at, name};
use crate::kube::tree::{entries, items, plain, text};

pub fn config_map() -> Printer {
    Printer::new(&[("Name", "string", 0), ("Data", "string", 0), ("Age", "string", 0)], |object, now| {
        let count = entries(object, "data").len() + entries(object, "binaryData").len();
        vec![name(object), json!(count), age::of(object, now)]
    })
}

pub fn secret() -> Printer {
    let columns = [("Name", "string", 0), ("Type", "string", 0), ("Data", "string", 0), ("Age", "string", 0)];
    Printer::new(&columns, |object, now| {
        vec![name(object), object["type"].clone(), json!(entries(object, "data").len()), age::of(object, now)]
    })
}

pub fn service_account() -> Printer {
    Printer::new(&[("Name", "string", 0), ("Secrets", "string", 0), ("Age", "string", 0)], |object, now| {
        vec![name(object), json!(items(object, "secrets").len()), age::of(object, now)]
    })
}

/// Roles and limit ranges.
pub fn name_and_creation() -> Printer {
    Printer::new(&[("Name", "string", 0), ("Created At", "date", 0)], |object, _| {
        vec![name(object), created_at(object)]
    })
}

pub fn resource_quota() -> Printer {
    let columns = [("Name", "string", 0), ("Request", "string", 0), ("Limit", "string", 0), ("Age", "string", 0)];
    Printer::new(&columns, |object, now| {
        let (hard, used) = (entries(&object["status"], "hard"), entries(&object["status"], "used"));
        let mut names: Vec<&String> = hard.keys().collect();
        names.sort();
        let (limits, requests): (Vec<&String>, Vec<&String>) =
            names.into_iter().partition(|name| name.starts_with("limits"));
        let tell = |names: Vec<&String>| {
            let used = |name: &String| used.get(name).map_or("0".to_owned(), plain);
            let all = names.into_iter().map(|name| format!("{name}: {}/{}", used(name), plain(&hard[name])));
            json!(all.collect::<Vec<_>>().join(", "))
        };
        vec![name(object), tell(requests), tell(limits), age::of(object, now)]
    })
}

/// Role bindings and cluster role bindings.
pub fn role_binding() -> Printer {
    let columns = [
        ("Name", "string", 0),
        ("Role", "string", 0),
        ("Age", "string", 0),
        ("Users", "string", 1),
        ("Groups", "string", 1),
        ("ServiceAccounts", "string", 1),
    ];
    Printer::new(&columns, |object, now| {
        let role = &object["roleRef"];
        vec![
            name(object),
            json!(format!("{}/{}", text(role, "kind"), text(role, "name"))),
            age::of(object, now),
            subjects(object, "User"),
            subjects(object, "Group"),
            subjects(object, "ServiceAccount"),
        ]
    })
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let all = items(binding, "subjects").iter().filter(|subject| subject["kind"] == kind);
    let names = all.map(|subject| match (kind, text(subject, "namespace")) {
        ("ServiceAccount", namespace) if !namespace.is_empty() => format!("{namespace}/{}", text(subject, "name")),
        _ => text(subject, "name").to_owned(),
    });
    json!(names.collect::<Vec<_>>().join(", "))
}
