//! HTTP: from a request on a connection to the request path, and back.
//!
//! ```text
//!   hyper ─▶ user (certificate, token) ─▶ Route ─┬─ resource ─▶ Api::call ─▶ respond
//!                                                ├─ watch ────▶ Api::watch ─▶ lines
//!                                                ├─ log ──────▶ the agent's stream
//!                                                └─ document, health
//! ```
//!
//! - [`route`]: paths; pure
//! - [`parameters`]: query parameters and bodies as options; pure
//! - [`respond`]: outcomes as responses, tables among them
//! - [`watch`]: watches as lines
//! - [`documents`]: discovery, OpenAPI, version, health
//! - [`impersonation`]: acting for another user

mod documents;
mod impersonation;
mod parameters;
mod respond;
mod route;
mod watch;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use crate::actor::Share;
use crate::kube::client::{Target, Verb, WriteOptions};
use crate::kube::schema::{Format, parse};
use crate::kube::status::Status;
use crate::world::{Instant, panics};

use super::authorization::Attributes;
use super::negotiation;
use super::request::{self, Api, DEADLINE, RequestInfo, RequestLine};
use super::user::User;

use self::parameters::Parameters;
use self::respond::{Body, OutputFormat};
use self::route::Route;

/// Longer bodies are refused.
const BODY_BYTES_MAX: usize = 3 << 20;
/// Of longer bodies, this much is read and discarded before the refusal.
const REFUSED_BYTES_MAX: usize = 32 << 20;
/// Longer YAML is parsed away from the tasks.
const YAML_INLINE_MAX: usize = 64 << 10;

/// A request without its body.
struct RequestHead<'a> {
    user: &'a User,
    parts: &'a Parts,
    query: Parameters,
    format: OutputFormat,
    deadline: Instant,
}

/// Answers one request of a connection whose client showed `certificate`.
pub async fn answer(api: Arc<Api>, certificate: Option<User>, request: Request<Incoming>) -> Response<Body> {
    let started = api.world.clock.now();
    let (parts, body) = request.into_parts();
    let route = Route::of(parts.uri.path());
    let mut response = match panics::catch_panics(respond(&api, certificate.as_ref(), &route, &parts, body)).await {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => respond::refusal(&status),
        Err(panic) => {
            let what = format!("{} {}", parts.method, parts.uri.path());
            respond::refusal(&request::panicked(&what, &panic))
        }
    };
    if let Ok(id) = HeaderValue::from_str(&api.world.random.uuid().to_string()) {
        response.headers_mut().insert("audit-id", id);
    }
    let known = match &route {
        Route::Resource(target) if api.resource(target).is_ok() => (target.group.as_str(), target.resource.as_str()),
        _ => ("", ""),
    };
    let seconds = started.elapsed().as_secs_f64();
    api.metrics.answered(method_word(&parts.method), known.0, known.1, response.status().as_u16(), seconds);
    response
}

/// The answer where too many requests are in flight, or too much waits to be read.
pub fn too_much() -> Response<Body> {
    respond::refusal(&Status::too_many_requests(1))
}

fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

async fn respond(
    api: &Arc<Api>,
    certificate: Option<&User>,
    route: &Route,
    parts: &Parts,
    body: Incoming,
) -> Result<Response<Body>, Status> {
    let deadline = api.world.clock.now() + DEADLINE;
    let query = Parameters(route::parameters(parts.uri.query().unwrap_or_default()));
    if let Route::Health(which, check) = route {
        return Ok(api.health(*which, check.as_deref(), &query).await);
    }
    let user = api.until(deadline, api.authenticator.authenticate(certificate, &parts.headers, deadline)).await?;
    let user = api.until(deadline, api.impersonated(user, &parts.headers, deadline)).await?;
    let Route::Resource(target) = route else {
        api.until(deadline, api.may_read(&user, parts, deadline)).await?;
        return api.document(route, &parts.headers, &query).await;
    };
    let format = OutputFormat {
        media_type: negotiation::accepted(&parts.headers, false)?,
        include_object: query.include_object(),
        pretty: query.flag("pretty"),
        now: watch::now(&api.world.clock),
    };
    let head = RequestHead { user: &user, parts, query, format, deadline };
    api.resource_request(head, target, body).await
}

impl Api {
    /// May the user read this path?
    async fn may_read(&self, user: &User, parts: &Parts, deadline: Instant) -> Result<(), Status> {
        self.wait_until_ready(deadline).await?;
        let verb = match parts.method {
            Method::GET => "get",
            Method::HEAD => "head",
            Method::POST => "post",
            Method::PUT => "put",
            Method::DELETE => "delete",
            _ => "patch",
        };
        // Routes are found by the decoded path, so the decoded path is authorized.
        let path = route::decode(parts.uri.path()).ok_or_else(Status::no_such_resource)?;
        let attributes = Attributes::NonResource { verb, path: &path };
        self.authorizer.check(user, &attributes, deadline).await
    }

    async fn resource_request(
        &self,
        head: RequestHead<'_>,
        target: &Target,
        body: Incoming,
    ) -> Result<Response<Body>, Status> {
        let resource = self.resource(target)?;
        let get = head.parts.method == Method::GET || head.parts.method == Method::HEAD;
        if get && target.subresource.as_deref() == Some("log") {
            return self.log(&head, target).await;
        }
        if get && head.query.flag("watch") && target.subresource.is_none() {
            let watched = self.watch(head.user, target.clone(), head.query.watch()?).await?;
            return Ok(watch::response(watched, head.format, self.world.clock.clone(), self.metrics.opened()));
        }
        let verb = verb(&head, target)?;
        let list = match verb {
            "list" | "deletecollection" => Some(head.query.list()?),
            _ => None,
        };
        let line = RequestLine { user: head.user, target, verb, list: list.as_ref(), deadline: head.deadline };
        // Given back when the request is answered.
        let mut share = self.bodies.share();
        let outcome = self.call_reading(line, self.read_verb(&head, target, body, &mut share)).await?;
        Ok(respond::outcome(resource, outcome, &head.format))
    }

    async fn log(&self, head: &RequestHead<'_>, target: &Target) -> Result<Response<Body>, Status> {
        let resource = self.resource(target)?;
        let write = WriteOptions::default();
        let info = RequestInfo { user: head.user, target, resource, write: &write, deadline: head.deadline };
        let opened = async {
            self.wait_until_ready(head.deadline).await?;
            self.authorize(head.user, "get", target, head.deadline).await?;
            self.open_log(&info, &head.query.0).await
        };
        let stream = self.until(head.deadline, opened).await?;
        let mut response = Response::new(stream.boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    /// What is asked, with its body.
    async fn read_verb(
        &self,
        head: &RequestHead<'_>,
        target: &Target,
        body: Incoming,
        share: &mut Share,
    ) -> Result<(Verb, WriteOptions), Status> {
        let headers = &head.parts.headers;
        let write = head.query.write()?;
        let verb = match head.parts.method {
            Method::POST => Verb::Create { body: self.read_document(head, body, share).await? },
            Method::PUT => Verb::Update { body: self.read_document(head, body, share).await? },
            Method::PATCH => {
                let kind = negotiation::patch(headers)?;
                Verb::Patch { kind, body: read(body, share).await?, force: head.query.flag("force") }
            }
            Method::DELETE => {
                let bytes = self.read_document(head, body, share).await?;
                let said: Value = match bytes.is_empty() {
                    true => Value::Null,
                    false => serde_json::from_slice(&bytes).map_err(|error| {
                        Status::bad_request(format!("the delete options are unrecognized: {error}"))
                    })?,
                };
                let (options, dry_run) = head.query.delete(&said)?;
                let verb = match target.name {
                    Some(_) => Verb::Delete(options),
                    None => Verb::DeleteCollection(head.query.list()?, options),
                };
                return Ok((verb, WriteOptions { dry_run, ..write }));
            }
            _ if target.name.is_some() => Verb::Get,
            _ => Verb::List(head.query.list()?),
        };
        Ok((verb, write))
    }

    /// A body as JSON.
    async fn read_document(&self, head: &RequestHead<'_>, body: Incoming, share: &mut Share) -> Result<Bytes, Status> {
        let format = negotiation::body(&head.parts.headers);
        let bytes = read(body, share).await?;
        match format {
            // A deletion needs no body, whatever its content type says.
            Err(_) if bytes.is_empty() && head.parts.method == Method::DELETE => Ok(bytes),
            Err(status) => Err(status),
            Ok(Format::Json) => Ok(bytes),
            Ok(Format::Yaml) if bytes.len() <= YAML_INLINE_MAX => as_json(&bytes),
            Ok(Format::Yaml) => self.world.spawner.blocking(move || as_json(&bytes)).await,
        }
    }
}

/// The verb behind a method, as authorization names it.
fn verb(head: &RequestHead<'_>, target: &Target) -> Result<&'static str, Status> {
    let is_named = target.name.is_some();
    Ok(match head.parts.method {
        Method::GET | Method::HEAD if is_named => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if is_named => "delete",
        Method::DELETE => "deletecollection",
        _ => return Err(Status::method_not_allowed(&target.group, &target.resource, head.parts.method.as_str())),
    })
}

/// A YAML document as JSON.
fn as_json(yaml: &[u8]) -> Result<Bytes, Status> {
    let refuse = |error: String| Status::bad_request(format!("error decoding YAML: {error}"));
    let parsed = parse(yaml, Format::Yaml).map_err(refuse)?;
    serde_json::to_vec(&parsed.value).map(Bytes::from).map_err(|error| refuse(error.to_string()))
}

/// All of a body. A body that is too long is read on for a while, so that its client sees the refusal: many clients do
/// not read the answer before they have sent everything.
async fn read(mut body: Incoming, share: &mut Share) -> Result<Bytes, Status> {
    let mut whole = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("the body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= BODY_BYTES_MAX {
            share.grow_to(length as u64).map_err(|_| Status::too_many_requests(1))?;
            whole.extend_from_slice(&data);
        } else if length > REFUSED_BYTES_MAX {
            break;
        }
    }
    if length > BODY_BYTES_MAX {
        return Err(Status::request_entity_too_large(BODY_BYTES_MAX));
    }
    Ok(whole.freeze())
}
