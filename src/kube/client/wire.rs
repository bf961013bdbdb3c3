//! How requests and answers look on the wire. Pure.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::{DeleteOptions, List, ListOptions, PatchType, Request, Response, Target, Verb, WatchOptions, WriteOptions};
use crate::kube::object::{Object, WatchEvent};
use crate::kube::status::Status;

/// A request as HTTP carries it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: Method,
    pub path_and_query: String,
    pub content_type: Option<&'static str>,
    pub body: Bytes,
}

impl Call {
    pub fn of(request: &Request) -> Result<Call, Status> {
        let mut query = Query::default();
        let (method, content_type, body) = match &request.verb {
            Verb::Get => (Method::GET, None, Bytes::new()),
            Verb::List(options) => {
                query.list(options);
                (Method::GET, None, Bytes::new())
            }
            Verb::Create { body } => {
                query.write(&request.write);
                (Method::POST, Some("application/json"), body.clone())
            }
            Verb::Update { body } => {
                query.write(&request.write);
                (Method::PUT, Some("application/json"), body.clone())
            }
            Verb::Patch { kind, body, force } => {
                query.write(&request.write);
                query.flag("force", *force);
                (Method::PATCH, Some(patch_content_type(*kind)), body.clone())
            }
            Verb::Delete(options) => {
                query.flag_value("dryRun", request.write.dry_run, "All");
                (Method::DELETE, Some("application/json"), delete_body(options))
            }
            Verb::DeleteCollection(which, options) => {
                query.list(which);
                query.flag_value("dryRun", request.write.dry_run, "All");
                (Method::DELETE, Some("application/json"), delete_body(options))
            }
        };
        Ok(Call { method, path_and_query: query.onto(path(&request.target)), content_type, body })
    }

    pub fn watch(target: &Target, options: &WatchOptions) -> Call {
        let mut query = Query::default();
        query.add("watch", "true");
        query.option("labelSelector", options.label_selector.as_deref());
        query.option("fieldSelector", options.field_selector.as_deref());
        query.option("resourceVersion", options.resource_version.as_deref());
        query.option("resourceVersionMatch", options.resource_version_match.as_deref());
        query.flag("allowWatchBookmarks", options.allow_bookmarks);
        query.flag("sendInitialEvents", options.send_initial_events);
        query.option("timeoutSeconds", options.timeout_seconds.map(|seconds| seconds.to_string()).as_deref());
        Call { method: Method::GET, path_and_query: query.onto(path(target)), content_type: None, body: Bytes::new() }
    }
}

fn path(target: &Target) -> String {
    let mut path = match target.group.as_str() {
        "" => format!("/api/{}", target.version),
        group => format!("/apis/{group}/{}", target.version),
    };
    let mut push = |segment: &str| {
        path.push('/');
        path.push_str(&escape(segment));
    };
    if let Some(namespace) = &target.namespace {
        push("namespaces");
        push(namespace);
    }
    push(&target.resource);
    for segment in [&target.name, &target.subresource].into_iter().flatten() {
        push(segment);
    }
    path
}

fn patch_content_type(kind: PatchType) -> &'static str {
    match kind {
        PatchType::Json => "application/json-patch+json",
        PatchType::Merge => "application/merge-patch+json",
        PatchType::Strategic => "application/strategic-merge-patch+json",
        PatchType::Apply => "application/apply-patch+yaml",
    }
}

fn delete_body(options: &DeleteOptions) -> Bytes {
    let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    if let Some(seconds) = options.grace_period_seconds {
        body["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(policy) = &options.propagation_policy {
        body["propagationPolicy"] = policy.as_str().into();
    }
    if let Some(uid) = &options.precondition_uid {
        body["preconditions"]["uid"] = uid.as_str().into();
    }
    if let Some(version) = &options.precondition_resource_version {
        body["preconditions"]["resourceVersion"] = version.as_str().into();
    }
    body.to_string().into()
}

#[derive(Default)]
struct Query(String);

impl Query {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&escape(value));
    }

    fn option(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.flag_value(name, value, "true");
    }

    fn flag_value(&mut self, name: &str, set: bool, value: &str) {
        if set {
            self.add(name, value);
        }
    }

    fn list(&mut self, options: &ListOptions) {
        self.option("labelSelector", options.label_selector.as_deref());
        self.option("fieldSelector", options.field_selector.as_deref());
        self.option("limit", options.limit.map(|limit| limit.to_string()).as_deref());
        self.option("continue", options.continue_token.as_deref());
        self.option("resourceVersion", options.resource_version.as_deref());
        self.option("resourceVersionMatch", options.resource_version_match.as_deref());
    }

    fn write(&mut self, options: &WriteOptions) {
        self.flag_value("dryRun", options.dry_run, "All");
        self.option("fieldManager", options.field_manager.as_deref());
        self.option("fieldValidation", options.field_validation.as_deref());
    }

    fn onto(self, path: String) -> String {
        path + &self.0
    }
}

/// Percent-encodes what is not unreserved.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Why the server refused.
pub fn refusal(code: StatusCode, body: &[u8]) -> Status {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned();
        Status::new(code.as_u16(), code.canonical_reason().unwrap_or("Unknown"), text)
    })
}

/// What every answer has in common.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default)]
    items: Option<Vec<Box<RawValue>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    r#continue: Option<String>,
    remaining_item_count: Option<u64>,
}

/// What a server answered.
pub fn answer(code: StatusCode, body: Bytes) -> Result<Response, Status> {
    if !code.is_success() {
        return Err(refusal(code, &body));
    }
    let undecodable =
        |error| Status::new(500, "InternalError", format!("the API server's answer does not decode: {error}"));
    let Answer { api_version, kind, metadata, items } = serde_json::from_slice(&body).map_err(undecodable)?;
    if kind == "Status" {
        return Ok(Response::Done);
    }
    let Some(items) = items.filter(|_| kind.ends_with("List")) else {
        return Ok(Response::Object(Arc::new(Object::from_json(body).map_err(undecodable)?)));
    };
    let item_kind = kind.strip_suffix("List").unwrap_or_default();
    let items = items.iter().map(|item| list_item(item, &api_version, item_kind).map(Arc::new));
    Ok(Response::List(List {
        items: items.collect::<Result<_, _>>().map_err(undecodable)?,
        resource_version: metadata.resource_version,
        continue_token: metadata.r#continue.filter(|token| !token.is_empty()),
        remaining_item_count: metadata.remaining_item_count,
    }))
}

/// An item of a list, which need not say itself what it is.
fn list_item(item: &RawValue, api_version: &str, kind: &str) -> Result<Object, serde_json::Error> {
    let object = Object::from_json(Bytes::copy_from_slice(item.get().as_bytes()))?;
    if !object.meta.kind.is_empty() {
        return Ok(object);
    }
    let mut value = object.value();
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    Object::from_value(&value)
}

#[derive(Deserialize)]
struct Line {
    r#type: String,
    object: Box<RawValue>,
}

/// One line of a watch. An error ends it.
pub fn event(line: &[u8]) -> Result<WatchEvent, Status> {
    let undecodable = |error| Status::new(500, "InternalError", format!("an event does not decode: {error}"));
    let Line { r#type, object } = serde_json::from_slice(line).map_err(undecodable)?;
    if r#type == "ERROR" {
        return Err(refusal(StatusCode::INTERNAL_SERVER_ERROR, object.get().as_bytes()));
    }
    let object = Object::from_json(Bytes::copy_from_slice(object.get().as_bytes())).map_err(undecodable)?;
    match r#type.as_str() {
        "ADDED" => Ok(WatchEvent::Added(Arc::new(object))),
        "MODIFIED" => Ok(WatchEvent::Modified(Arc::new(object))),
        "DELETED" => Ok(WatchEvent::Deleted(Arc::new(object))),
        "BOOKMARK" => Ok(WatchEvent::Bookmark {
            initial_events_end: object
                .meta
                .annotations
                .get("k8s.io/initial-events-end")
                .is_some_and(|end| end == "true"),
            resource_version: object.meta.resource_version,
        }),
        other => Err(Status::new(500, "InternalError", format!("a watch event of unknown type {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            group: "apps".into(),
            version: "v1".into(),
            resource: "deployments".into(),
            namespace: Some("default".into()),
            name: Some("www".into()),
            subresource: Some("scale".into()),
        }
    }

    #[test]
    fn paths_and_queries_are_escaped() {
        let call = Call::watch(
            &Target { name: None, subresource: None, ..target() },
            &WatchOptions { label_selector: Some("app in (a,b)".into()), allow_bookmarks: true, ..Default::default() },
        );
        let expected = "/apis/apps/v1/namespaces/default/deployments\
                        ?watch=true&labelSelector=app%20in%20%28a%2Cb%29&allowWatchBookmarks=true";
        assert_eq!(call.path_and_query, expected);
    }

    #[test]
    fn a_patch_names_its_kind() {
        let verb = Verb::Patch { kind: PatchType::Merge, body: Bytes::from_static(b"{}"), force: true };
        let call = Call::of(&Request { target: target(), verb, write: WriteOptions::default() }).unwrap();
        assert_eq!(call.path_and_query, "/apis/apps/v1/namespaces/default/deployments/www/scale?force=true");
        assert_eq!(call.content_type, Some("application/merge-patch+json"));
    }

    #[test]
    fn items_of_a_list_learn_what_they_are() {
        let body = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"},
                          "items": [{"metadata": {"name": "a"}}]});
        let Ok(Response::List(list)) = answer(StatusCode::OK, body.to_string().into()) else { panic!("not a list") };
        assert_eq!((list.resource_version.as_str(), list.items[0].meta.kind.as_str()), ("7", "Pod"));
    }

    #[test]
    fn refusals_that_are_no_status_become_one() {
        let status = answer(StatusCode::BAD_GATEWAY, Bytes::from_static(b"oops")).unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (502, "oops"));
    }
}
