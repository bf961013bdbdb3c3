//! The plain HTTP endpoints: versions, health, probes and metrics. All are small and answered at once or after one
//! look at the store; request bodies are not read.

mod checks;
mod health;
mod metrics;
mod process;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

use super::body::Body;
use super::frontend::Shared;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

pub(super) async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let mut response = match *request.method() {
        Method::OPTIONS => text(StatusCode::OK, String::new()),
        _ => route(shared, &request).await,
    };
    allow_cross_origin(response.headers_mut());
    response
}

async fn route(shared: &Arc<Shared>, request: &Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    if !known(path) {
        return not_found(path);
    }
    if request.method() != Method::GET {
        return method_not_allowed();
    }
    let query = Query(request.uri().query().unwrap_or_default());
    match path {
        "/version" => version(shared),
        "/health" => health::answer(shared, &query).await,
        "/metrics" => typed(StatusCode::OK, EXPOSITION, metrics::text(shared).await),
        "/debug/vars" => typed(StatusCode::OK, JSON, "{}".into()),
        probe => checks::answer(shared, probe, &query).await,
    }
}

fn known(path: &str) -> bool {
    matches!(path, "/version" | "/health" | "/metrics" | "/debug/vars") || checks::known(path)
}

fn version(shared: &Shared) -> Response<Body> {
    let versions = &shared.config.versions;
    let answer = serde_json::json!({
        "etcdserver": versions.server,
        "etcdcluster": versions.cluster,
        "storage": versions.storage,
    });
    typed(StatusCode::OK, JSON, answer.to_string())
}

fn not_found(path: &str) -> Response<Body> {
    let words = if path.starts_with("/v3/") { "Not Found\n" } else { "404 page not found\n" };
    text(StatusCode::NOT_FOUND, words.into())
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

fn allow_cross_origin(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers
        .insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("accept, content-type, authorization"));
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
    fn queries_are_read_as_given() {
        let query = Query("serializable=true&exclude=NOSPACE&exclude=CORRUPT&verbose");
        assert!(query.says("serializable", "true") && query.has("verbose"));
        assert!(query.says("exclude", "NOSPACE") && query.says("exclude", "CORRUPT"));
        assert!(!query.says("exclude", "NO") && !query.has("quiet") && !Query("").has("verbose"));
    }
}
