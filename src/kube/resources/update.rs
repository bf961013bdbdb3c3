//! What an update may not change silently: fields that belong to another subresource, and the metadata that the
//! server owns.

use serde_json::{Map, Value, json};

use super::resource::{Resource, Subresource};
use crate::kube::tree::{get_mut, items, items_mut, map_mut};

/// Metadata the server owns: an update can leave it out, and gets the stored value.
const FILLED_IN: [&str; 3] = ["uid", "creationTimestamp", "generation"];
/// Metadata that an update can neither set nor clear.
const KEPT: [&str; 3] = ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"];

/// A write to the object keeps the stored status; a write to a subresource keeps every field that is not its own.
pub(super) fn reset_fields(resource: &Resource, subresource: Subresource<'_>, new: &mut Value, old: &Value) {
    match subresource {
        Subresource::None if resource.has_status() => put_back(new, old, "status"),
        Subresource::None => {}
        Subresource::Status => keep_all_but_status(resource, new, old),
        Subresource::Other("ephemeralcontainers") => keep_all_but(new, old, &["ephemeralContainers"]),
        Subresource::Other("finalize") => keep_all_but(new, old, &["finalizers"]),
        Subresource::Other("resize") => keep_all_but_resources(new, old),
        Subresource::Other(_) => put_back(new, old, "status"),
    }
}

/// Of the new state only these fields of the spec count.
fn keep_all_but(new: &mut Value, old: &Value, fields: &[&str]) {
    let mut kept = old.clone();
    for field in fields {
        if let Some(spec) = map_mut(&mut kept, "spec") {
            set_or_remove(spec, field, new["spec"].get(field));
        }
    }
    keep_writers_metadata(&mut kept, new);
    *new = kept;
}

/// Of the new state only the resources of its containers count.
fn keep_all_but_resources(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    for list in ["containers", "initContainers"] {
        if let Some(spec) = get_mut(&mut kept, "spec") {
            for container in items_mut(spec, list) {
                let wanted = items(&new["spec"], list).iter().find(|one| one["name"] == container["name"]);
                if let (Some(wanted), Some(container)) = (wanted, container.as_object_mut()) {
                    set_or_remove(container, "resources", wanted.get("resources"));
                }
            }
        }
    }
    keep_writers_metadata(&mut kept, new);
    *new = kept;
}

/// What a write to a subresource says about the object: which one it is, at which version, and who manages it.
fn keep_writers_metadata(kept: &mut Value, new: &Value) {
    if let Some(own) = kept.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "name", "namespace", "uid"] {
            set_or_remove(own, field, new["metadata"].get(field));
        }
    }
}

fn keep_all_but_status(resource: &Resource, new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    if let Some(map) = kept.as_object_mut() {
        set_or_remove(map, "status", new.get("status"));
    }
    if resource.status_takes_annotations
        && let Some(metadata) = kept.get_mut("metadata").and_then(Value::as_object_mut)
    {
        set_or_remove(metadata, "annotations", new["metadata"].get("annotations"));
    }
    keep_writers_metadata(&mut kept, new);
    *new = kept;
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
}

/// The generation grows by one when the desired state changes: the spec, or everything but status and metadata of kinds
/// that have none.
pub(super) fn count_generation(resource: &Resource, new: &mut Value, old: &Value) {
    if !resource.has_generation || !desired_state_differs(resource, new, old) {
        return;
    }
    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
    if let Some(metadata) = new["metadata"].as_object_mut() {
        metadata.insert("generation".into(), json!(generation));
    }
}

fn desired_state_differs(resource: &Resource, new: &Value, old: &Value) -> bool {
    let own = ["apiVersion", "kind", "metadata", "status"];
    let desired = |value: &Value| -> Map<String, Value> {
        let fields = value.as_object().into_iter().flatten();
        fields.filter(|(key, _)| !own.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    if desired(new) != desired(old) {
        return true;
    }
    // A deployment's annotations reach its replica sets, so they count as desired state.
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
