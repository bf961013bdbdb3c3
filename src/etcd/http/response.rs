//! Responses in plain HTTP.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use crate::etcd::body::Body;

pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(super) fn text(status: StatusCode, words: String) -> Response<Body> {
    let mut response = typed(status, TEXT, words);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(super) fn typed(status: StatusCode, content_type: HeaderValue, words: String) -> Response<Body> {
    let mut response = Response::new(Body::Text(Full::new(Bytes::from(words))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
