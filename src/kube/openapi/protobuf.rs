//! The OpenAPI v2 document in the one form that kubectl reads: protobuf, with the messages and field numbers of
//! `openapi.v2` (gnostic). Only what the document uses has a field here.

use prost::{Message, Oneof};
use serde_json::Value;

use crate::kube::tree::{entries, has, items, text};

/// The bytes of a document.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let path = |(name, item): (&String, &Value)| NamedPathItem { name: name.clone(), value: Some(PathItem::of(item)) };
    Document {
        swagger: text(document, "swagger").to_owned(),
        info: Some(Info {
            title: text(&document["info"], "title").to_owned(),
            version: text(&document["info"], "version").to_owned(),
        }),
        paths: Some(Paths { path: entries(document, "paths").iter().map(path).collect() }),
        definitions: Some(named_schemas(entries(document, "definitions"))),
    }
    .encode_to_vec()
}

#[derive(Clone, PartialEq, Message)]
struct Document {
    #[prost(string, tag = "1")]
    swagger: String,
    #[prost(message, optional, tag = "2")]
    info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    paths: Option<Paths>,
    #[prost(message, optional, tag = "9")]
    definitions: Option<NamedSchemas>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Paths {
    #[prost(message, repeated, tag = "2")]
    path: Vec<NamedPathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedPathItem {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<PathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct PathItem {
    #[prost(message, optional, tag = "2")]
    get: Option<Operation>,
    #[prost(message, optional, tag = "3")]
    put: Option<Operation>,
    #[prost(message, optional, tag = "4")]
    post: Option<Operation>,
    #[prost(message, optional, tag = "5")]
    delete: Option<Operation>,
    #[prost(message, optional, tag = "8")]
    patch: Option<Operation>,
    #[prost(message, repeated, tag = "9")]
    parameters: Vec<ParametersItem>,
}

#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(string, repeated, tag = "1")]
    tags: Vec<String>,
    #[prost(string, tag = "3")]
    description: String,
    #[prost(string, tag = "5")]
    operation_id: String,
    #[prost(string, repeated, tag = "7")]
    consumes: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    parameters: Vec<ParametersItem>,
    #[prost(message, optional, tag = "9")]
    responses: Option<Responses>,
    #[prost(message, repeated, tag = "13")]
    vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct ParametersItem {
    #[prost(message, optional, tag = "1")]
    parameter: Option<Parameter>,
}

#[derive(Clone, PartialEq, Message)]
struct Parameter {
    #[prost(oneof = "ParameterKind", tags = "1, 2")]
    kind: Option<ParameterKind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum ParameterKind {
    #[prost(message, tag = "1")]
    Body(BodyParameter),
    #[prost(message, tag = "2")]
    NonBody(NonBodyParameter),
}

#[derive(Clone, PartialEq, Message)]
struct BodyParameter {
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    r#in: String,
    #[prost(bool, tag = "4")]
    required: bool,
    #[prost(message, optional, tag = "5")]
    schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct NonBodyParameter {
    #[prost(oneof = "NonBodyKind", tags = "3, 4")]
    kind: Option<NonBodyKind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum NonBodyKind {
    #[prost(message, tag = "3")]
    Query(QueryParameter),
    #[prost(message, tag = "4")]
    Path(PathParameter),
}

#[derive(Clone, PartialEq, Message)]
struct QueryParameter {
    #[prost(string, tag = "2")]
    r#in: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "6")]
    r#type: String,
    #[prost(bool, tag = "20")]
    unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
struct PathParameter {
    #[prost(bool, tag = "1")]
    required: bool,
    #[prost(string, tag = "2")]
    r#in: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "5")]
    r#type: String,
    #[prost(bool, tag = "19")]
    unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Responses {
    #[prost(message, repeated, tag = "1")]
    response_code: Vec<NamedResponse>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedResponse {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<ResponseValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseValue {
    #[prost(message, optional, tag = "1")]
    response: Option<Response>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(string, tag = "1")]
    description: String,
    #[prost(message, optional, tag = "2")]
    schema: Option<SchemaItem>,
}

#[derive(Clone, PartialEq, Message)]
struct SchemaItem {
    #[prost(message, optional, tag = "1")]
    schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchemas {
    #[prost(message, repeated, tag = "1")]
    additional_properties: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchema {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct Schema {
    #[prost(string, tag = "1")]
    reference: String,
    #[prost(string, tag = "2")]
    format: String,
    #[prost(string, tag = "4")]
    description: String,
    #[prost(string, repeated, tag = "19")]
    required: Vec<String>,
    #[prost(message, optional, boxed, tag = "21")]
    additional_properties: Option<Box<SchemaItem>>,
    #[prost(message, optional, tag = "22")]
    r#type: Option<Types>,
    #[prost(message, optional, tag = "23")]
    items: Option<Schemas>,
    #[prost(message, optional, tag = "25")]
    properties: Option<NamedSchemas>,
    #[prost(message, repeated, tag = "31")]
    vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct Types {
    #[prost(string, repeated, tag = "1")]
    value: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Schemas {
    #[prost(message, repeated, tag = "1")]
    schema: Vec<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedAny {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Any>,
}

/// A value as YAML, which JSON is.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "2")]
    yaml: String,
}

impl PathItem {
    fn of(item: &Value) -> PathItem {
        let operation = |method: &str| has(item, method).then(|| Operation::of(&item[method]));
        PathItem {
            get: operation("get"),
            put: operation("put"),
            post: operation("post"),
            delete: operation("delete"),
            patch: operation("patch"),
            parameters: parameters(item),
        }
    }
}

impl Operation {
    fn of(operation: &Value) -> Operation {
        let response = |(code, response): (&String, &Value)| NamedResponse {
            name: code.clone(),
            value: Some(ResponseValue {
                response: Some(Response {
                    description: text(response, "description").to_owned(),
                    schema: has(response, "schema")
                        .then(|| SchemaItem { schema: Some(Schema::of(&response["schema"])) }),
                }),
            }),
        };
        Operation {
            tags: words(operation, "tags"),
            description: text(operation, "description").to_owned(),
            operation_id: text(operation, "operationId").to_owned(),
            consumes: words(operation, "consumes"),
            parameters: parameters(operation),
            responses: Some(Responses {
                response_code: entries(operation, "responses").iter().map(response).collect(),
            }),
            vendor_extension: extensions(operation),
        }
    }
}

impl Schema {
    fn of(schema: &Value) -> Schema {
        let named = |field: &str| has(schema, field).then(|| named_schemas(entries(schema, field)));
        Schema {
            reference: text(schema, "$ref").to_owned(),
            format: text(schema, "format").to_owned(),
            description: text(schema, "description").to_owned(),
            required: words(schema, "required"),
            additional_properties: schema["additionalProperties"]
                .is_object()
                .then(|| Box::new(SchemaItem { schema: Some(Schema::of(&schema["additionalProperties"])) })),
            r#type: has(schema, "type").then(|| Types { value: vec![text(schema, "type").to_owned()] }),
            items: has(schema, "items").then(|| Schemas { schema: vec![Schema::of(&schema["items"])] }),
            properties: named("properties"),
            vendor_extension: extensions(schema),
        }
    }
}

fn named_schemas(schemas: &serde_json::Map<String, Value>) -> NamedSchemas {
    let named = |(name, schema): (&String, &Value)| NamedSchema { name: name.clone(), value: Some(Schema::of(schema)) };
    NamedSchemas { additional_properties: schemas.iter().map(named).collect() }
}

fn parameters(of: &Value) -> Vec<ParametersItem> {
    let parameter = |parameter: &Value| {
        let (name, place) = (text(parameter, "name").to_owned(), text(parameter, "in").to_owned());
        let (required, type_) = (parameter["required"] == true, text(parameter, "type").to_owned());
        let unique_items = parameter["uniqueItems"] == true;
        let kind = match place.as_str() {
            "body" => {
                let schema = Some(Schema::of(&parameter["schema"]));
                ParameterKind::Body(BodyParameter { name, r#in: place, required, schema })
            }
            "path" => {
                let path = PathParameter { required, r#in: place, name, r#type: type_, unique_items };
                ParameterKind::NonBody(NonBodyParameter { kind: Some(NonBodyKind::Path(path)) })
            }
            _ => {
                let query = QueryParameter { r#in: place, name, r#type: type_, unique_items };
                ParameterKind::NonBody(NonBodyParameter { kind: Some(NonBodyKind::Query(query)) })
            }
        };
        ParametersItem { parameter: Some(Parameter { kind: Some(kind) }) }
    };
    items(of, "parameters").iter().map(parameter).collect()
}

fn words(of: &Value, field: &str) -> Vec<String> {
    items(of, field).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn extensions(of: &Value) -> Vec<NamedAny> {
    let all = of.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-"));
    all.map(|(name, value)| NamedAny { name: name.clone(), value: Some(Any { yaml: value.to_string() }) }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_keeps_what_kubectl_looks_for() {
        let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
        let document = json!({
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": "v1"},
            "paths": {"/api/v1/pods/{name}": {
                "parameters": [{"name": "name", "in": "path", "required": true, "type": "string"}],
                "patch": {
                    "consumes": ["application/json-patch+json"],
                    "parameters": [
                        {"name": "dryRun", "in": "query", "type": "string"},
                        {"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/Patch"}},
                    ],
                    "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/Pod"}}},
                    "x-kubernetes-group-version-kind": kind,
                },
            }},
            "definitions": {"Pod": {"type": "object", "required": ["spec"], "properties": {
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "list": {"type": "array", "items": {"$ref": "#/definitions/Pod"}},
            }, "x-kubernetes-group-version-kind": [kind]}},
        });
        let read = Document::decode(encode(&document).as_slice()).unwrap();
        let item = read.paths.unwrap().path.remove(0).value.unwrap();
        let patch = item.patch.unwrap();
        assert_eq!(patch.vendor_extension[0].value.as_ref().unwrap().yaml, kind.to_string());
        assert_eq!((patch.parameters.len(), item.parameters.len()), (2, 1));
        let pod = read.definitions.unwrap().additional_properties.remove(0).value.unwrap();
        let properties = pod.properties.unwrap().additional_properties;
        assert_eq!(
            properties[1].value.as_ref().unwrap().items.as_ref().unwrap().schema[0].reference,
            "#/definitions/Pod"
        );
        assert_eq!(pod.r#type.unwrap().value, ["object"]);
    }
}
