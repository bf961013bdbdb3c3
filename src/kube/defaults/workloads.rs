//! Defaults of deployments, replica sets and replication controllers.

use serde_json::{Map, Value, json};

use super::pod;
use crate::kube::tree::{entries, fill, get_mut, text};

pub fn deployment(object: &mut Value) {
    let Some(spec) = get_mut(object, "spec") else { return };
    fill(spec, "replicas", 1);
    fill(spec, "strategy", Map::new());
    if let Some(strategy) = get_mut(spec, "strategy") {
        fill(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate" {
            fill(strategy, "rollingUpdate", Map::new());
            fill(&mut strategy["rollingUpdate"], "maxUnavailable", "25%");
            fill(&mut strategy["rollingUpdate"], "maxSurge", "25%");
        }
    }
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
    pod::template(spec);
}

pub fn replica_set(object: &mut Value) {
    let Some(spec) = get_mut(object, "spec") else { return };
    fill(spec, "replicas", 1);
    pod::template(spec);
}

/// A replication controller takes its labels and its selector from its template.
pub fn replication_controller(object: &mut Value) {
    let Some(spec) = get_mut(object, "spec") else { return };
    fill(spec, "replicas", 1);
    pod::template(spec);
    let labels = entries(&spec["template"]["metadata"], "labels").clone();
    if labels.is_empty() {
        return;
    }
    if entries(spec, "selector").is_empty() {
        spec["selector"] = json!(labels);
    }
    if entries(&object["metadata"], "labels").is_empty()
        && let Some(metadata) = object["metadata"].as_object_mut()
    {
        metadata.insert("labels".into(), json!(labels));
    }
}

/// Nothing runs yet.
pub fn no_replicas(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert("status".into(), json!({"replicas": 0}));
    }
}
