//! Which component acts on a field of pods, services and workloads. For fields that are accepted although no component
//! acts on them yet, the client gets `Warning` headers.
//!
//! - [`table`]: field by field

mod table;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

pub use self::table::By;
use self::table::{FIELDS, HARMLESS};
use super::schema::{Schemas, Struct, Type};

/// Stands for all fields of a struct.
const ALL: &str = "*";

static ACTS: LazyLock<BTreeMap<(&str, &str), By>> = LazyLock::new(|| {
    let fields =
        FIELDS.iter().flat_map(|(of, by, fields)| fields.split_whitespace().map(move |field| ((*of, field), *by)));
    fields.collect()
});

/// The component that acts on a field; `None` for a field that the table does not know.
fn by(of: &str, field: &str) -> Option<By> {
    ACTS.get(&(of, field)).or_else(|| ACTS.get(&(of, ALL))).copied()
}

/// `PodSpec` of `io.k8s.api.core.v1.PodSpec`.
fn short(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or(definition)
}

/// The warnings for the client that sends `object` in place of `old`: only for fields that it changes.
pub fn warnings(schemas: &Schemas, definition: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = unheeded(schemas, definition, object);
    for known in old.map(|old| unheeded(schemas, definition, old)).unwrap_or_default() {
        if let Some(at) = found.iter().position(|path| *path == known) {
            found.remove(at);
        }
    }
    found.iter().map(|path| not_acted_on(path)).collect()
}

/// The warning for a field that is accepted without effect.
pub fn not_acted_on(what: &str) -> String {
    format!("{what}: accepted, but not acted on yet")
}

/// The paths of the fields of an object that no component acts on.
fn unheeded(schemas: &Schemas, definition: &str, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let spec = schemas.get(definition).and_then(|object| object.fields.get("spec"));
    if let Some(Type::Struct(spec)) = spec.map(|spec| &spec.type_)
        && is_covered(spec)
    {
        walk(schemas, &Type::Struct(spec.clone()), &object["spec"], "spec", &mut found);
    }
    found
}

fn is_covered(definition: &str) -> bool {
    let of = short(definition);
    FIELDS.iter().any(|(known, ..)| *known == of)
}

fn walk(schemas: &Schemas, type_: &Type, value: &Value, path: &str, found: &mut Vec<String>) {
    match (type_, value) {
        (Type::Struct(definition), Value::Object(fields)) => {
            let Some(Struct { fields: known, .. }) = schemas.get(definition) else { return };
            for (name, value) in fields.iter().filter(|(_, value)| !is_empty(value)) {
                let Some(field) = known.get(name) else { continue };
                let path = format!("{path}.{name}");
                match by(short(definition), name) {
                    Some(By::Nobody) if is_harmless(short(definition), name, value, fields) => {}
                    Some(By::Nobody) => found.push(path),
                    Some(_) => walk(schemas, &field.type_, value, &path, found),
                    None => {}
                }
            }
        }
        (Type::List(items), Value::Array(values)) => {
            for (index, value) in values.iter().enumerate() {
                walk(schemas, items, value, &format!("{path}[{index}]"), found);
            }
        }
        (Type::Map(values), Value::Object(fields)) => {
            for (name, value) in fields {
                walk(schemas, values, value, &format!("{path}[{name}]"), found);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Whether the value asks for what happens anyway.
fn is_harmless(of: &str, field: &str, value: &Value, beside: &serde_json::Map<String, Value>) -> bool {
    if (of, field) == ("EmptyDirVolumeSource", "sizeLimit") {
        return beside.get("medium").is_some_and(|medium| medium == "Memory");
    }
    let said = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    HARMLESS.contains(&(of, field, said.as_str()))
}

#[cfg(test)]
mod tests;
