//! Plain HTTP on the peer port, which rooms above this one answer.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use tonic::body::Body;

/// Bytes of a request in plain HTTP.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Answers a plain HTTP request on the peer port. Bodies are small and complete.
pub type PeerHttp = Box<dyn Fn(Parts, Bytes) -> BoxFuture<'static, Response<Bytes>> + Send + Sync>;

/// The answerer of plain HTTP, once there is one. Clones share it.
#[derive(Clone, Default)]
pub(super) struct PlainHttp(Arc<OnceLock<PeerHttp>>);

impl PlainHttp {
    /// Sets the answerer. The first one stays.
    pub fn answer_with(&self, answerer: PeerHttp) {
        let _ = self.0.set(answerer);
    }

    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let Some(answerer) = self.0.get() else {
            return short(StatusCode::SERVICE_UNAVAILABLE, "the member is starting\n");
        };
        let (parts, body) = request.into_parts();
        match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => answerer(parts, body.to_bytes()).await.map(|bytes| Body::new(Full::new(bytes))),
            Err(error) if error.is::<LengthLimitError>() => short(StatusCode::PAYLOAD_TOO_LARGE, "too large\n"),
            Err(_) => short(StatusCode::BAD_REQUEST, "the body ended early\n"),
        }
    }
}

/// An answer of a few words.
pub(super) fn short(status: StatusCode, words: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from_static(words.as_bytes()))));
    *response.status_mut() = status;
    response
}
