//! Strategic merge: maps merge field by field, lists as the schema says, and directives in the patch say the rest.
//!
//! | directive | where | effect |
//! |---|---|---|
//! | `$patch: replace` | map, or an item of a list | the patch replaces the whole |
//! | `$patch: delete` | map, or an item of a list | the map, or the item with that key, goes |
//! | `$patch: merge` | map | as without it |
//! | `$retainKeys: [..]` | map | all other keys go |
//! | `$setElementOrder/field: [..]` | beside a list | the order of its items |
//! | `$deleteFromPrimitiveList/field: [..]` | beside a list of scalars | these go |

use serde_json::{Map, Value};

use super::lists;
use crate::kube::schema::{Field, PatchRule, Schemas, Type};

pub(super) const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// What is wrong with a strategic merge patch: surface it as 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a strategic merge patch must be a JSON object")]
    NotAnObject,
    #[error("unknown patch type found: {0}")]
    UnknownDirective(String),
    #[error("map: {item} does not contain declared merge key: {key}")]
    NoMergeKey { item: String, key: String },
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirectiveInList,
    #[error("the field {0} of a patch must be a list")]
    NotAList(String),
    #[error("$retainKeys directive doesn't list the key {0} that the patch has")]
    KeyNotRetained(String),
    #[error("the order in the patch list of {0} doesn't match its $setElementOrder list")]
    OrderMismatch(String),
}

/// Merges `patch` into `object`, whose schema is `definition`.
pub(super) fn merge(schemas: &Schemas, definition: &str, object: &Value, patch: Value) -> Result<Value, Error> {
    let Value::Object(patch) = patch else { return Err(Error::NotAnObject) };
    let original = object.as_object().cloned().unwrap_or_default();
    let merger = Merger { schemas };
    let shape = Shape::of(&Type::Struct(definition.into()));
    Ok(Value::Object(merger.merge_map(original, patch, &shape)?))
}

/// What is known of the values of a map.
#[derive(Clone)]
pub(super) enum Shape {
    Struct(std::sync::Arc<str>),
    /// All values have this type.
    Map(Type),
    /// Nothing is known: maps merge, lists are replaced.
    Unknown,
}

impl Shape {
    pub(super) fn of(type_: &Type) -> Shape {
        match type_ {
            Type::Struct(name) => Shape::Struct(name.clone()),
            Type::Map(values) => Shape::Map((**values).clone()),
            _ => Shape::Unknown,
        }
    }
}

pub(super) struct Merger<'a> {
    pub schemas: &'a Schemas,
}

impl Merger<'_> {
    fn field(&self, shape: &Shape, key: &str) -> (Shape, PatchRule) {
        let known = |field: &Field| {
            let inner = match &field.type_ {
                Type::List(items) => Shape::of(items),
                other => Shape::of(other),
            };
            (inner, field.patch.clone())
        };
        match shape {
            Shape::Struct(name) => self.schemas.get(name).and_then(|schema| schema.fields.get(key)).map(known),
            Shape::Map(values) => Some((Shape::of(values), PatchRule::default())),
            Shape::Unknown => None,
        }
        .unwrap_or((Shape::Unknown, PatchRule::default()))
    }

    /// Merges a patch into a map. Directives of the patch do not reach the result, also where there was nothing to
    /// merge with.
    pub(super) fn merge_map(
        &self,
        mut original: Map<String, Value>,
        mut patch: Map<String, Value>,
        shape: &Shape,
    ) -> Result<Map<String, Value>, Error> {
        match patch.shift_remove(DIRECTIVE) {
            None => {}
            Some(Value::String(word)) if word == "merge" => {}
            Some(Value::String(word)) if word == "replace" => original.clear(),
            Some(Value::String(word)) if word == "delete" => return Ok(Map::new()),
            Some(other) => return Err(Error::UnknownDirective(plain(&other))),
        }
        if let Some(retained) = patch.shift_remove(RETAIN_KEYS) {
            retain_keys(&mut original, &patch, &retained)?;
        }
        let orders = take_directives(&mut patch, ELEMENT_ORDER)?;
        let deletions = take_directives(&mut patch, DELETE_FROM)?;
        self.touch_lists_named_by_directives(&mut original, &mut patch, &orders, &deletions);
        for (key, value) in patch {
            let directives = ListDirectives { order: orders.get(&key), delete: deletions.get(&key) };
            match self.merge_field(original.get_mut(&key).map(Value::take), value, &key, shape, directives)? {
                Some(merged) => original.insert(key, merged),
                None => original.shift_remove(&key),
            };
        }
        Ok(original)
    }

    /// A directive for a list works also when the patch has no items for it.
    fn touch_lists_named_by_directives(
        &self,
        original: &mut Map<String, Value>,
        patch: &mut Map<String, Value>,
        orders: &Map<String, Value>,
        deletions: &Map<String, Value>,
    ) {
        for key in orders.keys().chain(deletions.keys()) {
            if !patch.contains_key(key) && original.get(key).is_some_and(Value::is_array) {
                patch.insert(key.clone(), Value::Array(Vec::new()));
            }
        }
    }

    /// `None`: the field goes.
    fn merge_field(
        &self,
        original: Option<Value>,
        patch: Value,
        key: &str,
        shape: &Shape,
        directives: ListDirectives<'_>,
    ) -> Result<Option<Value>, Error> {
        let (inner, rule) = self.field(shape, key);
        match patch {
            Value::Null => Ok(None),
            Value::Object(patch) => {
                let removes = patch.get(DIRECTIVE).is_some_and(|word| word == "delete");
                let original = match original {
                    Some(Value::Object(map)) if !rule.replaces => map,
                    _ => Map::new(),
                };
                let merged = self.merge_map(original, patch, &inner)?;
                Ok((!removes).then_some(Value::Object(merged)))
            }
            Value::Array(patch) => {
                let original = match original {
                    Some(Value::Array(list)) => list,
                    _ => Vec::new(),
                };
                let merged = match (rule.merges, &rule.merge_key) {
                    (false, _) => self.without_directives(patch, &inner)?,
                    (true, Some(merge_key)) => {
                        lists::merge_maps(self, original, patch, merge_key, &inner, directives, key)?
                    }
                    (true, None) => lists::merge_scalars(original, patch, directives, key)?,
                };
                Ok(Some(Value::Array(merged)))
            }
            scalar => Ok(Some(scalar)),
        }
    }

    /// The items of a list that replaces another one.
    fn without_directives(&self, items: Vec<Value>, shape: &Shape) -> Result<Vec<Value>, Error> {
        let is_marker =
            |item: &Value| item.as_object().is_some_and(|map| map.contains_key(DIRECTIVE) && map.len() == 1);
        let plain = items.into_iter().filter(|item| !is_marker(item));
        plain
            .map(|item| match item {
                Value::Object(map) => Ok(Value::Object(self.merge_map(Map::new(), map, shape)?)),
                other => Ok(other),
            })
            .collect()
    }
}

/// What the patch says about a list beside its items.
#[derive(Clone, Copy, Default)]
pub(super) struct ListDirectives<'a> {
    pub order: Option<&'a Value>,
    pub delete: Option<&'a Value>,
}

/// Takes the directives with this prefix out of the patch, by the field they are about.
fn take_directives(patch: &mut Map<String, Value>, prefix: &str) -> Result<Map<String, Value>, Error> {
    let mut taken = Map::new();
    let names: Vec<String> = patch.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    for name in names {
        if let Some(value) = patch.shift_remove(&name) {
            if !value.is_array() {
                return Err(Error::NotAList(name));
            }
            taken.insert(name[prefix.len()..].to_owned(), value);
        }
    }
    Ok(taken)
}

fn retain_keys(original: &mut Map<String, Value>, patch: &Map<String, Value>, retained: &Value) -> Result<(), Error> {
    let Some(retained) = retained.as_array() else { return Err(Error::NotAList(RETAIN_KEYS.into())) };
    let is_retained = |key: &str| retained.iter().any(|kept| kept == key);
    let own = patch.iter().filter(|(key, value)| !key.starts_with('$') && !value.is_null());
    if let Some((key, _)) = own.into_iter().find(|(key, _)| !is_retained(key)) {
        return Err(Error::KeyNotRetained(key.clone()));
    }
    original.retain(|key, _| is_retained(key));
    Ok(())
}

pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
