//! All streams are counted, and cut when the cluster has lost its leader (if the client wants that),
//! when the client's deadline passes, and when the node ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use http::{HeaderValue, Request, Response, header};
use prost::Message;
use tonic::codec::Streaming;
use tonic::{Code, Status};
use tonic_prost::ProstDecoder;

use super::body::{Body, RequestBody};
use super::frame::{PREFIX_BYTES, frame};
use super::metadata::Metadata;
use super::metrics::Counted;
use super::rpc::Rpc;
use super::server::EtcdServer;
use super::{status, unary};
use crate::store::error::Error;

/// The answers of an open stream.
pub(super) type Answers<R> = BoxStream<'static, Result<R, Status>>;

/// Answers one message with the stream that `open` makes of it.
pub(super) async fn server_stream<Q, R>(
    server: &Arc<EtcdServer>,
    rpc: Rpc,
    request: Request<RequestBody>,
    open: impl AsyncFnOnce(Q) -> Result<Answers<R>, Status>,
) -> Response<Body>
where
    Q: Message + Default + 'static,
    R: Message + 'static,
{
    bidi_stream(server, rpc, request, async |mut messages: Streaming<Q>| {
        let message = messages.message().await?.ok_or_else(|| Status::internal("the call ended before its message"))?;
        server.metrics.received(rpc, message.encoded_len());
        open(message).await
    })
    .await
}

/// Answers a stream of messages with the stream that `open` makes of it.
pub(super) async fn bidi_stream<Q, R>(
    server: &Arc<EtcdServer>,
    rpc: Rpc,
    request: Request<RequestBody>,
    open: impl AsyncFnOnce(Streaming<Q>) -> Result<Answers<R>, Status>,
) -> Response<Body>
where
    Q: Message + Default + 'static,
    R: Message + 'static,
{
    let mut counted = server.metrics.start(rpc);
    let opened = async {
        // A learner serves only the stream that copies its database.
        if rpc != Rpc::Snapshot && server.store.is_learner() {
            return Err(status::of(&Error::NotSupportedForLearner));
        }
        let (parts, body) = request.into_parts();
        let metadata = Metadata::read(&parts.headers)?;
        server.metrics.client_request(rpc, metadata.client_api_version);
        if metadata.require_leader {
            unary::require_leader(server).await?;
        }
        let cut = cut(server, &metadata);
        let bytes_max = server.config.limits.receive_bytes_max;
        let messages = Streaming::new_request(ProstDecoder::default(), body, None, Some(bytes_max));
        Ok::<_, Status>((open(messages).await?, cut))
    };
    match opened.await {
        Ok((answers, cut)) => {
            let stream = Cuttable { answers: Some(answers), cut, counted };
            let mut response = Response::new(Body::Stream(Some(stream.boxed())));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
        Err(status) => {
            counted.end(status.code());
            status.into_http()
        }
    }
}

/// Resolves when a stream has to end whatever it is doing.
fn cut(server: &Arc<EtcdServer>, metadata: &Metadata<'_>) -> BoxFuture<'static, Status> {
    let (server, timeout) = (server.clone(), metadata.timeout);
    let leader_lost = metadata.require_leader.then(|| server.leaders_lost.clone());
    async move {
        let leader_lost = async {
            match leader_lost {
                Some(mut lost) => drop(lost.changed().await),
                None => std::future::pending().await,
            }
        };
        let timed_out = async {
            match timeout {
                Some(limit) => server.world.clock.sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = server.shutdown.wait() => status::stopped(),
            () = leader_lost => status::no_leader(),
            () = timed_out => status::deadline_exceeded(),
        }
    }
    .boxed()
}

/// The answers of a stream as they go on the wire.
struct Cuttable<R> {
    /// `None` once the stream has ended.
    answers: Option<Answers<R>>,
    cut: BoxFuture<'static, Status>,
    counted: Counted,
}

impl<R: Message> Stream for Cuttable<R> {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(answers) = &mut self.answers else { return Poll::Ready(None) };
        let ended = match answers.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(answer))) => {
                let framed = frame(&answer);
                self.counted.sent(framed.len() - PREFIX_BYTES);
                return Poll::Ready(Some(Ok(framed)));
            }
            Poll::Ready(Some(Err(status))) => Some(status),
            Poll::Ready(None) => None,
            Poll::Pending => match self.cut.poll_unpin(cx) {
                Poll::Ready(status) => Some(status),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.answers = None;
        self.counted.end(ended.as_ref().map_or(Code::Ok, Status::code));
        Poll::Ready(ended.map(Err))
    }
}
