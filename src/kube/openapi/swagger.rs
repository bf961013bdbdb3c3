//! OpenAPI v2 ("swagger"), for clients that still read it: one document of all group-versions, made from those of
//! OpenAPI v3. Pure.

use serde_json::{Map, Value, json};

use crate::kube::tree::has;

const REFERENCE_V3: &str = "#/components/schemas/";
const REFERENCE_V2: &str = "#/definitions/";
const KIND: &str = "x-kubernetes-group-version-kind";
const METHODS: [&str; 5] = ["delete", "get", "patch", "post", "put"];

/// The document that says what all of `documents` say.
pub(super) fn of_all<'a>(documents: impl Iterator<Item = &'a Value>, version: &str) -> Value {
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for document in documents {
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            paths.insert(path.clone(), path_item(item));
        }
        for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
            // A document marks the kinds of its own group-version only.
            if !definitions.contains_key(name) || has(schema, KIND) {
                definitions.insert(name.clone(), definition(name, schema));
            }
        }
    }
    paths.sort_keys();
    definitions.sort_keys();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "definitions": definitions,
    })
}

fn path_item(item: &Value) -> Value {
    let mut converted = Map::new();
    for (key, value) in item.as_object().into_iter().flatten() {
        match key.as_str() {
            "parameters" => converted.insert(key.clone(), parameters(value).into()),
            method if METHODS.contains(&method) => converted.insert(key.clone(), operation(value)),
            _ => None,
        };
    }
    Value::Object(converted)
}

fn parameters(list: &Value) -> Vec<Value> {
    let converted = |parameter: &Value| {
        let mut converted = parameter.as_object().cloned().unwrap_or_default();
        if let Some(schema) = converted.shift_remove("schema") {
            converted.extend(schema.as_object().cloned().unwrap_or_default());
        }
        Value::Object(converted)
    };
    list.as_array().into_iter().flatten().map(converted).collect()
}

fn operation(operation: &Value) -> Value {
    let mut converted = operation.as_object().cloned().unwrap_or_default();
    let mut all = parameters(&operation["parameters"]);
    if let Some(body) = converted.shift_remove("requestBody") {
        let content = body["content"].as_object();
        let types: Vec<&String> = content.into_iter().flatten().map(|(type_, _)| type_).collect();
        let form =
            content.and_then(|content| content.values().next()).map_or(Value::Null, |form| form["schema"].clone());
        converted.insert("consumes".into(), json!(types));
        all.push(json!({"name": "body", "in": "body", "required": body["required"] == true, "schema": schema(&form)}));
    }
    converted.insert("parameters".into(), all.into());
    let responses = operation["responses"].as_object().into_iter().flatten().map(|(code, response)| {
        let mut converted = json!({"description": response["description"]});
        let form = response["content"].as_object().and_then(|content| content.values().next());
        if let Some(form) = form {
            converted["schema"] = schema(&form["schema"]);
        }
        (code.clone(), converted)
    });
    let responses: Map<String, Value> = responses.collect();
    converted.insert("responses".into(), Value::Object(responses));
    Value::Object(converted)
}

/// Types that are either of two: v2 has no word for that, and shows them as text.
fn definition(name: &str, value: &Value) -> Value {
    match name.rsplit('.').next() {
        Some("Quantity") => json!({"description": value["description"], "type": "string"}),
        Some("IntOrString") => {
            json!({"description": value["description"], "type": "string", "format": "int-or-string"})
        }
        _ => schema(value),
    }
}

/// A reference stands by itself again, and points into this document.
fn schema(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut converted = Map::new();
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("$ref", Value::String(reference)) => {
                        converted.insert(key.clone(), json!(reference.replace(REFERENCE_V3, REFERENCE_V2)));
                    }
                    ("allOf", Value::Array(all)) if all.len() == 1 => {
                        converted.extend(schema(&all[0]).as_object().cloned().unwrap_or_default());
                    }
                    ("oneOf" | "anyOf" | "nullable", _) => {}
                    _ => {
                        converted.insert(key.clone(), schema(value));
                    }
                }
            }
            Value::Object(converted)
        }
        Value::Array(list) => list.iter().map(schema).collect(),
        other => other.clone(),
    }
}
