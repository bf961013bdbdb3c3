//! Container logs over HTTP.
//!
//! `GET
//! /containerLogs/{namespace}/{pod}/{container}?follow&previous&timestamps&tailLines&sinceSeconds&sinceTime&limitBytes`

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::answer::{Body, plain, respond};
use super::error::Error;
use super::runtime::{ContainerRuntime, LogOptions};
use crate::kube::time;
use crate::world::Clock;

/// The logs of one node's containers.
#[derive(Clone)]
pub struct Logs {
    pub clock: Clock,
    pub runtime: Arc<dyn ContainerRuntime>,
}

/// A request for a log.
#[derive(Debug, Default, PartialEq, Eq)]
struct LogRequest {
    namespace: String,
    pod: String,
    container: String,
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail_lines: Option<u64>,
    since_seconds: Option<i64>,
    since_time: Option<jiff::Timestamp>,
    limit_bytes: Option<u64>,
}

impl Logs {
    /// Answers a request; `None` if the path is not one of a log.
    pub async fn answer(&self, path: &str, query: &str) -> Option<Response<Body>> {
        let request = match parse(path, query)? {
            Ok(request) => request,
            Err(why) => return Some(plain(StatusCode::BAD_REQUEST, &why)),
        };
        Some(match self.open(&request).await {
            Ok(stream) => streamed(stream, request.limit_bytes),
            Err(error @ Error::NotFound(_)) => plain(StatusCode::NOT_FOUND, &error.to_string()),
            Err(error @ Error::Config(_)) => plain(StatusCode::BAD_REQUEST, &error.to_string()),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        })
    }

    async fn open(&self, request: &LogRequest) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let LogRequest { namespace, pod, container, .. } = request;
        let pods = self.runtime.pods().await?;
        let mut found = None;
        for id in pods.iter().filter(|id| id.namespace == *namespace && id.name == *pod) {
            let view = self.runtime.view(&id.uid).await?;
            let wanted = if request.previous { view.previous(container) } else { view.latest(container) };
            // If several pods had the name, the request is about the newest.
            found = found.max(wanted.map(|container| (container.created, container.id.clone())));
        }
        let Some((_, id)) = found else {
            return Err(if request.previous {
                Error::Config(format!("previous terminated container {container:?} in pod {pod:?} not found"))
            } else {
                Error::NotFound(format!("container {container:?} in pod {pod:?}"))
            });
        };
        let now = time::timestamp(&self.clock).as_second();
        let since = request.since_time.map(|time| time.as_second()).or(request.since_seconds.map(|ago| now - ago));
        let options = LogOptions {
            follow: request.follow,
            timestamps: request.timestamps,
            tail_lines: request.tail_lines,
            since,
        };
        self.runtime.logs(&id, options).await
    }
}

fn streamed(stream: BoxStream<'static, Result<Bytes, Error>>, limit_bytes: Option<u64>) -> Response<Body> {
    let limited = limited(stream, limit_bytes);
    respond(StatusCode::OK, StreamBody::new(limited.map_ok(Frame::data)).boxed_unsync())
}

/// The first `limit_bytes` of `stream`. It ends with the last of them, since the next part of a followed log may take
/// its time.
fn limited(
    stream: BoxStream<'static, Result<Bytes, Error>>,
    limit_bytes: Option<u64>,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    futures::stream::unfold((stream, limit_bytes), |(mut stream, mut left)| async move {
        if left == Some(0) {
            return None;
        }
        let mut part = stream.next().await?;
        if let (Ok(bytes), Some(left)) = (&mut part, &mut left) {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
        }
        Some((part, (stream, left)))
    })
}

/// Parses a path and query: `None` if the path is not one of a log, an error if a value is wrong.
fn parse(path: &str, query: &str) -> Option<Result<LogRequest, String>> {
    let mut parts = path.strip_prefix("/containerLogs/")?.split('/').map(decode);
    let (namespace, pod, container) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || [&namespace, &pod, &container].iter().any(|part| part.is_empty()) {
        return None;
    }
    Some(parse_query(LogRequest { namespace, pod, container, ..LogRequest::default() }, query))
}

fn parse_query(mut request: LogRequest, query: &str) -> Result<LogRequest, String> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value);
        let wrong = || format!("invalid {key}: {value:?}");
        let yes = || !matches!(value.as_str(), "false" | "0");
        match key {
            "follow" => request.follow = yes(),
            "previous" => request.previous = yes(),
            "timestamps" => request.timestamps = yes(),
            "tailLines" => request.tail_lines = Some(value.parse().map_err(|_| wrong())?),
            "limitBytes" => request.limit_bytes = Some(value.parse().map_err(|_| wrong())?),
            "sinceSeconds" => {
                request.since_seconds = Some(value.parse().ok().filter(|seconds| *seconds > 0).ok_or_else(wrong)?);
            }
            "sinceTime" => request.since_time = Some(value.parse().map_err(|_| wrong())?),
            // Frontends pass on parameters that only they use.
            _ => {}
        }
    }
    Ok(request)
}

/// Decodes `%41` and `+`; anything else stays as it is.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            }
            _ => None,
        };
        out.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn paths_and_queries_are_parsed() {
        let request = parse(
            "/containerLogs/default/www/nginx",
            "follow=true&tailLines=10&sinceTime=2026-01-02T03%3A04%3A05Z&limitBytes=5&timestamps=false&pretty=1",
        );
        let expected = LogRequest {
            namespace: "default".into(),
            pod: "www".into(),
            container: "nginx".into(),
            follow: true,
            tail_lines: Some(10),
            since_time: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            limit_bytes: Some(5),
            ..LogRequest::default()
        };
        assert_eq!(request, Some(Ok(expected)));
        for path in ["/", "/containerLogs/a/b", "/containerLogs/a/b/c/d", "/containerLogs/a//c"] {
            assert_eq!(parse(path, ""), None, "{path}");
        }
        for query in ["tailLines=x", "sinceSeconds=0", "sinceTime=yesterday", "limitBytes=-1"] {
            assert!(parse("/containerLogs/a/b/c", query).unwrap().is_err(), "{query}");
        }
    }

    #[test]
    fn a_limited_log_ends_with_its_last_byte() {
        for (limit, expected) in [(0, ""), (1, "a"), (2, "ab"), (3, "abc"), (4, "abcd")] {
            let parts = futures::stream::iter(["ab", "cd"]).map(|part| Ok(Bytes::from_static(part.as_bytes())));
            // Nothing more comes, but the container runs.
            let log = limited(parts.chain(futures::stream::pending()).boxed(), Some(limit));
            let parts: Vec<Bytes> = log.try_collect().now_or_never().expect("it does not wait").unwrap();
            assert_eq!(parts.concat(), expected.as_bytes(), "{limit}");
        }
    }

    #[test]
    fn escapes_are_decoded() {
        for (text, expected) in [("a%3Ab+c", "a:b c"), ("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("%e4", "\u{fffd}")] {
            assert_eq!(decode(text), expected, "{text}");
        }
    }
}
