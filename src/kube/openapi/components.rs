//! Component schemas: JSON Schema rewritten to what OpenAPI 3.0 can say, with Kubernetes' extensions.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::kube::resources::{Resource, Table, definition_of_kind};
use crate::kube::schema::{REFERENCE, Schemas, extensions};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// What every document has beside its kinds, for the bodies of generic operations.
const COMMON: [&str; 3] = ["DeleteOptions", "Status", "ListMeta"];

/// The schemas of all kinds of the group-version, and of what they refer to.
pub(super) fn of_group_version(table: &Table, schemas: &Schemas, group: &str, version: &str) -> Value {
    let mut components = Components { schemas, done: BTreeSet::new(), out: Map::new() };
    let resources = || table.iter().filter(|entry| entry.group == group && entry.version == version);
    for resource in resources() {
        components.add(&resource.definition);
        components.mark(&resource.definition, resource, &resource.kind);
        if resource.allows("list") {
            components.add_list(resource);
        }
    }
    for resource in resources() {
        for sub in &resource.subresources {
            if let Some((group, version, kind)) = &sub.response_kind {
                components.add_foreign(group, version, kind);
            }
        }
    }
    for name in COMMON {
        components.add(&format!("{META}.{name}"));
    }
    components.out.insert(
        format!("{META}.Patch"),
        json!({
            "description": "A patch of an object, in the form that its content type names.",
            "type": "object",
        }),
    );
    components.out.sort_keys();
    Value::Object(components.out)
}

struct Components<'a> {
    schemas: &'a Schemas,
    done: BTreeSet<String>,
    out: Map<String, Value>,
}

impl Components<'_> {
    fn add(&mut self, definition: &str) {
        if !self.done.insert(definition.to_owned()) {
            return;
        }
        let Some(schema) = self.schemas.definition(definition) else { return };
        let rewritten = self.rewrite_definition(definition, schema);
        self.out.insert(definition.to_owned(), rewritten);
    }

    fn mark(&mut self, definition: &str, resource: &Resource, kind: &str) {
        let kind = json!([{"group": resource.group, "version": resource.version, "kind": kind}]);
        if let Some(schema) = self.out.get_mut(definition) {
            schema["x-kubernetes-group-version-kind"] = kind;
        }
    }

    fn add_list(&mut self, resource: &Resource) {
        let definition = format!("{}List", resource.definition);
        self.add(&format!("{META}.ListMeta"));
        let reference = |name: &str| json!({"$ref": format!("{REFERENCE}{name}")});
        let schema = json!({
            "description": format!("{} is a list of {}.", resource.list_kind, resource.kind),
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"allOf": [reference(&format!("{META}.ListMeta"))]},
                "items": {"type": "array", "items": {"allOf": [reference(&resource.definition)]}},
            },
        });
        self.out.insert(definition.clone(), schema);
        self.mark(&definition, resource, &resource.list_kind);
    }

    fn add_foreign(&mut self, group: &str, version: &str, kind: &str) {
        let definition = definition_of_kind(group, version, kind);
        self.add(&definition);
        if let Some(schema) = self.out.get_mut(&definition) {
            schema["x-kubernetes-group-version-kind"] = json!([{"group": group, "version": version, "kind": kind}]);
        }
    }

    fn rewrite_definition(&mut self, definition: &str, schema: &Value) -> Value {
        match definition.rsplit('.').next() {
            Some("Quantity") => {
                return with_description(schema, json!({"oneOf": [{"type": "string"}, {"type": "number"}]}));
            }
            Some("IntOrString") => {
                let either = json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"});
                return with_description(schema, either);
            }
            _ => {}
        }
        let mut rewritten = self.rewrite(schema);
        self.say_extensions(definition, &mut rewritten);
        // The types demand the metadata of every object; the API does not.
        if let Some(required) = rewritten.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|field| field != "metadata" || !definition.starts_with("io.k8s.api."));
            if required.is_empty()
                && let Some(map) = rewritten.as_object_mut()
            {
                map.shift_remove("required");
            }
        }
        rewritten
    }

    fn say_extensions(&self, definition: &str, rewritten: &mut Value) {
        let Some(schema) = self.schemas.get(definition) else { return };
        if schema.atomic {
            rewritten["x-kubernetes-map-type"] = json!("atomic");
        }
        let Some(properties) = rewritten.get_mut("properties").and_then(Value::as_object_mut) else { return };
        for (name, property) in properties {
            if let (Some(field), Some(property)) = (schema.fields.get(name), property.as_object_mut()) {
                property.extend(extensions(field));
            }
        }
    }

    /// References may have no siblings, so they move into an `allOf`; what they lead to is added, too.
    fn rewrite(&mut self, schema: &Value) -> Value {
        match schema {
            Value::Object(map) => {
                let mut out = Map::new();
                for (key, value) in map {
                    match (key.as_str(), value.as_str()) {
                        ("$ref", Some(reference)) => {
                            self.add(reference.trim_start_matches(REFERENCE));
                            out.insert("allOf".into(), json!([{"$ref": reference}]));
                        }
                        _ => {
                            out.insert(key.clone(), self.rewrite(value));
                        }
                    }
                }
                Value::Object(out)
            }
            Value::Array(list) => list.iter().map(|value| self.rewrite(value)).collect(),
            other => other.clone(),
        }
    }
}

fn with_description(schema: &Value, mut rewritten: Value) -> Value {
    if let Some(description) = schema.get("description") {
        rewritten["description"] = description.clone();
    }
    rewritten
}
