//! Deployments, replica sets, replication controllers.

use serde_json::{Value, json};

use super::age;
use super::table::Printer;
use super::words::{containers_and_images, labels, name, number, selector};

pub fn deployment() -> Printer {
    let columns = [
        ("Name", "string", 0),
        ("Ready", "string", 0),
        ("Up-to-date", "string", 0),
        ("Available", "string", 0),
        ("Age", "string", 0),
        ("Containers", "string", 1),
        ("Images", "string", 1),
        ("Selector", "string", 1),
    ];
    Printer::new(&columns, |object, now| {
        let ready = number(object, "/status/readyReplicas");
        let wanted = number(object, "/spec/replicas");
        let [containers, images] = containers_and_images(&object["spec"]["template"]["spec"]);
        vec![
            name(object),
            json!(format!("{ready}/{wanted}")),
            number(object, "/status/updatedReplicas"),
            number(object, "/status/availableReplicas"),
            age::of(object, now),
            containers,
            images,
            selector(&object["spec"]["selector"]),
        ]
    })
}

const REPLICA_COLUMNS: [(&str, &str, u32); 8] = [
    ("Name", "string", 0),
    ("Desired", "integer", 0),
    ("Current", "integer", 0),
    ("Ready", "integer", 0),
    ("Age", "string", 0),
    ("Containers", "string", 1),
    ("Images", "string", 1),
    ("Selector", "string", 1),
];

pub fn replica_set() -> Printer {
    Printer::new(&REPLICA_COLUMNS, |object, now| replicas(object, now, selector(&object["spec"]["selector"])))
}

pub fn replication_controller() -> Printer {
    Printer::new(&REPLICA_COLUMNS, |object, now| replicas(object, now, labels(&object["spec"], "selector")))
}

fn replicas(object: &Value, now: jiff::Timestamp, selector: Value) -> Vec<Value> {
    let [containers, images] = containers_and_images(&object["spec"]["template"]["spec"]);
    vec![
        name(object),
        number(object, "/spec/replicas"),
        number(object, "/status/replicas"),
        number(object, "/status/readyReplicas"),
        age::of(object, now),
        containers,
        images,
        selector,
    ]
}
