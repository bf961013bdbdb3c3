//! Connections of a proxy's clients: gRPC is passed on, plain HTTP is answered here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tonic::Status;
use tonic::body::Body;

use super::config::Config;
use super::namespace::Namespace;
use super::registry::Registry;
use super::rewrite::Rewritten;
use super::upstream::{Outgoing, Upstream};
use crate::actor::Shutdown;
use crate::actor::metrics::Exposition;
use crate::etcd::frame::frame;
use crate::etcd::rpc::{Kind, Rpc};
use crate::etcd::status;
use crate::store::Error;
use crate::world::net::{Answering, Opened};
use crate::world::{Listener, Stream, World, tls};

const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// For the read that checks whether the members answer.
const HEALTH_LIMIT: Duration = Duration::from_secs(1);
/// The size of one answer that a namespace changes.
const ANSWER_BYTES_MAX: usize = i32::MAX as usize;
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// The side of a proxy that faces its clients.
pub(super) struct Downstream {
    pub world: World,
    pub config: Config,
    pub upstream: Arc<Upstream>,
    pub registry: Registry,
    pub shutdown: Shutdown,
}

impl Downstream {
    /// Accepts until the end.
    pub async fn accept(self: Arc<Self>, listener: Listener, tls: Option<tls::Server>, monitors: bool) {
        loop {
            let (stream, _) = tokio::select! {
                biased;
                () = self.shutdown.wait() => return,
                accepted = listener.next(&self.world.clock) => accepted,
            };
            self.world.spawner.task(self.clone().meet(stream, tls.clone(), monitors));
        }
    }

    async fn meet(self: Arc<Self>, stream: Stream, tls: Option<tls::Server>, monitors: bool) {
        let guest = stream.guest();
        guest.gives_way();
        let stream = match tls {
            None => stream,
            Some(tls) => {
                let remote = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
                match tls.accept(stream).await {
                    Ok(accepted) => accepted.stream,
                    Err(rejected) => return rejected.log("rejected connection on client endpoint", &remote),
                }
            }
        };
        let opened = tokio::select! {
            opened = Opened::wait(&self.world.clock, stream, &guest) => opened,
            () = guest.displaced() => None,
        };
        let Some(stream) = opened else { return };
        let mut builder = hyper_util::server::conn::auto::Builder::new(self.world.spawner.clone());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(self.config.concurrent_streams_max);
        let (downstream, visitor) = (self.clone(), guest.clone());
        let service = service_fn(move |request| {
            let (downstream, call) = (downstream.clone(), visitor.call());
            async move {
                let response = match call {
                    Some(_) => downstream.answer(request, monitors).await,
                    None => status::of(&Error::TooManyRequests).into_http(),
                };
                Ok::<_, Infallible>(response.map(|body| Answering::new(body, call)))
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = guest.displaced() => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a client connection ended early");
        }
    }

    async fn answer(&self, request: Request<Incoming>, monitors: bool) -> Response<Body> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let is_grpc = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        if is_grpc && !monitors { self.call(request).await } else { self.http(request.uri().path()).await }
    }

    async fn call(&self, request: Request<Incoming>) -> Response<Body> {
        let rpc = Rpc::find(request.uri().path());
        match rpc {
            Some(Rpc::MemberList) => {
                if let Some(members) = self.registry.members().await {
                    return one_message(members);
                }
            }
            Some(Rpc::MemberPromote) => return Status::unknown("not implemented").into_http(),
            _ => {}
        }
        let (parts, body) = request.into_parts();
        let namespace = Namespace::of(&self.config.namespace);
        let changes = rpc.zip(namespace).and_then(|(rpc, namespace)| namespace.changes(rpc));
        let (ask, answer) = changes.unzip();
        let limit = self.config.request_bytes_max;
        let body = match ask {
            Some(change) => Body::new(Rewritten::new(body, limit, change)),
            None => Body::new(body),
        };
        let body = match rpc.map(Rpc::kind) {
            Some(Kind::Unary | Kind::ServerStream) => match Limited::new(body, limit).collect().await {
                Ok(body) => Outgoing::Whole(body.to_bytes()),
                Err(error) => return unreadable(error, limit).into_http(),
            },
            _ => Outgoing::Open(body),
        };
        let response = self.upstream.call(parts, body).await;
        match answer {
            Some(change) => response.map(|body| Body::new(Rewritten::new(body, ANSWER_BYTES_MAX, change))),
            None => response,
        }
    }

    async fn http(&self, path: &str) -> Response<Body> {
        match path {
            "/health" | "/proxy/health" => self.health().await,
            "/metrics" => match self.upstream.metrics().await {
                Ok(metrics) => typed(StatusCode::OK, "text/plain; version=0.0.4", metrics),
                Err(_) => {
                    typed(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", "Internal server error\n")
                }
            },
            "/proxy/metrics" => {
                let mut text = Exposition::default();
                crate::etcd::http::process::expose(&mut text, &self.world.disk);
                typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into_text())
            }
            _ => typed(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n"),
        }
    }

    /// A read through the members, of a key that need not be there.
    async fn health(&self) -> Response<Body> {
        let range = pb::RangeRequest { key: "a".into(), ..Default::default() };
        let store = self.upstream.store();
        let read = self.world.clock.timeout(HEALTH_LIMIT, store.range(range)).await;
        let reason = match read.unwrap_or(Err(Error::Timeout)) {
            Ok(_) => None,
            // A refusal is an answer, too.
            Err(error) if status::of(&error).code() == tonic::Code::PermissionDenied => None,
            Err(error) => Some(format!("GET ERROR:{error}")),
        };
        let code = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let health = serde_json::json!({
            "health": if reason.is_none() { "true" } else { "false" },
            "reason": reason.unwrap_or_default(),
        });
        typed(code, "text/plain; charset=utf-8", health.to_string())
    }
}

fn typed(code: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(text.into())));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn unreadable(error: Box<dyn std::error::Error + Send + Sync>, limit: usize) -> Status {
    match error.downcast::<Status>() {
        Ok(status) => *status,
        Err(error) if error.is::<LengthLimitError>() => status::message_too_large(limit + 1, limit),
        Err(error) => Status::unavailable(error.to_string()),
    }
}

/// The answer of the proxy itself, one message.
fn one_message(answer: Result<pb::MemberListResponse, Error>) -> Response<Body> {
    let framed = match answer {
        Ok(message) => frame(&message),
        Err(error) => return status::of(&error).into_http(),
    };
    let mut response = Response::new(Body::new(crate::etcd::body::Body::message(framed)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
