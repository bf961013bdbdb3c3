//! Request bodies: from a connection or from the gateway. Response bodies: one message with trailers, a stream of
//! messages with trailers, plain text, or lines of text as they come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tonic::Status;
use tonic::codegen::StdError;

use super::status;
use crate::world::Clock;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");

/// The body of a request.
pub(super) enum RequestBody {
    Wire(Incoming),
    /// gRPC messages that the gateway framed; an error ends the call.
    Framed(Option<BoxStream<'static, Result<Bytes, Status>>>),
}

/// How long the next piece of a request's body may take.
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl RequestBody {
    /// The next piece. A client that sends none for a while ends the call: a connection does not give way to others
    /// while a call is under way on it.
    pub async fn next(&mut self, clock: &Clock) -> Option<Result<Frame<Bytes>, Status>> {
        match clock.timeout(PAUSE_MAX, self.frame()).await {
            Ok(frame) => Some(frame?.map_err(|_| status::canceled())),
            Err(_) => Some(Err(status::deadline_exceeded())),
        }
    }

    pub fn framed(messages: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> RequestBody {
        RequestBody::Framed(Some(Box::pin(messages)))
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        match self.get_mut() {
            RequestBody::Wire(body) => Pin::new(body).poll_frame(cx).map_err(StdError::from),
            RequestBody::Framed(messages) => {
                let Some(open) = messages else { return Poll::Ready(None) };
                let next = ready!(open.as_mut().poll_next(cx));
                if next.is_none() {
                    *messages = None;
                }
                Poll::Ready(next.map(|framed| framed.map(Frame::data).map_err(StdError::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Wire(body) => body.is_end_stream(),
            RequestBody::Framed(messages) => messages.is_none(),
        }
    }
}

/// The body of a response.
pub(super) enum Body {
    /// One framed gRPC message, then the trailers that say it is all.
    Message(Message),
    /// Framed gRPC messages, then the trailers that say how the stream ended; nothing after those.
    Stream(Option<BoxStream<'static, Result<Bytes, Status>>>),
    Text(Full<Bytes>),
    /// Text as it comes, with nothing after it.
    Lines(BoxStream<'static, Bytes>),
}

/// The rest of a one-message answer that is still to be sent.
pub(super) enum Message {
    Whole(Bytes),
    Trailers,
    Nothing,
}

impl Body {
    pub fn message(framed: Bytes) -> Body {
        Body::Message(Message::Whole(framed))
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
            Body::Message(message) => Poll::Ready(message.next().map(Ok)),
            Body::Stream(messages) => poll_stream(messages, cx).map(|frame| frame.map(Ok)),
            Body::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
            Body::Lines(lines) => lines.as_mut().poll_next(cx).map(|line| line.map(|line| Ok(Frame::data(line)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Message(message) => matches!(message, Message::Nothing),
            Body::Stream(messages) => messages.is_none(),
            Body::Text(text) => text.is_end_stream(),
            Body::Lines(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Text(text) => text.size_hint(),
            Body::Message(_) | Body::Stream(_) | Body::Lines(_) => SizeHint::default(),
        }
    }
}

impl Message {
    fn next(&mut self) -> Option<Frame<Bytes>> {
        match std::mem::replace(self, Message::Nothing) {
            Message::Whole(framed) => {
                *self = Message::Trailers;
                Some(Frame::data(framed))
            }
            Message::Trailers => Some(Frame::trailers(success())),
            Message::Nothing => None,
        }
    }
}

fn poll_stream(
    messages: &mut Option<BoxStream<'static, Result<Bytes, Status>>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Frame<Bytes>>> {
    let Some(open) = messages else { return Poll::Ready(None) };
    let trailers = match ready!(Pin::new(open).poll_next(cx)) {
        Some(Ok(framed)) => return Poll::Ready(Some(Frame::data(framed))),
        Some(Err(status)) => failure(&status),
        None => success(),
    };
    *messages = None;
    Poll::Ready(Some(Frame::trailers(trailers)))
}

fn success() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, OK);
    trailers
}

fn failure(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    if status.add_header(&mut trailers).is_err() {
        // The text cannot be a header. The client can act on the code alone.
        trailers.insert(GRPC_STATUS, HeaderValue::from(status.code() as i32));
    }
    trailers
}
