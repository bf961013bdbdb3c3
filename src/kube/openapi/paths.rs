//! Operations: which verbs each path answers, with the kind and the parameters that clients look for.

use serde_json::{Map, Value, json};

use crate::kube::resources::{ApiSubresource, Resource, Table, definition_of_kind};
use crate::kube::schema::REFERENCE;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const LIST_PARAMETERS: [(&str, &str); 10] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE_PARAMETERS: [(&str, &str); 3] =
    [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const DELETE_PARAMETERS: [(&str, &str); 4] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// All paths of a group-version.
pub(super) fn of_group_version(table: &Table, group: &str, version: &str) -> Value {
    let root = format!("/{}", super::root(group, version));
    let mut paths = Map::new();
    paths.insert(
        format!("{root}/"),
        json!({"get": {
            "description": "get available resources",
            "operationId": format!("get{}{}APIResources", camel(group), camel(version)),
            "responses": {"200": {"description": "OK"}},
        }}),
    );
    for resource in table.iter().filter(|entry| entry.group == group && entry.version == version) {
        add_resource(&root, resource, &mut paths);
    }
    paths.sort_keys();
    Value::Object(paths)
}

fn add_resource(root: &str, resource: &Resource, paths: &mut Map<String, Value>) {
    let collection = match resource.is_namespaced() {
        true => format!("{root}/namespaces/{{namespace}}/{}", resource.plural),
        false => format!("{root}/{}", resource.plural),
    };
    if resource.is_namespaced() && resource.allows("list") {
        let path = Path { resource, sub: None, definition: resource.definition.clone(), kind: own_kind(resource) };
        let item = json!({"get": path.operation("list", "get", "ForAllNamespaces")});
        paths.insert(format!("{root}/{}", resource.plural), item);
    }
    let path = Path { resource, sub: None, definition: resource.definition.clone(), kind: own_kind(resource) };
    let verbs = [("list", "get"), ("create", "post"), ("deletecollection", "delete")];
    paths.insert(collection.clone(), path.item(&verbs, &resource.verbs, false));
    let verbs = [("get", "get"), ("update", "put"), ("patch", "patch"), ("delete", "delete")];
    if verbs.iter().any(|(verb, _)| resource.allows(verb)) {
        paths.insert(format!("{collection}/{{name}}"), path.item(&verbs, &resource.verbs, true));
    }
    for sub in &resource.subresources {
        let (definition, kind) = match &sub.response_kind {
            Some((group, version, kind)) => {
                (definition_of_kind(group, version, kind), json!({"group": group, "version": version, "kind": kind}))
            }
            None => (resource.definition.clone(), own_kind(resource)),
        };
        let path = Path { resource, sub: Some(sub), definition, kind };
        let verbs = [("get", "get"), ("create", "post"), ("update", "put"), ("patch", "patch"), ("delete", "delete")];
        paths.insert(format!("{collection}/{{name}}/{}", sub.name), path.item(&verbs, &sub.verbs, true));
    }
}

fn own_kind(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

struct Path<'a> {
    resource: &'a Resource,
    sub: Option<&'a ApiSubresource>,
    definition: String,
    kind: Value,
}

impl Path<'_> {
    /// A path with those of `verbs` (verb and HTTP method) that are served.
    fn item(&self, verbs: &[(&str, &str)], served: &[String], named: bool) -> Value {
        let mut item = Map::new();
        for (verb, method) in verbs.iter().filter(|(verb, _)| served.iter().any(|known| known == verb)) {
            item.insert((*method).to_owned(), self.operation(verb, method, ""));
        }
        let mut parameters = Vec::new();
        if named {
            parameters.push(in_path("name"));
        }
        if self.resource.is_namespaced() {
            parameters.push(in_path("namespace"));
        }
        parameters.push(in_query("pretty", "string"));
        item.insert("parameters".into(), parameters.into());
        Value::Object(item)
    }

    fn operation(&self, verb: &str, method: &str, suffix: &str) -> Value {
        let code = if method == "post" { "201" } else { "200" };
        let mut operation = json!({
            "operationId": self.operation_id(verb, suffix),
            "tags": [format!("{}_{}", camel(&self.resource.group), self.resource.version)],
            "parameters": parameters(verb),
            "responses": {code: {
                "description": "OK",
                "content": {"application/json": {"schema": self.response(verb)}},
            }},
            "x-kubernetes-action": if method == "get" || method == "delete" { verb } else { method },
            "x-kubernetes-group-version-kind": self.kind,
        });
        if let Some(body) = self.body(verb) {
            operation["requestBody"] = body;
        }
        operation
    }

    fn operation_id(&self, verb: &str, suffix: &str) -> String {
        let Resource { group, version, kind, .. } = self.resource;
        let group = if group.is_empty() { "Core".to_owned() } else { camel(group) };
        let scope = if self.resource.is_namespaced() && suffix.is_empty() { "Namespaced" } else { "" };
        let sub = self.sub.map_or(String::new(), |sub| camel(&sub.name));
        format!("{verb}{group}{}{scope}{kind}{sub}{suffix}", camel(version))
    }

    fn response(&self, verb: &str) -> Value {
        match verb {
            "list" => reference(&format!("{}List", self.definition)),
            "delete" | "deletecollection" => reference(&format!("{META}.Status")),
            _ if self.is_text() => json!({"type": "string"}),
            _ => reference(&self.definition),
        }
    }

    /// Streams and logs, whose bodies are not objects.
    fn is_text(&self) -> bool {
        self.sub.is_some_and(|sub| ["attach", "exec", "portforward", "log", "proxy"].contains(&sub.name.as_str()))
    }

    fn body(&self, verb: &str) -> Option<Value> {
        match verb {
            "create" | "update" if !self.is_text() => Some(json!({
                "required": true,
                "content": {"*/*": {"schema": reference(&self.definition)}},
            })),
            "patch" => {
                let schema = json!({"schema": reference(&format!("{META}.Patch"))});
                let content: Map<String, Value> =
                    PATCH_TYPES.iter().map(|type_| ((*type_).to_owned(), schema.clone())).collect();
                Some(json!({"required": true, "content": content}))
            }
            "delete" | "deletecollection" => {
                Some(json!({"content": {"*/*": {"schema": reference(&format!("{META}.DeleteOptions"))}}}))
            }
            _ => None,
        }
    }
}

fn parameters(verb: &str) -> Vec<Value> {
    let rows = |rows: &[(&str, &str)]| rows.iter().map(|(name, type_)| in_query(name, type_)).collect();
    match verb {
        "list" => rows(&LIST_PARAMETERS),
        "create" | "update" => rows(&WRITE_PARAMETERS),
        "patch" => {
            let mut all: Vec<Value> = rows(&WRITE_PARAMETERS);
            all.push(in_query("force", "boolean"));
            all
        }
        "delete" => rows(&DELETE_PARAMETERS),
        "deletecollection" => rows(&[&DELETE_PARAMETERS[..], &LIST_PARAMETERS[1..7]].concat()),
        _ => Vec::new(),
    }
}

fn reference(definition: &str) -> Value {
    json!({"$ref": format!("{REFERENCE}{definition}")})
}

fn in_query(name: &str, type_: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": type_, "uniqueItems": true}})
}

fn in_path(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}})
}

/// `Apps` of `apps`, `RbacAuthorization` of `rbac.authorization.k8s.io`.
fn camel(text: &str) -> String {
    let words = text.trim_end_matches(".k8s.io").split(['.', '-']);
    words
        .map(|word| match word.split_at_checked(1) {
            Some((first, rest)) => first.to_ascii_uppercase() + rest,
            None => String::new(),
        })
        .collect()
}
