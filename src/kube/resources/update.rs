//! What an update may not change silently: parts of the object that belong to another path, and the metadata that the
//! server owns.

use serde_json::{Map, Value, json};

use super::resource::{Part, Resource};

/// Metadata the server owns: an update can leave it out, and gets the stored value.
const FILLED_IN: [&str; 3] = ["uid", "creationTimestamp", "generation"];
/// Metadata that an update can neither set nor clear.
const KEPT: [&str; 3] = ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"];

/// A write to the object keeps the stored status; a write to the status keeps everything else but the metadata that
/// status writers own (upstream lets them change labels, annotations and finalizers of no kind but through managed
/// fields, so the stored metadata stays, except `managedFields` and `resourceVersion`).
pub(super) fn keep_foreign_parts(resource: &Resource, part: Part<'_>, new: &mut Value, old: &Value) {
    match part {
        Part::Main if resource.has_status() => put_back(new, old, "status"),
        Part::Main | Part::Other(_) => {}
        Part::Status => keep_all_but_status(new, old),
    }
}

fn keep_all_but_status(new: &mut Value, old: &Value) {
    let Some(map) = new.as_object_mut() else { return };
    let status = map.shift_remove("status");
    let metadata = map.shift_remove("metadata").unwrap_or_default();
    let mut kept = old.as_object().cloned().unwrap_or_default();
    match status {
        Some(status) => kept.insert("status".into(), status),
        None => kept.shift_remove("status"),
    };
    if let Some(own) = kept.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "name", "namespace", "uid"] {
            match metadata.get(field) {
                Some(value) => own.insert(field.into(), value.clone()),
                None => own.shift_remove(field),
            };
        }
    }
    *map = kept;
}

pub(super) fn keep_server_metadata(new: &mut Value, old: &Value) {
    let (Some(new), Some(old)) = (new["metadata"].as_object_mut(), old["metadata"].as_object()) else { return };
    for field in FILLED_IN {
        if is_blank(new.get(field)) || field == "generation" {
            set_or_remove(new, field, old.get(field));
        }
    }
    for field in KEPT {
        set_or_remove(new, field, old.get(field));
    }
    // Finalizers may only shrink while an object is going; that is checked in validation, where it has a text.
}

/// The generation grows by one when the wishes change: the spec, or everything but status and metadata of kinds that
/// have none.
pub(super) fn count_generation(resource: &Resource, new: &mut Value, old: &Value) {
    if !resource.has_generation || !wishes_differ(resource, new, old) {
        return;
    }
    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
    if let Some(metadata) = new["metadata"].as_object_mut() {
        metadata.insert("generation".into(), json!(generation));
    }
}

fn wishes_differ(resource: &Resource, new: &Value, old: &Value) -> bool {
    let own = ["apiVersion", "kind", "metadata", "status"];
    let wishes = |value: &Value| -> Map<String, Value> {
        let fields = value.as_object().into_iter().flatten();
        fields.filter(|(key, _)| !own.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    if wishes(new) != wishes(old) {
        return true;
    }
    // A deployment's annotations reach its replica sets, so they count as a wish.
    resource.kind == "Deployment"
        && resource.group == "apps"
        && new["metadata"]["annotations"] != old["metadata"]["annotations"]
}

fn is_blank(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    }
}

fn set_or_remove(map: &mut Map<String, Value>, field: &str, value: Option<&Value>) {
    match value {
        Some(value) => map.insert(field.into(), value.clone()),
        None => map.shift_remove(field),
    };
}

fn put_back(new: &mut Value, old: &Value, field: &str) {
    if let Some(map) = new.as_object_mut() {
        set_or_remove(map, field, old.get(field));
    }
}
