//! Outcomes as HTTP responses.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WARNING};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::apiserver::negotiation::MediaType;
use crate::apiserver::request::Outcome;
use crate::kube::client::{List, Response as Answer};
use crate::kube::object::Object;
use crate::kube::printing::{IncludeObjectPolicy, TableOptions, partial_metadata, partial_metadata_list, render_table};
use crate::kube::resources::Resource;
use crate::kube::status::Status;

/// The body of every response. Only a stream from an agent can fail; that ends the connection.
pub type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// In which format a client wants the answer.
#[derive(Clone, Debug)]
pub struct OutputFormat {
    pub media_type: MediaType,
    pub include_object: IncludeObjectPolicy,
    pub pretty: bool,
    pub now: Timestamp,
}

/// A whole body.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A response with a body of this type.
pub fn response(code: u16, content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A refusal.
pub fn refusal(status: &Status) -> Response<Body> {
    let mut refused = response(status.code, "application/json", status.to_bytes());
    let wait = status.details.as_ref().and_then(|details| details.retry_after_seconds);
    if let Some(seconds) = wait.filter(|_| status.code >= 429) {
        refused.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    refused
}

/// The outcome of a request, in the format that its client accepts.
pub fn outcome(resource: &Resource, outcome: Outcome, format: &OutputFormat) -> Response<Body> {
    let code = if outcome.created { 201 } else { 200 };
    let mut response = match outcome.response {
        Answer::Object(object) => value(code, shown(resource, &object, format), format),
        Answer::List(list) => listed(resource, &list, format),
        Answer::Done => {
            let done = outcome.status.unwrap_or_else(|| Status::new(200, "", ""));
            value(code, Shown::Bytes(done.to_bytes()), format)
        }
    };
    for warning in outcome.warnings {
        let text: String = warning.chars().filter(|c| !c.is_control()).collect();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(header) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(WARNING, header);
        }
    }
    response
}

/// JSON, encoded or not.
pub enum Shown {
    Bytes(Bytes),
    Value(Value),
}

/// A body of JSON or YAML.
pub fn value(code: u16, shown: Shown, format: &OutputFormat) -> Response<Body> {
    let parsed = |shown| match shown {
        Shown::Value(value) => value,
        Shown::Bytes(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
    };
    if format.media_type == MediaType::Yaml {
        let text = serde_yaml_ng::to_string(&parsed(shown)).unwrap_or_default();
        return response(code, "application/yaml", text);
    }
    let bytes = match shown {
        shown if format.pretty => serde_json::to_vec_pretty(&parsed(shown)).unwrap_or_default().into(),
        Shown::Bytes(bytes) => bytes,
        Shown::Value(value) => serde_json::to_vec(&value).unwrap_or_default().into(),
    };
    response(code, "application/json", bytes)
}

/// One object in the wanted format.
pub fn shown(resource: &Resource, object: &Arc<Object>, format: &OutputFormat) -> Shown {
    match format.media_type {
        MediaType::Table if object.meta.kind == resource.kind => {
            let metadata = json!({"resourceVersion": object.meta.resource_version});
            Shown::Value(table(resource, [&object.value()], metadata, format, false))
        }
        MediaType::Metadata => Shown::Value(partial_metadata(&object.value())),
        _ => Shown::Bytes(object.json.clone()),
    }
}

/// A table of objects.
pub fn table<'a>(
    resource: &Resource,
    objects: impl IntoIterator<Item = &'a Value>,
    metadata: Value,
    format: &OutputFormat,
    no_headers: bool,
) -> Value {
    let options = TableOptions { include_object: format.include_object, no_headers };
    render_table(&resource.printer, objects, metadata, format.now, &options)
}

fn listed(resource: &Resource, list: &List, format: &OutputFormat) -> Response<Body> {
    let mut metadata = json!({"resourceVersion": list.resource_version});
    if let Some(token) = &list.continue_token {
        metadata["continue"] = json!(token);
    }
    if let Some(remaining) = list.remaining_item_count {
        metadata["remainingItemCount"] = json!(remaining);
    }
    let values = || list.items.iter().map(|object| object.value()).collect::<Vec<_>>();
    let shown = match format.media_type {
        MediaType::Table => Shown::Value(table(resource, &values(), metadata, format, false)),
        MediaType::Metadata => Shown::Value(partial_metadata_list(&values(), metadata)),
        _ => Shown::Bytes(whole_list(resource, list, &metadata)),
    };
    value(200, shown, format)
}

/// A list of whole objects: their bytes, concatenated.
fn whole_list(resource: &Resource, list: &List, metadata: &Value) -> Bytes {
    let size: usize = list.items.iter().map(|object| object.json.len() + 1).sum();
    let mut bytes = BytesMut::with_capacity(size + 256);
    let head = format!(
        "{{\"kind\":{:?},\"apiVersion\":{:?},\"metadata\":{metadata},\"items\":[",
        resource.list_kind,
        resource.group_version()
    );
    bytes.put_slice(head.as_bytes());
    for (at, object) in list.items.iter().enumerate() {
        if at > 0 {
            bytes.put_u8(b',');
        }
        bytes.put_slice(&object.json);
    }
    bytes.put_slice(b"]}\n");
    bytes.freeze()
}
