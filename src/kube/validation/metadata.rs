//! The rules of `metadata`, the same for every kind.

use serde_json::Value;

use super::field::{FieldErrors, Path};
use crate::kube::names::{self, NameRule};

/// All annotations of an object together.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;

/// Name, namespace, labels, annotations, owners and finalizers of a new state.
pub fn validate_metadata(object: &Value, is_namespaced: bool, name_rule: NameRule, errors: &mut FieldErrors) {
    let metadata = &object["metadata"];
    let path = Path::new("metadata");
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    let generate_name = text("generateName");
    if !generate_name.is_empty() {
        for rule in name_rule(generate_name, true) {
            errors.invalid(&path.child("generateName"), generate_name, rule);
        }
    }
    match text("name") {
        "" => errors.required(&path.child("name"), "name or generateName is required"),
        name => {
            for rule in name_rule(name, false) {
                errors.invalid(&path.child("name"), name, rule);
            }
        }
    }
    match (is_namespaced, text("namespace")) {
        (true, "") => errors.required(&path.child("namespace"), ""),
        (true, namespace) => {
            for rule in names::dns_label(namespace, false) {
                errors.invalid(&path.child("namespace"), namespace, rule);
            }
        }
        (false, "") => {}
        (false, _) => errors.forbidden(&path.child("namespace"), "not allowed on this type"),
    }
    validate_labels(&metadata["labels"], &path.child("labels"), errors);
    validate_annotations(&metadata["annotations"], &path.child("annotations"), errors);
    validate_owners(&metadata["ownerReferences"], &path.child("ownerReferences"), errors);
    validate_finalizers(&metadata["finalizers"], &path.child("finalizers"), errors);
}

/// Labels: qualified names with short values.
pub fn validate_labels(labels: &Value, path: &Path, errors: &mut FieldErrors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for rule in names::qualified_name(key) {
            errors.invalid(path, key.as_str(), rule);
        }
        let value = value.as_str().unwrap_or_default();
        for rule in names::label_value(value) {
            errors.invalid(path, value, rule);
        }
    }
}

fn validate_annotations(annotations: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        for rule in names::qualified_name(&key.to_ascii_lowercase()) {
            errors.invalid(path, key.as_str(), rule);
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

fn validate_owners(owners: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut controllers: Vec<String> = Vec::new();
    for (index, owner) in owners.as_array().into_iter().flatten().enumerate() {
        let path = path.index(index);
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let detail = if field == "apiVersion" { "version must not be empty" } else { "must not be empty" };
                errors.invalid(&path.child(field), "", detail);
            }
        }
        if owner["controller"] == Value::Bool(true) {
            controllers.push(format!("{}/{}", text(owner, "kind"), text(owner, "name")));
        }
    }
    if let [first, second, ..] = &controllers[..] {
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
        );
        errors.invalid(path, owners.clone(), detail);
    }
}

fn validate_finalizers(finalizers: &Value, path: &Path, errors: &mut FieldErrors) {
    let all = || finalizers.as_array().into_iter().flatten().filter_map(Value::as_str);
    for finalizer in all() {
        for rule in names::qualified_name(finalizer) {
            errors.invalid(path, finalizer, rule);
        }
    }
    if all().any(|text| text == "orphan") && all().any(|text| text == "foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.invalid(path, finalizers.clone(), detail);
    }
}

/// What an update may not change in the metadata.
pub fn validate_metadata_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    let (new, old) = (&new["metadata"], &old["metadata"]);
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        if new[field] != old[field] {
            errors.invalid(&path.child(field), new[field].clone(), "field is immutable");
        }
    }
    if old["deletionTimestamp"].is_null() {
        return;
    }
    let known = |finalizer: &Value| old["finalizers"].as_array().is_some_and(|all| all.contains(finalizer));
    let added: Vec<Value> =
        new["finalizers"].as_array().into_iter().flatten().filter(|finalizer| !known(finalizer)).cloned().collect();
    if !added.is_empty() {
        let added: Vec<String> = added.iter().filter_map(Value::as_str).map(|text| format!("{text:?}")).collect();
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        errors.forbidden(&path.child("finalizers"), detail);
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
