//! Defaults of the smaller kinds.

use base64::Engine;
use serde_json::{Value, json};

use crate::kube::tree::{entries, fill, get_mut, has, items_mut, map_mut, remove, text};

const RBAC: &str = "rbac.authorization.k8s.io";
/// How long a service-account token lives that does not say.
const TOKEN_SECONDS: i64 = 3600;

/// Every namespace carries its name as a label, so that selectors can name it.
pub fn namespace(object: &mut Value) {
    let name = text(&object["metadata"], "name").to_owned();
    if let (false, Some(labels)) =
        (name.is_empty(), object.get_mut("metadata").and_then(|meta| map_mut(meta, "labels")))
    {
        labels.insert("kubernetes.io/metadata.name".into(), json!(name));
    }
    fill(object, "spec", json!({}));
}

/// A new namespace is active, and goes only when the namespace controller has emptied it.
pub fn new_namespace(object: &mut Value) {
    fill(object, "spec", json!({}));
    let finalizers = object["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
    let kubernetes = json!("kubernetes");
    if !finalizers.contains(&kubernetes) {
        object["spec"]["finalizers"] = finalizers.into_iter().chain([kubernetes]).collect();
    }
    object["status"] = json!({"phase": "Active"});
}

/// The finalizers of a namespace change through `/finalize` alone.
pub fn keep_namespace_finalizers(new: &mut Value, old: &Value) {
    if let Some(spec) = map_mut(new, "spec") {
        match old["spec"].get("finalizers") {
            Some(finalizers) => spec.insert("finalizers".into(), finalizers.clone()),
            None => spec.shift_remove("finalizers"),
        };
    }
}

pub fn node(object: &mut Value) {
    fill(object, "spec", json!({}));
    if let Some(status) = get_mut(object, "status")
        && !has(status, "allocatable")
        && has(status, "capacity")
    {
        let capacity = status["capacity"].clone();
        fill(status, "allocatable", capacity);
    }
}

/// `stringData` is a way to write `data`, never read.
pub fn secret(object: &mut Value) {
    fill(object, "type", "Opaque");
    let Some(Value::Object(plain)) = remove(object, "stringData") else { return };
    let Some(data) = map_mut(object, "data") else { return };
    for (key, value) in plain {
        let encoded = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
        data.insert(key, json!(encoded));
    }
}

/// Limits of containers follow from each other: default from max, default request from default, else from min.
pub fn limit_range(object: &mut Value) {
    let Some(spec) = get_mut(object, "spec") else { return };
    for item in items_mut(spec, "limits").filter(|item| text(item, "type") == "Container") {
        copy_missing(item, "max", "default");
        copy_missing(item, "default", "defaultRequest");
        copy_missing(item, "min", "defaultRequest");
    }
}

fn copy_missing(item: &mut Value, from: &str, to: &str) {
    let source = entries(item, from).clone();
    if source.is_empty() {
        return;
    }
    if let Some(target) = map_mut(item, to) {
        for (name, value) in source {
            target.entry(name).or_insert(value);
        }
    }
}

/// Role bindings: the API groups of subjects and role.
pub fn role_binding(object: &mut Value) {
    if let Some(role) = get_mut(object, "roleRef") {
        fill(role, "apiGroup", RBAC);
    }
    for subject in items_mut(object, "subjects") {
        match text(subject, "kind") {
            "User" | "Group" => fill(subject, "apiGroup", RBAC),
            _ => {}
        }
    }
}

pub fn resource_quota(object: &mut Value) {
    fill(object, "spec", json!({}));
}

/// The body of `serviceaccounts/token`.
pub fn token_request(object: &mut Value) {
    fill(object, "spec", json!({}));
    if let Some(spec) = get_mut(object, "spec") {
        fill(spec, "expirationSeconds", TOKEN_SECONDS);
    }
}
