//! Response bodies: one message with trailers, a stream, or plain text.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;

pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");

/// What this room answers with.
pub(super) enum Body {
    /// One framed gRPC message, then the trailers that say it is all.
    Message(Option<Bytes>, Trailers),
    /// A gRPC stream, or a failure that is in the headers already.
    Stream(tonic::body::Body),
    Text(Full<Bytes>),
}

pub(super) enum Trailers {
    Due,
    Sent,
}

impl Body {
    pub fn message(framed: Bytes) -> Body {
        Body::Message(Some(framed), Trailers::Due)
    }
}

impl Default for Body {
    fn default() -> Body {
        Body::Text(Full::default())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            Body::Message(message, trailers) => Poll::Ready(next_of_message(message, trailers).map(Ok)),
            Body::Stream(stream) => Pin::new(stream).poll_frame(cx),
            Body::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Message(_, trailers) => matches!(trailers, Trailers::Sent),
            Body::Stream(stream) => stream.is_end_stream(),
            Body::Text(text) => text.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Message(..) => SizeHint::default(),
            Body::Stream(stream) => stream.size_hint(),
            Body::Text(text) => text.size_hint(),
        }
    }
}

fn next_of_message(message: &mut Option<Bytes>, trailers: &mut Trailers) -> Option<Frame<Bytes>> {
    if let Some(message) = message.take() {
        return Some(Frame::data(message));
    }
    match std::mem::replace(trailers, Trailers::Sent) {
        Trailers::Due => {
            let mut map = HeaderMap::with_capacity(1);
            map.insert(GRPC_STATUS, OK);
            Some(Frame::trailers(map))
        }
        Trailers::Sent => None,
    }
}
