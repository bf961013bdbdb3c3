//! The plain HTTP endpoints: versions, health, probes, metrics and what helps to debug. All are small and answered at
//! once or after one look at the store; request bodies are not read. What is under `/v3/` goes to the gateway.

mod access;
mod checks;
mod debug;
mod health;
mod metrics;
pub(super) mod process;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;

use super::body::{Body, RequestBody};
use super::frontend::Shared;
use super::gateway;
use super::listen::{Connection, Serves};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

pub(super) async fn answer(connection: &Connection, request: Request<RequestBody>) -> Response<Body> {
    let shared = &connection.shared;
    let (parts, body) = request.into_parts();
    if connection.serves == Serves::Metrics {
        return monitor(shared, &parts).await;
    }
    let path = renamed(parts.uri.path());
    if let Some(refused) = access::refusal(connection, &parts, &path) {
        return refused;
    }
    let allowed = access::allowed_origin(&shared.config.http.cors, &parts.headers);
    let mut response = if parts.method == Method::OPTIONS {
        Response::new(Body::default())
    } else if let Some(cleaned) = cleaned(&path) {
        moved(&parts.uri, &cleaned)
    } else if shared.config.http.gateway && gateway::serves(&path) {
        gateway::answer(shared, &path, Request::from_parts(parts, body)).await
    } else {
        route(shared, &path, &parts).await
    };
    if let Some(origin) = allowed {
        access::allow(response.headers_mut(), origin);
    }
    response
}

/// Answers a monitor, which may ask for metrics and health alone.
async fn monitor(shared: &Arc<Shared>, request: &Parts) -> Response<Body> {
    let path = request.uri.path();
    match matches!(path, "/health" | "/metrics") || checks::known(path) {
        true => route(shared, path, request).await,
        false => text(StatusCode::NOT_FOUND, "404 page not found\n".into()),
    }
}

/// Where `path` should have led, as Go's servers see it: without the idle steps of `//version` or `/v3/../health`, and
/// into the tree that is named without its slash. Nothing for a path that is straight.
fn cleaned(path: &str) -> Option<String> {
    if path == "/v3" {
        return Some("/v3/".to_owned());
    }
    if !path.contains("//") && !path.contains("/.") {
        return None;
    }
    let mut kept = Vec::new();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => _ = kept.pop(),
            step => kept.push(step),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    Some(format!("/{}{end}", kept.join("/"))).filter(|cleaned| cleaned != path)
}

/// Sends the client to `path`, with the same method and query.
fn moved(uri: &http::Uri, path: &str) -> Response<Body> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // A URI may hold a byte that no header may.
    let Ok(location) = HeaderValue::from_bytes(format!("{path}{query}").as_bytes()) else {
        return text(StatusCode::NOT_FOUND, "404 page not found\n".into());
    };
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// The paths of older releases are those of today.
fn renamed(path: &str) -> String {
    match path.strip_prefix("/v3beta/") {
        Some(rest) => format!("/v3/{rest}"),
        None => path.to_owned(),
    }
}

async fn route(shared: &Arc<Shared>, path: &str, request: &Parts) -> Response<Body> {
    let profiling = shared.config.http.profiling && debug::profiles(path);
    if !known(path) && !profiling {
        return text(StatusCode::NOT_FOUND, "404 page not found\n".into());
    }
    if request.method != Method::GET && path != "/metrics" {
        return method_not_allowed();
    }
    let query = Query(request.uri.query().unwrap_or_default());
    match path {
        "/version" => version(shared),
        "/health" => health::answer(shared, &query).await,
        "/metrics" => typed(StatusCode::OK, EXPOSITION, metrics::text(shared).await),
        "/debug/vars" => typed(StatusCode::OK, JSON, debug::vars(shared).await),
        "/debug/actors" => typed(StatusCode::OK, JSON, shared.world.spawner.roster().to_json()),
        profile if profiling => debug::profile(profile),
        probe => checks::answer(shared, probe, &query).await,
    }
}

fn known(path: &str) -> bool {
    matches!(path, "/version" | "/health" | "/metrics" | "/debug/vars" | "/debug/actors") || checks::known(path)
}

fn version(shared: &Shared) -> Response<Body> {
    let agreed = shared.store.versions();
    let answer = serde_json::json!({
        "etcdserver": shared.config.versions.server,
        "etcdcluster": agreed.cluster.as_deref().unwrap_or("not_decided"),
        "storage": agreed.storage.as_deref().unwrap_or("unknown"),
    });
    typed(StatusCode::OK, JSON, answer.to_string())
}

fn method_not_allowed() -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".into());
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

fn text(status: StatusCode, words: String) -> Response<Body> {
    let mut response = typed(status, TEXT, words);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn typed(status: StatusCode, content_type: HeaderValue, words: String) -> Response<Body> {
    let mut response = Response::new(Body::Text(Full::new(Bytes::from(words))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// The query of a URL. The values asked for here need no decoding.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    fn has(&self, name: &str) -> bool {
        self.pairs().any(|(key, _)| key == name)
    }

    fn says(&self, name: &str, value: &str) -> bool {
        self.pairs().any(|pair| pair == (name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_straight() {
        for (path, to) in [
            ("//version", "/version"),
            ("/v3//kv/range", "/v3/kv/range"),
            ("/v3/../health", "/health"),
            ("/../..//", "/"),
            ("/v3/./lease/", "/v3/lease/"),
            ("//host/path", "/host/path"),
            ("/v3", "/v3/"),
        ] {
            assert_eq!(cleaned(path).as_deref(), Some(to), "{path}");
        }
        for straight in ["/", "/version", "/v3/kv/range", "/.well-known", "*"] {
            assert_eq!(cleaned(straight), None, "{straight}");
        }
    }

    #[test]
    fn queries_are_read_as_given() {
        let query = Query("serializable=true&exclude=NOSPACE&exclude=CORRUPT&verbose");
        assert!(query.says("serializable", "true") && query.has("verbose"));
        assert!(query.says("exclude", "NOSPACE") && query.says("exclude", "CORRUPT"));
        assert!(!query.says("exclude", "NO") && !query.has("quiet") && !Query("").has("verbose"));
    }
}
