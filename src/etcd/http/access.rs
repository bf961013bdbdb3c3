//! Which hosts and origins may ask, and which scripts may read the answer.

use std::collections::BTreeSet;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};

use super::response::text;
use crate::etcd::body::Body;
use crate::etcd::connection::Connection;

const ANY: &str = "*";

/// The refusal of a request, if it has to be refused.
pub(super) fn refusal(connection: &Connection, request: &Parts, path: &str) -> Option<Response<Body>> {
    if connection.secure {
        // A page that rebinds a name has no certificate for it.
        return misled(connection, path).then(|| text(StatusCode::BAD_REQUEST, MISLED.into()));
    }
    let host = host(&request.uri, &request.headers);
    if !has(&connection.server.config.http.host_whitelist, &host) {
        tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
        return Some(text(StatusCode::MISDIRECTED_REQUEST, misdirected(&host)));
    }
    None
}

/// For clients that expect the gateway to take their name from their certificate.
const MISLED: &str =
    "CommonName of client sending a request against gateway will be ignored and not used as expected\n";

fn misled(connection: &Connection, path: &str) -> bool {
    let server = &connection.server;
    let through_gateway = server.config.http.gateway && path.starts_with("/v3/");
    through_gateway && connection.common_name.is_some() && server.store.authenticates()
}

/// The host that a request names, without its port.
fn host(uri: &Uri, headers: &HeaderMap) -> String {
    if let Some(host) = uri.host() {
        return host.to_owned();
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    match host.rsplit_once(':') {
        // The last part of an IPv6 address is no port.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !is_bare_ipv6(host) => name.to_owned(),
        _ => host.to_owned(),
    }
}

fn is_bare_ipv6(host: &str) -> bool {
    !host.starts_with('[') && host.matches(':').count() > 1
}

fn has(allowed: &BTreeSet<String>, name: &str) -> bool {
    allowed.is_empty() || allowed.contains(ANY) || allowed.contains(name)
}

fn misdirected(host: &str) -> String {
    format!(
        "\nThis server does not answer for the host of this request.\n\nEither of these helps:\n\
         - Enable TLS: then every host is answered for.\n\
         - Add the host to those that are answered for, e.g. --host-whitelist {host:?}\n\n\
         Without it, a web page could reach this server by DNS rebinding (CVE-2018-5702).\n\n"
    )
}

/// The origin whose scripts may read the answer.
pub(super) fn allowed_origin(cors: &BTreeSet<String>, headers: &HeaderMap) -> Option<HeaderValue> {
    if cors.is_empty() || cors.contains(ANY) {
        return Some(HeaderValue::from_static(ANY));
    }
    let origin = headers.get(header::ORIGIN)?;
    cors.contains(origin.to_str().ok()?).then(|| origin.clone())
}

pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers
        .insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("accept, content-type, authorization"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn hosts_are_told_without_their_port() {
        for (given, name) in [
            ("example.com:2379", "example.com"),
            ("example.com", "example.com"),
            ("[::1]:2379", "[::1]"),
            ("::1", "::1"),
            ("", ""),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(given));
            assert_eq!(host(&Uri::from_static("/version"), &headers), name, "{given}");
        }
    }

    #[test]
    fn lists_without_names_allow_all() {
        assert!(has(&set(&[]), "x") && has(&set(&["*"]), "x") && has(&set(&["x"]), "x"));
        assert!(!has(&set(&["y"]), "x"));
    }

    #[test]
    fn an_origin_is_answered_as_configured() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, HeaderValue::from_static("http://a"));
        assert_eq!(allowed_origin(&set(&[]), &headers).unwrap(), "*");
        assert_eq!(allowed_origin(&set(&["http://a", "http://b"]), &headers).unwrap(), "http://a");
        assert_eq!(allowed_origin(&set(&["http://b"]), &headers), None);
        assert_eq!(allowed_origin(&set(&["http://b"]), &HeaderMap::new()), None);
    }
}
