//! Streams: JSON objects in, a line `{"result":…}` a message out, and a line `{"error":…}` if the stream fails.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::Response;
use http_body_util::BodyExt;
use tonic::{Code, Status};

use super::call::Call;
use super::codec::Codec;
use super::response;
use super::split::Split;
use super::unary::collect;
use crate::actor::Permit;
use crate::etcd::body::{Body, RequestBody};
use crate::etcd::rpc::Kind;
use crate::etcd::status as statuses;

pub(super) async fn answer(call: Call, body: RequestBody) -> Response<Body> {
    match open(call, body).await {
        Ok(lines) => response::answer(Body::Lines(lines)),
        Err(Failed::Asking(status)) => response::refused(&status),
        Err(Failed::Answering(status)) => response::refused_stream(&status),
    }
}

/// Why a stream has no first line.
pub(super) enum Failed {
    /// The request could not be read.
    Asking(Status),
    /// The call was made, and failed.
    Answering(Status),
}

/// The lines of the answer, once there is a first one. A stream that fails before it gets an HTTP status of failure.
pub(super) async fn open(mut call: Call, body: RequestBody) -> Result<BoxStream<'static, Bytes>, Failed> {
    let messages = match call.rpc.kind() {
        Kind::BidiStream => messages(call.codec.clone(), body, call.json_bytes_max()),
        Kind::Unary | Kind::ServerStream => {
            let (json, _share) = collect(&call.server, body, call.json_bytes_max()).await.map_err(Failed::Asking)?;
            RequestBody::framed(stream::iter([call.codec.request(&json).map(Ok).map_err(Failed::Asking)?]))
        }
    };
    let permit = call.server.gateway_calls.wait().await;
    let response = call.send(messages).await.map_err(Failed::Answering)?;
    let mut answers = Answers { body: Some(response.into_body()), codec: call.codec, _permit: permit };
    let first = answers.next().await;
    if let Some(Err(status)) = first {
        return Err(Failed::Answering(status));
    }
    let rest = stream::unfold(answers, async |mut answers| Some((answers.next().await?, answers)));
    let all = stream::iter(first).chain(rest);
    Ok(all.map(|answer| answer.unwrap_or_else(|status| response::error_line(&status))).boxed())
}

/// The objects of a body as framed messages.
fn messages(codec: Codec, body: RequestBody, bytes_max: usize) -> RequestBody {
    let state = Some((body, Split::new(bytes_max)));
    RequestBody::framed(stream::unfold(state, move |state| {
        let codec = codec.clone();
        async move {
            let (mut body, mut split) = state?;
            match next(&mut body, &mut split).await {
                Ok(Some(object)) => Some((codec.request(&object), Some((body, split)))),
                Ok(None) => None,
                Err(status) => Some((Err(undecodable(&status)), None)),
            }
        }
    }))
}

async fn next(body: &mut RequestBody, split: &mut Split) -> Result<Option<Bytes>, Status> {
    loop {
        if let Some(object) = split.next()? {
            return Ok(Some(object));
        }
        let Some(frame) = body.frame().await else { return split.finish().map(|()| None) };
        if let Ok(data) = frame.map_err(|_| statuses::canceled())?.into_data() {
            split.push(&data);
        }
    }
}

fn undecodable(status: &Status) -> Status {
    Status::new(status.code(), format!("Failed to decode request: {}", status.message()))
}

/// The lines of one gRPC response.
struct Answers {
    /// `None` once the stream has ended.
    body: Option<Body>,
    codec: Codec,
    _permit: Permit,
}

impl Answers {
    /// The next line, or why there is none. Nothing follows a failure.
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        let frame = self.body.as_mut()?.frame().await;
        let ended = match frame.map(|frame| frame.map(hyper::body::Frame::into_data)) {
            Some(Ok(Ok(framed))) => match self.codec.response(&framed, "{\"result\":", "}\n") {
                Ok(line) => return Some(Ok(line)),
                Err(status) => Some(status),
            },
            Some(Ok(Err(frame))) => frame.into_trailers().ok().as_ref().and_then(Status::from_header_map),
            Some(Err(status)) => Some(status),
            None => None,
        };
        self.body = None;
        ended.filter(|status| status.code() != Code::Ok).map(Err)
    }
}
