//! Nodes, namespaces, leases.

use serde_json::{Value, json};

use super::age;
use super::table::Printer;
use super::words::{name, or_none};
use crate::kube::tree::{entries, items, plain, text};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

pub fn node() -> Printer {
    let columns = [
        ("Name", "string", 0),
        ("Status", "string", 0),
        ("Roles", "string", 0),
        ("Age", "string", 0),
        ("Version", "string", 0),
        ("Internal-IP", "string", 1),
        ("External-IP", "string", 1),
        ("OS-Image", "string", 1),
        ("Kernel-Version", "string", 1),
        ("Container-Runtime", "string", 1),
    ];
    Printer::new(&columns, |node, now| {
        let info = &node["status"]["nodeInfo"];
        let known = |field: &str| json!(if text(info, field).is_empty() { "<unknown>" } else { text(info, field) });
        vec![
            name(node),
            json!(status(node)),
            or_none(&roles(node)),
            age::of(node, now),
            json!(text(info, "kubeletVersion")),
            or_none(address(node, "InternalIP")),
            or_none(address(node, "ExternalIP")),
            known("osImage"),
            known("kernelVersion"),
            known("containerRuntimeVersion"),
        ]
    })
}

fn status(node: &Value) -> String {
    let ready = items(&node["status"], "conditions").iter().find(|one| one["type"] == "Ready");
    let mut word = match ready {
        Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node["spec"]["unschedulable"] == true {
        word.push_str(",SchedulingDisabled");
    }
    word
}

fn roles(node: &Value) -> String {
    let labels = entries(&node["metadata"], "labels").iter();
    let mut roles: Vec<String> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) if !role.is_empty() => Some(role.to_owned()),
            _ if key == ROLE_LABEL => Some(plain(value)).filter(|role| !role.is_empty()),
            _ => None,
        })
        .collect();
    roles.sort();
    roles.dedup();
    roles.join(",")
}

fn address<'a>(node: &'a Value, type_: &str) -> &'a str {
    let found = items(&node["status"], "addresses").iter().find(|one| one["type"] == type_);
    found.map_or("", |one| text(one, "address"))
}

pub fn namespace() -> Printer {
    Printer::new(&[("Name", "string", 0), ("Status", "string", 0), ("Age", "string", 0)], |object, now| {
        vec![name(object), object["status"]["phase"].clone(), age::of(object, now)]
    })
}

pub fn lease() -> Printer {
    Printer::new(&[("Name", "string", 0), ("Holder", "string", 0), ("Age", "string", 0)], |object, now| {
        vec![name(object), json!(text(&object["spec"], "holderIdentity")), age::of(object, now)]
    })
}
