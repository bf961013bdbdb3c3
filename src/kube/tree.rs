//! Reading and filling JSON objects by field, for code that looks at objects of any kind.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// Levels of an object. Parsers stop at 128, and an object travels inside of lists and events.
pub const DEPTH_MAX: usize = 100;

static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// The text of a field, empty when it is absent or no string.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a field, none when it is absent or no list.
pub fn items<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The entries of a field, none when it is absent or no map.
pub fn entries<'a>(object: &'a Value, field: &str) -> &'a Map<String, Value> {
    object.get(field).and_then(Value::as_object).unwrap_or(&NOTHING)
}

/// How many levels of values lie below this one.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(|item| depth(item) + 1).max().unwrap_or(0),
        Value::Object(fields) => fields.values().map(|field| depth(field) + 1).max().unwrap_or(0),
        _ => 0,
    }
}

/// The value of a string, a number as text otherwise.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Is the field there, and not null?
pub fn has(object: &Value, field: &str) -> bool {
    object.get(field).is_some_and(|value| !value.is_null())
}

/// Sets a field that is absent, null or an empty string.
pub fn fill(object: &mut Value, field: &str, value: impl Into<Value>) {
    let is_blank = match object.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    };
    if is_blank && let Some(map) = object.as_object_mut() {
        map.insert(field.to_owned(), value.into());
    }
}

/// The field as a map, made when it is absent. `None` when the object is no map, or the field something else.
pub fn map_mut<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    fill(object, field, Map::new());
    object.get_mut(field).and_then(Value::as_object_mut)
}

/// The items of a list field, to change.
pub fn items_mut<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// A field to change, when it is there and not null.
pub fn get_mut<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    object.get_mut(field).filter(|value| !value.is_null())
}

/// Removes a field.
pub fn remove(object: &mut Value, field: &str) -> Option<Value> {
    object.as_object_mut().and_then(|map| map.shift_remove(field))
}
