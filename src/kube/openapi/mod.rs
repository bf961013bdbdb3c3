//! OpenAPI v3: one document a group-version, and the index of them. kubectl reads here which parameters PATCH takes,
//! what `explain` shows, and how lists merge. OpenAPI v2 says the same in one document, for what clients still ask
//! there. Pure; the frontend serves the bytes with their ETag.
//!
//! ```text
//!   Table ──paths──▶ operations ─┐
//!                                ├──▶ Document (bytes, ETag) ──▶ index with hashed URLs
//!   Schemas ─components─▶ types ─┘
//! ```
//!
//! - this file: documents and index
//! - [`paths`]: operations of every resource and subresource
//! - [`components`]: the schemas, rewritten from JSON Schema to OpenAPI 3.0
//! - [`swagger`]: v2, made from v3; [`protobuf`]: its other form

mod components;
mod paths;
mod protobuf;
mod swagger;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};

use super::discovery::Document;
use super::resources::Table;
use super::schema::Schemas;

/// The Kubernetes level that is served.
const VERSION: &str = "v1.35.0";

/// All documents of one table.
#[derive(Debug)]
pub struct OpenApi {
    /// `GET /openapi/v3`.
    pub index: Document,
    /// `api/v1` or `apis/apps/v1` to its document: `GET /openapi/v3/{key}`, with or without `?hash=`.
    pub documents: BTreeMap<String, Document>,
    /// `GET /openapi/v2`, as JSON.
    pub v2: Document,
    /// The same as protobuf.
    pub v2_protobuf: Document,
}

impl OpenApi {
    /// The documents of the built-in table, made at the first call.
    pub fn builtin() -> Arc<OpenApi> {
        static BUILTIN: LazyLock<Arc<OpenApi>> =
            LazyLock::new(|| Arc::new(OpenApi::of(&Table::builtin(), &Schemas::builtin())));
        BUILTIN.clone()
    }

    pub fn of(table: &Table, schemas: &Schemas) -> OpenApi {
        let values: BTreeMap<String, Value> = table
            .group_versions()
            .into_iter()
            .map(|(group, version)| (root(&group, &version), document(table, schemas, &group, &version)))
            .collect();
        let documents: BTreeMap<String, Document> =
            values.iter().map(|(key, value)| (key.clone(), Document::of(value))).collect();
        let v2 = swagger::of_all(values.values(), VERSION);
        OpenApi {
            index: Document::of(&index(&documents)),
            documents,
            v2_protobuf: Document::of_bytes(protobuf::encode(&v2)),
            v2: Document::of(&v2),
        }
    }

    /// The document at `/openapi/v3/{key}`.
    pub fn get(&self, key: &str) -> Option<&Document> {
        self.documents.get(key)
    }
}

/// `api/v1` or `apis/apps/v1`.
fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn index(documents: &BTreeMap<String, Document>) -> Value {
    let paths: Map<String, Value> = documents
        .iter()
        .map(|(key, document)| {
            let url = format!("/openapi/v3/{key}?hash={}", document.hash());
            (key.clone(), json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

fn document(table: &Table, schemas: &Schemas, group: &str, version: &str) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths::of_group_version(table, group, version),
        "components": {"schemas": components::of_group_version(table, schemas, group, version)},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(key: &str) -> Value {
        serde_json::from_slice(&OpenApi::builtin().get(key).unwrap().body).unwrap()
    }

    #[test]
    fn the_index_points_at_every_document_by_hash() {
        let api = OpenApi::builtin();
        let index: Value = serde_json::from_slice(&api.index.body).unwrap();
        let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
        assert_eq!(url, format!("/openapi/v3/apis/apps/v1?hash={}", api.documents["apis/apps/v1"].hash()));
        assert_eq!(index["paths"].as_object().unwrap().len(), Table::builtin().group_versions().len());
    }

    #[test]
    fn patch_tells_what_kubectl_looks_for() {
        for resource in Table::builtin().iter().filter(|resource| resource.allows("patch")) {
            let document = parsed(&root(&resource.group, &resource.version));
            let patches = document["paths"].as_object().unwrap().values().filter_map(|path| path.get("patch"));
            let kind = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
            let of_kind: Vec<&Value> = patches.filter(|op| op["x-kubernetes-group-version-kind"] == kind).collect();
            assert!(!of_kind.is_empty(), "{resource:?}");
            for operation in of_kind {
                for wanted in ["dryRun", "fieldValidation"] {
                    let parameters = operation["parameters"].as_array().unwrap();
                    assert!(parameters.iter().any(|p| p["name"] == wanted && p["in"] == "query"), "{resource:?}");
                }
            }
        }
    }

    #[test]
    fn every_reference_is_inside_the_document() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                        assert_eq!(map.len(), 1, "{reference} has siblings that OpenAPI 3.0 ignores");
                        found.push(reference.replace("#/components/schemas/", ""));
                    }
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        for key in OpenApi::builtin().documents.keys() {
            let document = parsed(key);
            let mut found = Vec::new();
            references(&document, &mut found);
            for reference in found {
                assert!(document["components"]["schemas"].get(&reference).is_some(), "{key}: {reference}");
            }
        }
    }

    #[test]
    fn version_two_says_the_same_in_one_document() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(map) => {
                    assert!(!["oneOf", "allOf", "anyOf"].iter().any(|key| map.contains_key(*key)), "{value}");
                    assert!(value["type"] != "array" || map.contains_key("items"), "{value}");
                    found.extend(map.get("$ref").and_then(Value::as_str));
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let swagger: Value = serde_json::from_slice(&OpenApi::builtin().v2.body).unwrap();
        let mut found = Vec::new();
        references(&swagger, &mut found);
        for reference in found {
            let name = reference.strip_prefix("#/definitions/").unwrap();
            assert!(swagger["definitions"].get(name).is_some(), "{reference}");
        }
        let patch = &swagger["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        let named = |name: &str| patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == name);
        assert!(named("dryRun") && named("fieldValidation") && named("body"));
        let kind = json!([{"group": "", "version": "v1", "kind": "Pod"}]);
        assert_eq!(swagger["definitions"]["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"], kind);
    }

    #[test]
    fn components_carry_kinds_and_merge_keys() {
        let core = parsed("api/v1");
        let schemas = &core["components"]["schemas"];
        let pod = &schemas["io.k8s.api.core.v1.Pod"];
        assert_eq!(pod["x-kubernetes-group-version-kind"], json!([{"group": "", "version": "v1", "kind": "Pod"}]));
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(schemas["io.k8s.api.core.v1.PodList"]["required"], json!(["items"]));
        assert!(pod["properties"]["spec"]["allOf"].is_array());
    }
}
