//! Server-side apply: who manages which fields of an object, and what happens when managers disagree. Pure.
//!
//! ```text
//!   live object + managedFields ─┐
//!                                ├─▶ apply ─▶ merged object + new managedFields, or a conflict (409)
//!   configuration of a manager ──┘
//!   stored + wanted state ────────▶ track ─▶ managedFields of a plain create, update or patch
//! ```
//!
//! - this file: apply and track
//! - [`set`]: sets of fields and their `fieldsV1` form
//! - [`shape`]: taking values apart, merging and comparing them by schema
//! - [`entries`]: the list `metadata.managedFields`

mod entries;
mod set;
mod shape;

use serde_json::Value;

use super::schema::Schemas;
use super::status::{Cause, Details, Status};
use entries::{Entries, Entry};
use set::Set;
use shape::{Changes, Shape, Walk};

pub use entries::{Manager, Operation};

/// Fields that no manager owns: those of the server, and those that identify the object.
const UNMANAGED: [&str; 12] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
    "generateName",
    "clusterName",
];

/// Applies `config`, all that `manager` wants to say about an object, to `live` (`None`: it does not exist yet). Fields
/// that the manager no longer mentions and no other manager owns are removed. The result has new `managedFields`; it is
/// neither defaulted nor checked yet. The `Err` is a 409 that names the fields of other managers that differ; with
/// `force` they are taken over.
pub fn apply(
    schemas: &Schemas,
    definition: &str,
    live: Option<&Value>,
    config: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, Status> {
    let (walk, shape) = (Walk { schemas }, Shape::root(schemas, definition));
    let mut entries = live.map(Entries::of).unwrap_or_default();
    let config = without_managed_fields(config);
    let wanted = owned_fields(walk, &config, shape, manager);
    let before = entries.take(manager, Operation::Apply);
    let others = entries.all_fields();

    let mut merged = walk.merge(live, &config, shape);
    let gone = before.map(|entry| entry.fields).unwrap_or_default().without(&wanted).without(&others);
    let mut kept = others.clone();
    kept.add(&wanted);
    walk.remove(&mut merged, &gone, &kept, shape);

    let changes = changes(walk, live, &merged, shape);
    let conflicts = entries.conflicts(&changes.set);
    if !force && !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    entries.disown(&changes);
    entries.put(Entry::new(manager, Operation::Apply, wanted));
    entries.write(&mut merged);
    Ok(merged)
}

/// Notes in the `managedFields` of `new` what a plain create (`live` is `None`), update or patch by `manager` changed.
pub fn track(schemas: &Schemas, definition: &str, live: Option<&Value>, new: &mut Value, manager: &Manager<'_>) {
    let (walk, shape) = (Walk { schemas }, Shape::root(schemas, definition));
    // A writer that sends the field empties or keeps the list; it cannot make entries up.
    let resets = new["metadata"]["managedFields"]
        .as_array()
        .is_some_and(|list| list.is_empty() || list[0] == Value::Object(Default::default()));
    let mut entries = if resets { Entries::default() } else { live.map(Entries::of).unwrap_or_default() };
    let changes = changes(walk, live, new, shape);
    entries.disown(&changes);
    if !changes.set.is_empty() {
        let mut fields = entries.take(manager, Operation::Update).map(|entry| entry.fields).unwrap_or_default();
        fields.add(&changes.set);
        entries.put(Entry::new(manager, Operation::Update, fields));
    }
    entries.write(new);
}

/// What differs between two states, without unmanaged fields.
fn changes<'a>(walk: Walk<'a>, live: Option<&Value>, new: &Value, shape: Shape<'a>) -> Changes {
    let mut changes = Changes::default();
    match live {
        Some(live) => walk.compare(&managed_part(live), &managed_part(new), shape, &mut changes),
        None => walk.fields(&managed_part(new), shape, &mut changes.set),
    }
    changes
}

fn owned_fields<'a>(walk: Walk<'a>, config: &Value, shape: Shape<'a>, manager: &Manager<'_>) -> Set {
    let mut part = managed_part(config);
    // The main path cannot set the status, and another path nothing else.
    if let Some(map) = part.as_object_mut() {
        match manager.subresource {
            None => map.retain(|field, _| field != "status"),
            Some("status") => map.retain(|field, _| field == "status"),
            Some(_) => {}
        }
    }
    let mut set = Set::default();
    if part.as_object().is_some_and(|map| !map.is_empty()) {
        walk.fields(&part, shape, &mut set);
    }
    set
}

/// The object without unmanaged fields.
fn managed_part(object: &Value) -> Value {
    let mut part = object.clone();
    if let Some(map) = part.as_object_mut() {
        map.shift_remove("apiVersion");
        map.shift_remove("kind");
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|field, _| !UNMANAGED.contains(&field.as_str()));
            if metadata.is_empty() {
                map.shift_remove("metadata");
            }
        }
    }
    part
}

fn without_managed_fields(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    config
}

/// 409 with one cause a field.
fn conflict(conflicts: &[(String, String)]) -> Status {
    let causes = conflicts.iter().map(|(manager, field)| Cause {
        reason: "FieldManagerConflict".into(),
        message: format!("conflict with {manager}"),
        field: field.clone(),
    });
    let causes: Vec<Cause> = causes.collect();
    let message = match conflicts {
        [(manager, field)] => format!("Apply failed with 1 conflict: conflict with {manager}: {field}"),
        several => {
            let mut message = format!("Apply failed with {} conflicts:", several.len());
            let mut last = "";
            for (manager, field) in several {
                if manager != last {
                    message.push_str(&format!(" conflicts with {manager}:"));
                    last = manager;
                }
                message.push_str(&format!("\n- {field}"));
            }
            message
        }
    };
    Status::new(409, "Conflict", message).with_details(Details { causes, ..Details::default() })
}

#[cfg(test)]
mod tests;
