//! Strategic merge: maps merge field by field, lists as the schema says, and directives in the patch say the rest.

use serde_json::{Map, Value};

use super::directives::{
    DELETE_FROM, DIRECTIVE, ELEMENT_ORDER, Error, ListDirectives, RETAIN_KEYS, plain, retain_keys, take_directives,
};
use super::lists;
use crate::kube::schema::{Field, PatchRule, Schemas, Type};

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
enum Shape {
    Struct(std::sync::Arc<str>),
    /// All values have this type.
    Map(Type),
    /// Nothing is known: maps merge, lists are replaced.
    Unknown,
}

impl Shape {
    fn of(type_: &Type) -> Shape {
        match type_ {
            Type::Struct(name) => Shape::Struct(name.clone()),
            Type::Map(values) => Shape::Map((**values).clone()),
            _ => Shape::Unknown,
        }
    }
}

struct Merger<'a> {
    schemas: &'a Schemas,
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
    fn merge_map(
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
                        let merge_item = |original, patch| self.merge_map(original, patch, &inner);
                        lists::merge_maps(original, patch, merge_key, merge_item, directives, key)?
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
