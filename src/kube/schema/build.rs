//! From the JSON schemas of the types to structural schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::{authentication, autoscaling, core, policy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::lists;
use super::types::{Field, PatchRule, Struct, Topology, Type};
use crate::kube::resources::{SchemaSource, Table};

/// The front of references inside OpenAPI documents.
pub(crate) const REFERENCE: &str = "#/components/schemas/";

/// The JSON schemas, by definition name, of all types in the table, of the bodies of their subresources, and of
/// what these refer to.
pub(super) fn definitions(table: &Table) -> BTreeMap<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = SchemaGenerator::new(settings);
    let mut own = Vec::new();
    for resource in table.iter() {
        match &resource.schema {
            SchemaSource::Type(register) => register(&mut generator),
            SchemaSource::Own(schema) => own.push((resource.definition.clone(), Value::clone(schema))),
        }
    }
    generator.subschema_for::<autoscaling::v1::Scale>();
    generator.subschema_for::<core::v1::Binding>();
    generator.subschema_for::<policy::v1::Eviction>();
    generator.subschema_for::<authentication::v1::TokenRequest>();
    generator.subschema_for::<meta::DeleteOptions>();
    generator.subschema_for::<meta::ListMeta>();
    generator.subschema_for::<meta::Status>();
    generator.take_definitions(false).into_iter().chain(own).collect()
}

/// The structs among `definitions`, nested ones under made-up names.
pub(super) fn structs(definitions: &BTreeMap<String, Value>) -> BTreeMap<Arc<str>, Struct> {
    let mut builder = Builder { definitions, structs: BTreeMap::new() };
    for (name, schema) in definitions {
        if builder.special(name).is_none() {
            builder.add_struct(name, schema);
        }
    }
    builder.structs
}

struct Builder<'a> {
    definitions: &'a BTreeMap<String, Value>,
    structs: BTreeMap<Arc<str>, Struct>,
}

impl Builder<'_> {
    /// Types that are not what their schema says, or that are no structs.
    fn special(&self, definition: &str) -> Option<Type> {
        let short = definition.rsplit('.').next().unwrap_or_default();
        match short {
            "Quantity" => Some(Type::Quantity),
            "IntOrString" => Some(Type::IntOrString),
            "Time" => Some(Type::Time),
            "MicroTime" => Some(Type::MicroTime),
            "JSON" | "FieldsV1" | "RawExtension" => Some(Type::Any),
            _ => {
                let schema = self.definitions.get(definition)?;
                let is_struct = schema["properties"].is_object() || schema["type"] == "object";
                (!is_struct).then_some(Type::Any)
            }
        }
    }

    fn add_struct(&mut self, name: &str, schema: &Value) {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fields = BTreeMap::new();
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            let type_ = self.type_of(schema, &format!("{name}.{field}"));
            let (topology, patch) =
                lists::rules(name, field).unwrap_or_else(|| (declared_topology(schema, &type_), PatchRule::default()));
            let required = required.contains(&field.as_str());
            fields.insert(field.clone(), Field { type_, required, topology, patch });
        }
        let open = schema["x-kubernetes-preserve-unknown-fields"] == Value::Bool(true);
        let atomic = lists::is_atomic_struct(name) || schema["x-kubernetes-map-type"] == "atomic";
        self.structs.insert(name.into(), Struct { fields, atomic, open });
    }

    fn type_of(&mut self, schema: &Value, place: &str) -> Type {
        if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix(REFERENCE)) {
            return self.special(name).unwrap_or_else(|| Type::Struct(name.into()));
        }
        if schema["x-kubernetes-int-or-string"] == Value::Bool(true) {
            return Type::IntOrString;
        }
        match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("string"), Some("byte")) => Type::Bytes,
            (Some("string"), Some("date-time")) => Type::Time,
            (Some("string"), _) => Type::String,
            (Some("integer"), Some("int32")) => Type::Int32,
            (Some("integer"), _) => Type::Int64,
            (Some("number"), _) => Type::Number,
            (Some("boolean"), _) => Type::Boolean,
            (Some("array"), _) => Type::List(Box::new(self.type_of(&schema["items"], place))),
            (Some("object"), _) => self.object_type(schema, place),
            _ => Type::Any,
        }
    }

    fn object_type(&mut self, schema: &Value, place: &str) -> Type {
        if schema["properties"].is_object() {
            self.add_struct(place, schema);
            return Type::Struct(place.into());
        }
        match &schema["additionalProperties"] {
            Value::Object(values) if !values.is_empty() => {
                Type::Map(Box::new(self.type_of(&Value::Object(values.clone()), place)))
            }
            _ => Type::Any,
        }
    }
}

/// What the schema itself says, as those of custom resources do.
fn declared_topology(schema: &Value, type_: &Type) -> Topology {
    let keys = || {
        let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
        keys.filter_map(|key| key.as_str().map(str::to_owned)).collect()
    };
    match (schema["x-kubernetes-list-type"].as_str(), type_) {
        (Some("map"), _) => Topology::Map(keys()),
        (Some("set"), _) => Topology::Set,
        (_, Type::List(_)) => Topology::Atomic,
        _ if schema["x-kubernetes-map-type"] == "atomic" => Topology::Atomic,
        _ => Topology::Granular,
    }
}

/// The `x-kubernetes-*` words of a field, for documents.
pub(crate) fn extensions(field: &Field) -> Map<String, Value> {
    let mut words = Map::new();
    let mut say = |word: &str, value: Value| words.insert(format!("x-kubernetes-{word}"), value);
    match (&field.topology, &field.type_) {
        (Topology::Map(keys), _) => {
            say("list-type", "map".into());
            say("list-map-keys", keys.clone().into());
        }
        (Topology::Set, _) => {
            say("list-type", "set".into());
        }
        (Topology::Atomic, Type::List(_)) => {
            say("list-type", "atomic".into());
        }
        (Topology::Atomic, _) => {
            say("map-type", "atomic".into());
        }
        (Topology::Granular, _) => {}
    }
    if let Some(key) = &field.patch.merge_key {
        say("patch-merge-key", key.clone().into());
    }
    match (field.patch.merges, field.patch.retains_keys, field.patch.replaces) {
        (true, true, _) => say("patch-strategy", "merge,retainKeys".into()),
        (true, false, _) => say("patch-strategy", "merge".into()),
        (false, true, _) => say("patch-strategy", "retainKeys".into()),
        (false, false, true) => say("patch-strategy", "replace".into()),
        (false, false, false) => None,
    };
    words
}
