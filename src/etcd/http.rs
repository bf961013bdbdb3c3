//! The plain HTTP endpoints: versions, health, probes, metrics and what helps to debug. All are small and answered at
//! once or after one question to the store; request bodies are not read. What is under `/v3/` goes to the gateway.

mod access;
mod checks;
mod debug;
mod health;
mod metrics;
pub(super) mod process;
mod query;
mod response;

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use self::query::Query;
use self::response::{text, typed};
use super::body::{Body, RequestBody};
use super::connection::{Connection, Serves};
use super::gateway;
use super::server::EtcdServer;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

pub(super) async fn answer(connection: &Connection, request: Request<RequestBody>) -> Response<Body> {
    let server = &connection.server;
    let (parts, body) = request.into_parts();
    if connection.serves == Serves::Metrics {
        return monitor(server, &parts).await;
    }
    let path = renamed(parts.uri.path());
    if let Some(refused) = access::refusal(connection, &parts, &path) {
        return refused;
    }
    let allowed = access::allowed_origin(&server.config.http.cors, &parts.headers);
    let mut response = if parts.method == Method::OPTIONS {
        Response::new(Body::default())
    } else if let Some(cleaned) = cleaned(&path) {
        moved(&parts.uri, &cleaned)
    } else if server.config.http.gateway && gateway::serves(&path) {
        gateway::answer(server, &path, Request::from_parts(parts, body)).await
    } else {
        route(server, &path, &parts).await
    };
    if let Some(origin) = allowed {
        access::allow(response.headers_mut(), origin);
    }
    response
}

/// Answers a monitor, which may ask for metrics and health alone.
async fn monitor(server: &Arc<EtcdServer>, request: &Parts) -> Response<Body> {
    let path = request.uri.path();
    match matches!(path, "/health" | "/metrics") || checks::known(path) {
        true => route(server, path, request).await,
        false => text(StatusCode::NOT_FOUND, "404 page not found\n".into()),
    }
}

/// The clean form of `path`, as Go's servers make it: without the empty steps of `//version` or `/v3/../health`, and
/// with the slash of a folder. Nothing for a path that is clean.
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

/// The present path for one of an older release.
fn renamed(path: &str) -> String {
    match path.strip_prefix("/v3beta/") {
        Some(rest) => format!("/v3/{rest}"),
        None => path.to_owned(),
    }
}

async fn route(server: &Arc<EtcdServer>, path: &str, request: &Parts) -> Response<Body> {
    let profiling = server.config.http.profiling && debug::profiles(path);
    if !known(path) && !profiling {
        return text(StatusCode::NOT_FOUND, "404 page not found\n".into());
    }
    if request.method != Method::GET && path != "/metrics" {
        return method_not_allowed();
    }
    let query = Query(request.uri.query().unwrap_or_default());
    match path {
        "/version" => version(server),
        "/health" => health::answer(server, &query).await,
        "/metrics" => typed(StatusCode::OK, EXPOSITION, metrics::text(server).await),
        "/debug/vars" => typed(StatusCode::OK, JSON, debug::vars(server).await),
        "/debug/actors" => typed(StatusCode::OK, JSON, server.world.spawner.roster().to_json()),
        profile if profiling => debug::profile(profile),
        probe => checks::answer(server, probe, &query).await,
    }
}

fn known(path: &str) -> bool {
    matches!(path, "/version" | "/health" | "/metrics" | "/debug/vars" | "/debug/actors") || checks::known(path)
}

fn version(server: &EtcdServer) -> Response<Body> {
    let agreed = server.store.versions();
    let answer = serde_json::json!({
        "etcdserver": server.config.versions.server,
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
}
