//! HTTP: from a request on a connection to the request path, and back.
//!
//! ```text
//!   hyper ─▶ who? (certificate, token) ─▶ Route ─┬─ resource ─▶ Api::call ─▶ respond
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
//! - [`impersonation`]: acting for somebody else

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

use crate::kube::client::{self, Target, Verb, WriteOptions};
use crate::kube::schema::{Format, parse};
use crate::kube::status::Status;
use crate::world::{Instant, panics};

use super::authorization::Attributes;
use super::negotiation;
use super::request::{self, Api, Call, DEADLINE};
use super::user::User;

use self::parameters::Parameters;
use self::respond::{Body, Look};
use self::route::Route;

/// Longer bodies are refused.
const BODY_BYTES_MAX: usize = 3 << 20;
/// Of longer bodies, this much is read and thrown away before the refusal.
const REFUSED_BYTES_MAX: usize = 32 << 20;

/// A request without its body.
struct Asked<'a> {
    user: &'a User,
    parts: &'a Parts,
    query: Parameters,
    look: Look,
    deadline: Instant,
}

/// Answers one request of a connection whose client showed `certificate`.
pub async fn answer(api: Arc<Api>, certificate: Option<User>, request: Request<Incoming>) -> Response<Body> {
    let started = api.world.clock.now();
    let (parts, body) = request.into_parts();
    let route = Route::of(parts.uri.path());
    let mut response = match panics::caught(respond(&api, certificate.as_ref(), &route, &parts, body)).await {
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

/// Answers while nothing can be answered: too many requests are under way, or too much waits to be read.
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
        return Ok(api.health(*which, check.as_deref(), &query));
    }
    let user = api.until(deadline, api.authenticator.user(certificate, &parts.headers, deadline)).await?;
    let user = api.until(deadline, api.impersonated(user, &parts.headers, deadline)).await?;
    let Route::Resource(target) = route else {
        api.until(deadline, api.may_read(&user, parts, deadline)).await?;
        return api.document(route, &parts.headers, &query).await;
    };
    let look = Look {
        form: negotiation::accepted(&parts.headers, false)?,
        include: query.include(),
        pretty: query.flag("pretty"),
        now: watch::now(&api.world.clock),
    };
    let asked = Asked { user: &user, parts, query, look, deadline };
    api.resource_request(asked, target, body).await
}

impl Api {
    /// May the user read this path?
    async fn may_read(&self, user: &User, parts: &Parts, deadline: Instant) -> Result<(), Status> {
        self.begin(deadline).await?;
        let verb = match parts.method {
            Method::GET => "get",
            Method::HEAD => "head",
            Method::POST => "post",
            Method::PUT => "put",
            Method::DELETE => "delete",
            _ => "patch",
        };
        // Routes are found by the decoded path, so rights are asked for that, too.
        let path = route::decode(parts.uri.path()).ok_or_else(Status::no_such_resource)?;
        let attributes = Attributes::Path { verb, path: &path };
        self.authorizer.check(user, &attributes, deadline).await
    }

    async fn resource_request(
        &self,
        asked: Asked<'_>,
        target: &Target,
        body: Incoming,
    ) -> Result<Response<Body>, Status> {
        let resource = self.resource(target)?;
        let get = asked.parts.method == Method::GET || asked.parts.method == Method::HEAD;
        if get && target.subresource.as_deref() == Some("log") {
            return self.log(&asked, target).await;
        }
        if get && asked.query.flag("watch") && target.subresource.is_none() {
            let watched = self.watch(asked.user, target.clone(), asked.query.watch()?).await?;
            return Ok(watch::response(watched, asked.look, self.world.clock.clone(), self.metrics.opened()));
        }
        let (verb, write) = self.until(asked.deadline, verb(&asked, target, body)).await?;
        let request = client::Request { target: target.clone(), verb, write };
        let outcome = self.call(asked.user, request).await?;
        Ok(respond::outcome(resource, outcome, &asked.look))
    }

    async fn log(&self, asked: &Asked<'_>, target: &Target) -> Result<Response<Body>, Status> {
        let resource = self.resource(target)?;
        let write = WriteOptions::default();
        let call = Call { user: asked.user, target, resource, write: &write, deadline: asked.deadline };
        let opened = async {
            self.begin(asked.deadline).await?;
            self.authorize(asked.user, "get", target, asked.deadline).await?;
            self.open_log(&call, &asked.query.0).await
        };
        let stream = self.until(asked.deadline, opened).await?;
        let mut response = Response::new(stream.boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }
}

/// The verb behind a method, with its body.
async fn verb(asked: &Asked<'_>, target: &Target, body: Incoming) -> Result<(Verb, WriteOptions), Status> {
    let headers = &asked.parts.headers;
    let write = asked.query.write()?;
    let verb = match asked.parts.method {
        Method::GET | Method::HEAD if target.name.is_some() => Verb::Get,
        Method::GET | Method::HEAD => Verb::List(asked.query.list()?),
        Method::POST => Verb::Create { body: document(asked, body).await? },
        Method::PUT => Verb::Update { body: document(asked, body).await? },
        Method::PATCH => {
            let kind = negotiation::patch(headers)?;
            Verb::Patch { kind, body: read(body).await?, force: asked.query.flag("force") }
        }
        Method::DELETE => {
            let bytes = document(asked, body).await?;
            let said: Value = match bytes.is_empty() {
                true => Value::Null,
                false => serde_json::from_slice(&bytes)
                    .map_err(|error| Status::bad_request(format!("the delete options are unrecognized: {error}")))?,
            };
            let (options, dry_run) = asked.query.delete(&said)?;
            let verb = match target.name {
                Some(_) => Verb::Delete(options),
                None => Verb::DeleteCollection(asked.query.list()?, options),
            };
            return Ok((verb, WriteOptions { dry_run, ..write }));
        }
        _ => return Err(Status::method_not_allowed(&target.group, &target.resource, asked.parts.method.as_str())),
    };
    Ok((verb, write))
}

/// A body as JSON.
async fn document(asked: &Asked<'_>, body: Incoming) -> Result<Bytes, Status> {
    let form = negotiation::body(&asked.parts.headers);
    let bytes = read(body).await?;
    match form {
        // Deletions come without a body, whatever their content type says.
        Err(_) if bytes.is_empty() && asked.parts.method == Method::DELETE => Ok(bytes),
        Err(status) => Err(status),
        Ok(negotiation::Body::Json) => Ok(bytes),
        Ok(negotiation::Body::Yaml) => {
            let refuse = |error: String| Status::bad_request(format!("error decoding YAML: {error}"));
            let parsed = parse(&bytes, Format::Yaml).map_err(refuse)?;
            serde_json::to_vec(&parsed.value).map(Bytes::from).map_err(|error| refuse(error.to_string()))
        }
    }
}

/// All of a body. One that is too long is read on for a while, so that its client sees the refusal: many do not look
/// for an answer before they have sent everything.
async fn read(mut body: Incoming) -> Result<Bytes, Status> {
    let mut whole = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("the body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= BODY_BYTES_MAX {
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
