//! How values are taken apart into fields that can have an owner each, by their schema.

use serde_json::{Map, Value};

use super::set::{PathElement, Set};
use crate::kube::schema::{Field, Schemas, Struct, Topology, Type};
use crate::kube::tree::has;

/// What a value is made of.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    Struct(&'a Struct),
    /// A map, whose values have this type.
    Map(&'a Type),
    /// A list of items of this type, identified by these fields.
    Keyed(&'a Type, &'a [String]),
    /// A list of scalars, each at most once.
    Items,
    /// One value, with one owner.
    Leaf,
}

static LEAF_FIELD: Topology = Topology::Granular;

impl<'a> Shape<'a> {
    pub fn root(schemas: &'a Schemas, definition: &str) -> Shape<'a> {
        schemas.get(definition).map_or(Shape::Leaf, Shape::Struct)
    }

    fn of(schemas: &'a Schemas, type_: &'a Type, topology: &'a Topology) -> Shape<'a> {
        match (type_, topology) {
            (_, Topology::Atomic) => Shape::Leaf,
            (Type::Struct(name), _) => match schemas.get(name) {
                Some(schema) if !schema.atomic => Shape::Struct(schema),
                _ => Shape::Leaf,
            },
            (Type::Map(values), _) => Shape::Map(values),
            (Type::List(items), Topology::Map(keys)) => Shape::Keyed(items, keys),
            (Type::List(_), Topology::Set) => Shape::Items,
            _ => Shape::Leaf,
        }
    }

    fn of_field(schemas: &'a Schemas, field: &'a Field) -> Shape<'a> {
        Shape::of(schemas, &field.type_, &field.topology)
    }

    /// The shape below an element.
    fn below(self, schemas: &'a Schemas, element: &PathElement) -> Shape<'a> {
        match (self, element) {
            (Shape::Struct(schema), PathElement::Field(name)) => {
                schema.fields.get(name).map_or(Shape::Leaf, |field| Shape::of_field(schemas, field))
            }
            (Shape::Map(values), _) => Shape::of(schemas, values, &LEAF_FIELD),
            // An atomic struct in a list still has its key, and is owned as one value.
            (Shape::Keyed(items, _), _) => Shape::of(schemas, items, &LEAF_FIELD),
            _ => Shape::Leaf,
        }
    }

    /// The parts of `value`; `None` when it is one piece, or empty, or not what the schema says.
    fn parts(self, value: &Value) -> Option<Vec<(PathElement, &Value)>> {
        let parts: Vec<(PathElement, &Value)> = match (self, value) {
            (Shape::Struct(_) | Shape::Map(_), Value::Object(map)) => {
                map.iter().map(|(key, value)| (PathElement::Field(key.clone()), value)).collect()
            }
            (Shape::Keyed(_, keys), Value::Array(list)) => {
                list.iter().map(|item| (PathElement::Key(key_of(item, keys)), item)).collect()
            }
            (Shape::Items, Value::Array(list)) => {
                list.iter().map(|item| (PathElement::Item(item.to_string()), item)).collect()
            }
            _ => return None,
        };
        (!parts.is_empty()).then_some(parts)
    }
}

/// The key fields of a list's item, in alphabetical order. A protocol that is left out is TCP.
fn key_of(item: &Value, keys: &[String]) -> String {
    let mut fields: Vec<&String> = keys.iter().collect();
    fields.sort();
    let key: Map<String, Value> = fields
        .into_iter()
        .filter_map(|field| match has(item, field) {
            true => Some((field.clone(), item[field].clone())),
            false if field == "protocol" => Some((field.clone(), "TCP".into())),
            false => None,
        })
        .collect();
    Value::Object(key).to_string()
}

/// Walks values of one schema.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub schemas: &'a Schemas,
}

impl<'a> Walk<'a> {
    /// All fields that `value` has.
    pub fn fields(self, value: &Value, shape: Shape<'a>, set: &mut Set) {
        let Some(parts) = shape.parts(value) else {
            set.member = true;
            return;
        };
        for (element, part) in parts {
            let below = shape.below(self.schemas, &element);
            let is_item = matches!(element, PathElement::Key(_));
            let set = set.at(element);
            self.fields(part, below, set);
            set.member |= is_item;
        }
    }

    /// `config` laid over `live`: parts that only `live` has stay.
    pub fn merge(self, live: Option<&Value>, config: &Value, shape: Shape<'a>) -> Value {
        let Some(live) = live else { return config.clone() };
        let find = |parts: &[(PathElement, &Value)], element: &PathElement| -> Option<Value> {
            parts.iter().find(|(known, _)| known == element).map(|(_, value)| (*value).clone())
        };
        match (shape, live, config) {
            (Shape::Struct(_) | Shape::Map(_), Value::Object(live), Value::Object(config)) => {
                let mut merged = live.clone();
                for (key, value) in config {
                    let below = shape.below(self.schemas, &PathElement::Field(key.clone()));
                    merged.insert(key.clone(), self.merge(live.get(key), value, below));
                }
                Value::Object(merged)
            }
            (Shape::Keyed(..) | Shape::Items, Value::Array(_), Value::Array(_)) => {
                let (live, config) = (shape.parts(live).unwrap_or_default(), shape.parts(config).unwrap_or_default());
                let mut merged: Vec<Value> = live
                    .iter()
                    .map(|(element, value)| match find(&config, element) {
                        Some(wanted) => self.merge(Some(value), &wanted, shape.below(self.schemas, element)),
                        None => (*value).clone(),
                    })
                    .collect();
                let is_new = |element: &PathElement| !live.iter().any(|(known, _)| known == element);
                merged.extend(config.iter().filter(|(element, _)| is_new(element)).map(|(_, value)| (*value).clone()));
                Value::Array(merged)
            }
            _ => config.clone(),
        }
    }

    /// The fields that `new` sets or changes, and those that are only in `old`.
    pub fn compare(self, old: &Value, new: &Value, shape: Shape<'a>, changes: &mut Changes) {
        let (Some(before), Some(after)) = (shape.parts(old), shape.parts(new)) else {
            if old != new {
                if shape.parts(old).is_some() {
                    self.fields(old, shape, &mut changes.removed);
                }
                self.fields(new, shape, &mut changes.set);
            }
            return;
        };
        for (element, part) in &after {
            let below = shape.below(self.schemas, element);
            match before.iter().find(|(known, _)| known == element) {
                Some((_, known)) => {
                    let mut inner = Changes::default();
                    self.compare(known, part, below, &mut inner);
                    changes.put(element, inner);
                }
                None => {
                    let set = changes.set.at(element.clone());
                    self.fields(part, below, set);
                    set.member |= matches!(element, PathElement::Key(_));
                }
            }
        }
        for (element, part) in before.iter().filter(|(element, _)| !after.iter().any(|(known, _)| known == element)) {
            let set = changes.removed.at(element.clone());
            self.fields(part, shape.below(self.schemas, element), set);
            set.member |= matches!(element, PathElement::Key(_));
        }
    }

    /// Takes the fields of `gone` out of `value`. Something that `kept` has a part of stays; a map or list that is left
    /// empty goes.
    pub fn remove(self, value: &mut Value, gone: &Set, kept: &Set, shape: Shape<'a>) {
        let steps: Vec<PathElement> =
            shape.parts(value).unwrap_or_default().into_iter().map(|(element, _)| element).collect();
        let mut survivors = Vec::new();
        for (place, element) in steps.iter().enumerate() {
            let Some(set) = gone.below.get(element) else {
                survivors.push(place);
                continue;
            };
            let kept = kept.below.get(element).cloned().unwrap_or_default();
            if set.member && kept.is_empty() {
                continue;
            }
            let below = shape.below(self.schemas, element);
            if let Some(part) = part_mut(value, element, place) {
                self.remove(part, set, &kept, below);
                let is_empty =
                    part.as_object().is_some_and(Map::is_empty) || part.as_array().is_some_and(Vec::is_empty);
                if is_empty && kept.is_empty() && !set.is_empty() {
                    continue;
                }
            }
            survivors.push(place);
        }
        let mut place = 0;
        let mut survives = || {
            place += 1;
            survivors.contains(&(place - 1))
        };
        match value {
            Value::Object(map) => map.retain(|_, _| survives()),
            Value::Array(list) if !steps.is_empty() => list.retain(|_| survives()),
            _ => {}
        }
    }
}

fn part_mut<'v>(value: &'v mut Value, element: &PathElement, place: usize) -> Option<&'v mut Value> {
    match (value, element) {
        (Value::Object(map), PathElement::Field(name)) => map.get_mut(name),
        (Value::Array(list), _) => list.get_mut(place),
        _ => None,
    }
}

/// The difference between two values.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Added or changed.
    pub set: Set,
    pub removed: Set,
}

impl Changes {
    fn put(&mut self, element: &PathElement, inner: Changes) {
        if !inner.set.is_empty() {
            self.set.at(element.clone()).add(&inner.set);
        }
        if !inner.removed.is_empty() {
            self.removed.at(element.clone()).add(&inner.removed);
        }
    }
}
