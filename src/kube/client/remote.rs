//! The client's way to frontends over the network: HTTP/1.1 or HTTP/2, with TLS and client certificates, or a token.
//!
//! Servers are tried in turn, the one that answered last first. A request moves on to the next server only if it
//! surely did not reach the former one, or only reads. One that stays silent is noticed by HTTP/2 pings, and by the
//! deadline of calls: the next ones go elsewhere.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use super::account::AccountToken;
use super::wire::{self, Call};
use super::{Request, Response, Target, Transport, WatchOptions};
use crate::kube::object::WatchEvent;
use crate::kube::status::Status;
use crate::world::{DetachedExecutor, World};

/// Of a call that is not a watch.
const DEADLINE: Duration = Duration::from_secs(60);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Between two pings of a connection, and how long an answer to one may take.
const PING_PERIOD: Duration = Duration::from_secs(5);
const PING_DEADLINE: Duration = Duration::from_secs(5);
/// Of what a server may send before it is read: one slow watch must not hold up the others.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Bytes of one answer, and of one event of a watch.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How frontends are reached.
#[derive(Clone)]
pub struct RemoteConfig {
    /// `https://host:port` (or `http://`) of each frontend; at least one.
    pub servers: Vec<String>,
    /// The authority of the servers' certificates, PEM.
    pub ca_pem: Option<String>,
    pub identity: Identity,
}

/// The identity of the client. Its debug form shows no secret.
#[derive(Clone)]
pub enum Identity {
    Anonymous,
    Certificate {
        certificate_pem: String,
        key_pem: String,
    },
    Token(String),
    /// A service account, with tokens that are requested when they are needed.
    Account(AccountToken),
}

/// The client cannot be set up from its configuration. Surface it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("{0:?} is not the URL of an API server")]
    Url(String),
    #[error("the certificates for the API server cannot be used: {0}")]
    Certificates(String),
}

/// A path to frontends over the network. Cheap to clone.
#[derive(Clone)]
pub struct Remote(Arc<Inner>);

struct Inner {
    world: World,
    servers: Vec<String>,
    bearer: Bearer,
    http: legacy::Client<Connector, Full<Bytes>>,
    /// The server that answered last.
    preferred: AtomicUsize,
}

/// The `Authorization` header of requests.
enum Bearer {
    None,
    Token(String),
    Account(AccountToken),
}

impl Bearer {
    async fn token(&self) -> Result<Option<String>, Status> {
        match self {
            Bearer::None => Ok(None),
            Bearer::Token(token) => Ok(Some(token.clone())),
            Bearer::Account(account) => account.token().await.map(Some),
        }
    }

    /// The server does not believe it (any more).
    async fn refused(&self) {
        if let Bearer::Account(account) = self {
            account.forget().await;
        }
    }
}

impl Remote {
    /// Connects on first use.
    pub fn new(world: &World, config: RemoteConfig) -> Result<Remote, RemoteError> {
        for server in &config.servers {
            let uri: Uri = server.parse().map_err(|_| RemoteError::Url(server.clone()))?;
            if uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
                return Err(RemoteError::Url(server.clone()));
            }
        }
        if config.servers.is_empty() {
            return Err(RemoteError::Url(String::new()));
        }
        let connector = Connector { world: world.clone(), tls: Arc::new(tls(&config)?) };
        let http = legacy::Client::builder(DetachedExecutor(world.spawner.clone()))
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING_PERIOD)
            .http2_keep_alive_timeout(PING_DEADLINE)
            .http2_keep_alive_while_idle(true)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .build(connector);
        let bearer = match config.identity {
            Identity::Token(token) => Bearer::Token(token),
            Identity::Account(account) => Bearer::Account(account),
            Identity::Anonymous | Identity::Certificate { .. } => Bearer::None,
        };
        let servers = config.servers.iter().map(|server| server.trim_end_matches('/').to_owned()).collect();
        Ok(Remote(Arc::new(Inner { world: world.clone(), servers, bearer, http, preferred: AtomicUsize::new(0) })))
    }

    /// Sends a call to one server after the other until one is reached.
    async fn send(&self, call: &Call) -> Result<http::Response<Incoming>, Status> {
        let token = self.0.bearer.token().await?;
        let first = self.0.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for turn in 0..self.0.servers.len() {
            let number = (first + turn) % self.0.servers.len();
            match self.0.http.request(self.request(&self.0.servers[number], call, token.as_deref())?).await {
                Ok(response) => {
                    self.0.preferred.store(number, Ordering::Relaxed);
                    if response.status() == http::StatusCode::UNAUTHORIZED {
                        self.0.bearer.refused().await;
                    }
                    return Ok(response);
                }
                Err(error) if error.is_connect() || call.method == http::Method::GET => last = Some(error),
                Err(error) => {
                    let message = format!("the connection to the API server was lost: {}", causes(&error));
                    return Err(Status::new(503, "ServiceUnavailable", message));
                }
            }
        }
        let cause = last.map(|error| causes(&error)).unwrap_or_default();
        Err(Status::new(503, "ServiceUnavailable", format!("no API server can be reached: {cause}")))
    }

    /// Has the next call begin with another server than the one that did not answer.
    fn avoid_preferred(&self) {
        let servers = self.0.servers.len();
        let next = |preferred: usize| Some((preferred + 1) % servers);
        // Always succeeds: it always gives a value.
        let _ = self.0.preferred.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    fn request(&self, server: &str, call: &Call, token: Option<&str>) -> Result<http::Request<Full<Bytes>>, Status> {
        let mut request = http::Request::builder()
            .method(call.method.clone())
            .uri(format!("{server}{}", call.path_and_query))
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("chorus/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(content_type) = call.content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        request
            .body(Full::new(call.body.clone()))
            .map_err(|error| Status::new(400, "BadRequest", format!("not a request: {error}")))
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[async_trait::async_trait]
impl Transport for Remote {
    async fn call(&self, request: Request) -> Result<Response, Status> {
        let call = Call::of(&request)?;
        let exchange = async {
            let response = self.send(&call).await?;
            let code = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| Status::new(503, "ServiceUnavailable", format!("answer lost: {error}")))?;
            wire::answer(code, body.to_bytes())
        };
        let answered = self.0.world.clock.timeout(DEADLINE, exchange).await;
        answered.unwrap_or_else(|_| {
            self.avoid_preferred();
            Err(Status::new(504, "Timeout", "the API server did not answer in time"))
        })
    }

    async fn watch(
        &self,
        target: Target,
        options: WatchOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
        let call = Call::watch(&target, &options);
        let opened = self.0.world.clock.timeout(DEADLINE, self.send(&call)).await;
        let response = opened.unwrap_or_else(|_| {
            self.avoid_preferred();
            Err(Status::new(504, "Timeout", "the watch was not opened in time"))
        })?;
        let code = response.status();
        if !code.is_success() {
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            return Err(wire::refusal(code, &body));
        }
        Ok(events(response.into_body().into_data_stream().boxed()))
    }
}

/// The events of a watch: JSON values, one a line.
fn events(body: BoxStream<'static, Result<Bytes, hyper::Error>>) -> BoxStream<'static, Result<WatchEvent, Status>> {
    let start = (body, BytesMut::new(), false);
    futures::stream::unfold(start, |(mut body, mut buffer, ended)| async move {
        if ended {
            return None;
        }
        loop {
            if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end + 1).freeze();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let event = wire::event(&line);
                let ended = event.is_err();
                return Some((event, (body, buffer, ended)));
            }
            if buffer.len() > ANSWER_BYTES_MAX {
                let status = Status::new(500, "InternalError", "an event of the watch is too large");
                return Some((Err(status), (body, buffer, true)));
            }
            match body.next().await {
                None => return None,
                Some(Ok(data)) => buffer.extend_from_slice(&data),
                Some(Err(error)) => {
                    let status = Status::new(503, "ServiceUnavailable", format!("the watch was lost: {error}"));
                    return Some((Err(status), (body, buffer, true)));
                }
            }
        }
    })
    .boxed()
}

fn tls(config: &RemoteConfig) -> Result<rustls::ClientConfig, RemoteError> {
    let unusable = |error: &dyn std::fmt::Display| RemoteError::Certificates(error.to_string());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(config.ca_pem.as_deref().unwrap_or_default().as_bytes()) {
        roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots);
    let mut tls = match &config.identity {
        Identity::Anonymous | Identity::Token(_) | Identity::Account(_) => builder.with_no_client_auth(),
        Identity::Certificate { certificate_pem, key_pem } => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate_pem.as_bytes()).collect();
            let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| unusable(&error))?;
            let chain = chain.map_err(|error| unusable(&error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&error))?
        }
    };
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

/// Opens connections through the world's network.
#[derive(Clone)]
struct Connector {
    world: World,
    tls: Arc<rustls::ClientConfig>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Connection>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<Connection>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Connector { world, tls } = self.clone();
        Box::pin(async move {
            let connecting = connect(&world, tls, &uri);
            let connected = world.clock.timeout(CONNECT_DEADLINE, connecting).await;
            connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map(TokioIo::new)
        })
    }
}

async fn connect(world: &World, tls: Arc<rustls::ClientConfig>, uri: &Uri) -> std::io::Result<Connection> {
    let host = uri.host().unwrap_or_default();
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = world.net.connect(&format!("{host}:{port}")).await?;
    if !secure {
        return Ok(Connection { stream: Box::pin(stream), is_http2: false });
    }
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(std::io::Error::other)?;
    let stream = TlsConnector::from(tls).connect(name, stream).await?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Connection { stream: Box::pin(stream), is_http2 })
}

trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// A connection, plain or secure.
struct Connection {
    stream: Pin<Box<dyn Duplex>>,
    is_http2: bool,
}

impl legacy::connect::Connection for Connection {
    fn connected(&self) -> legacy::connect::Connected {
        let connected = legacy::connect::Connected::new();
        if self.is_http2 { connected.negotiated_h2() } else { connected }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.stream.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
