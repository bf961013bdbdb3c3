//! Paths that are not resources: discovery, OpenAPI, version, health.

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::apiserver::negotiation::{MediaType, accepted};
use crate::apiserver::request::Api;
use crate::kube::discovery::{self, AGGREGATED_V2, AGGREGATED_V2_BETA, Document, Root};
use crate::kube::openapi::OpenApi;
use crate::kube::resources::Table;
use crate::kube::status::Status;

use super::parameters::Parameters;
use super::respond::{Body, full, response};
use super::route::{Health, Route};

/// The Kubernetes level that is served.
const MAJOR: &str = "1";
const MINOR: &str = "35";
const GIT_VERSION: &str = "v1.35.0";
const OPENAPI_V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

impl Api {
    /// Answers a path that is not a resource.
    pub(super) async fn document(
        &self,
        route: &Route,
        headers: &HeaderMap,
        query: &Parameters,
    ) -> Result<Response<Body>, Status> {
        let table = &self.table;
        let found =
            |value: Option<Value>| value.ok_or_else(Status::no_such_resource).map(|value| json(headers, &value));
        match route {
            Route::Root => Ok(json(headers, &root(table))),
            Route::Api => discovered(headers, Root::Core, table, || discovery::api_versions(&self.address())),
            Route::Apis => discovered(headers, Root::Groups, table, || discovery::api_group_list(table)),
            Route::Group(group) => found(discovery::api_group_of(table, group)),
            Route::GroupVersion(group, version) => found(discovery::api_resource_list(table, group, version)),
            Route::OpenApiIndex => {
                Ok(document(headers, &OpenApi::builtin().index, "application/json", "no-cache, private"))
            }
            Route::OpenApi(key) => openapi(headers, key, query),
            Route::Version => Ok(response(200, "application/json", version().to_string())),
            Route::Metrics => {
                let text = self.metrics.text(self.world.net.clients());
                Ok(response(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", text))
            }
            Route::Actors => Ok(response(200, "application/json", self.world.spawner.roster().to_json())),
            Route::OpenIdConfiguration => Ok(response(200, "application/json", self.openid().to_string())),
            Route::KeySet => Ok(response(200, "application/jwk-set+json", self.tokens.key_set().to_string())),
            Route::OpenApiV2 => Ok(openapi_v2(headers)),
            Route::Unknown | Route::Resource(_) | Route::Health(..) => Err(Status::no_such_resource()),
        }
    }

    fn openid(&self) -> Value {
        let issuer = self.tokens.issuer();
        json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    fn address(&self) -> String {
        self.config.advertise.map_or_else(String::new, |(ip, port)| std::net::SocketAddr::new(ip, port).to_string())
    }

    /// Whether requests would be answered now.
    async fn is_ready(&self) -> bool {
        let began = *self.ready.borrow() && !self.shutdown.begun();
        began && self.store_check.passes(&self.world.clock, self.storage.revision()).await
    }

    /// Health: live while it answers, ready while the store answers.
    pub(super) async fn health(&self, which: Health, check: Option<&str>, query: &Parameters) -> Response<Body> {
        let store = which == Health::Livez || check == Some("ping") || self.is_ready().await;
        let checks = [("ping", true), ("store", store)];
        let name = match which {
            Health::Healthz => "healthz",
            Health::Livez => "livez",
            Health::Readyz => "readyz",
        };
        let asked: Vec<_> = checks.iter().filter(|(known, _)| check.is_none_or(|check| check == *known)).collect();
        if asked.is_empty() {
            return response(404, "text/plain; charset=utf-8", "404 page not found\n");
        }
        let passed = asked.iter().all(|(_, passed)| *passed);
        if passed && !query.flag("verbose") {
            return response(200, "text/plain; charset=utf-8", "ok");
        }
        let mut text = String::new();
        for (check, passed) in asked {
            text += &if *passed {
                format!("[+]{check} ok\n")
            } else {
                format!("[-]{check} failed: the store does not answer\n")
            };
        }
        text += &format!("{name} check {}\n", if passed { "passed" } else { "failed" });
        response(if passed { 200 } else { 500 }, "text/plain; charset=utf-8", text)
    }
}

fn version() -> Value {
    json!({
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

fn root(table: &Table) -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for (group, version) in table.group_versions().into_iter().filter(|(group, _)| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.push(format!("/apis/{group}/{version}"));
    }
    let others =
        ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"];
    paths.extend(others.map(str::to_owned));
    json!({"paths": paths})
}

/// A discovery document, aggregated where the client accepts that.
fn discovered(
    headers: &HeaderMap,
    root: Root,
    table: &Table,
    plain: impl FnOnce() -> Value,
) -> Result<Response<Body>, Status> {
    let (value, content_type) = match accepted(headers, true)? {
        MediaType::Discovery("v2") => (discovery::aggregated(table, root, "v2"), AGGREGATED_V2),
        MediaType::Discovery(_) => (discovery::aggregated(table, root, "v2beta1"), AGGREGATED_V2_BETA),
        _ => (plain(), "application/json"),
    };
    let mut response = document(headers, &Document::of(&value), content_type, "public");
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

fn json(headers: &HeaderMap, value: &Value) -> Response<Body> {
    document(headers, &Document::of(value), "application/json", "no-cache, private")
}

/// All documents in one, for clients that know only v2. kubectl reads it as protobuf only.
fn openapi_v2(headers: &HeaderMap) -> Response<Body> {
    let all = OpenApi::builtin();
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut response = if accepted.into_iter().any(|text| text.contains("proto-openapi.spec.v2")) {
        document(headers, &all.v2_protobuf, OPENAPI_V2_PROTOBUF, "no-cache, private")
    } else {
        document(headers, &all.v2, "application/json", "no-cache, private")
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// The document of a group and version. A document that is requested by its hash never changes and may be cached
/// forever.
fn openapi(headers: &HeaderMap, key: &str, query: &Parameters) -> Result<Response<Body>, Status> {
    let all = OpenApi::builtin();
    let found = all.get(key).ok_or_else(Status::no_such_resource)?;
    match query.get("hash") {
        None => Ok(document(headers, found, "application/json", "no-cache, private")),
        Some(hash) if hash == found.hash() => {
            let mut response = document(headers, found, "application/json", "public, immutable");
            response.headers_mut().insert(EXPIRES, HeaderValue::from_static("Thu, 31 Dec 2099 23:59:59 GMT"));
            Ok(response)
        }
        Some(_) => {
            let mut moved = Response::new(full(""));
            *moved.status_mut() = StatusCode::MOVED_PERMANENTLY;
            let location = format!("/openapi/v3/{key}?hash={}", found.hash());
            let location = HeaderValue::from_str(&location).map_err(Status::internal_error)?;
            moved.headers_mut().insert(LOCATION, location);
            Ok(moved)
        }
    }
}

/// A document, or 304 for a client that has it.
fn document(
    headers: &HeaderMap,
    document: &Document,
    content_type: &'static str,
    cache: &'static str,
) -> Response<Body> {
    let known = headers.get(IF_NONE_MATCH).is_some_and(|etag| etag.as_bytes() == document.etag.as_bytes());
    let mut response = Response::new(full(if known { bytes::Bytes::new() } else { document.body.clone() }));
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        fields.insert(ETAG, etag);
    }
    response
}
