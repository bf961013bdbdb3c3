//! The peer port's sockets: TLS handshakes, HTTP/1.1 and HTTP/2, and who answers what.
//!
//! ```text
//!   peer ──▶ listener ── TLS ──▶ connection ─┬─ /chorus.raft.Peer/... ──▶ PeerService
//!                                            └─ everything else ────────▶ PeerHttp, of the rooms above
//! ```

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use super::context::ReplicaContext;
use super::peer_http::short;
use super::peer_server::PeerService;
use super::{Config, Error, wire};
use crate::world::net::{Address, Answering, Guest, Opened, Refusal};
use crate::world::{Listener, Spawner, Stream, World, tls};

/// Time within which a caller must send the head of its request.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Time within which a connection that gives way to another one may end on its own.
const FAREWELL_LIMIT: Duration = Duration::from_millis(100);
/// Calls of one connection at once: log streams and heartbeats are few, but a follower forwards what its clients write.
const STREAMS_MAX: u32 = 4_096;
/// Flow-control windows of a stream and of a connection.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// The sockets of a peer port, opened.
pub(super) struct PeerListeners(Vec<(Listener, Option<tls::Server>)>);

impl PeerListeners {
    pub async fn open(world: &World, config: &Config) -> Result<PeerListeners, Error> {
        let mut open = Vec::with_capacity(config.listen.len());
        for url in &config.listen {
            let address = Address::parse(url).map_err(|error| Error::Config(error.to_string()))?;
            let tls = match address.is_secure() {
                true if config.security.tls.is_empty() => {
                    let refused = "KeyFile and CertFile are not presented";
                    return Err(Error::Config(format!("cannot listen on TLS for {}: {refused}", address.place())));
                }
                true => {
                    let tls = tls::Server::new(world, config.security.tls.clone());
                    Some(tls.map_err(|error| Error::Config(error.to_string()))?)
                }
                false => None,
            };
            let listener = world.net.for_peers().listen_at(&address).await;
            let listener = listener.map_err(|error| Error::io(format!("listening for peers on {url}"), &error))?;
            let listener = listener.refusing_by(if tls.is_some() { Refusal::Tls } else { Refusal::Http });
            open.push((listener, tls));
        }
        match open.is_empty() {
            true => Err(Error::Config("no address to listen on for peers is given".into())),
            false => Ok(PeerListeners(open)),
        }
    }

    /// Serves until the replica shuts down and open calls have ended.
    pub async fn serve(self, service: PeerService, context: ReplicaContext) {
        let port = Arc::new(Port { service, context, connections: TaskTracker::new() });
        let accepting = self.0.into_iter().map(|(listener, tls)| port.clone().accept(listener, tls));
        join_all(accepting).await;
        port.connections.close();
        port.connections.wait().await;
    }
}

/// What all connections share.
struct Port {
    service: PeerService,
    context: ReplicaContext,
    connections: TaskTracker,
}

impl Port {
    async fn accept(self: Arc<Self>, listener: Listener, tls: Option<tls::Server>) {
        let world = &self.context.world;
        loop {
            let (stream, _) = tokio::select! {
                biased;
                () = self.context.shutdown.wait() => return,
                accepted = listener.next(&world.clock) => accepted,
            };
            let serving = self.clone().meet(stream, tls.clone());
            world.spawner.task(self.connections.track_future(serving));
        }
    }

    async fn meet(self: Arc<Self>, stream: Stream, tls: Option<tls::Server>) {
        let guest = stream.guest();
        guest.gives_way();
        let opened = tokio::select! {
            biased;
            () = self.context.shutdown.wait() => None,
            () = guest.displaced() => None,
            opened = self.open(stream, tls, &guest) => opened,
        };
        if let Some(stream) = opened {
            self.serve(stream, guest).await;
        }
    }

    /// Waits for the TLS handshake, if there is one, and for the first bytes, which show the protocol.
    async fn open(&self, stream: Stream, tls: Option<tls::Server>, guest: &Guest) -> Option<Opened<Stream>> {
        let clock = &self.context.world.clock;
        let Some(tls) = tls else { return Opened::wait(clock, stream, guest).await };
        let remote = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
        match tls.accept(stream).await {
            Ok(accepted) => Opened::wait(clock, accepted.stream, guest).await,
            Err(rejected) => {
                if rejected.timed_out {
                    guest.abandon();
                }
                rejected.log("rejected connection on peer endpoint", &remote);
                None
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: Opened<Stream>, guest: Guest) {
        let shutdown = self.context.shutdown.clone();
        let builder = self.builder();
        let service = service_fn(|request: Request<Incoming>| {
            let (port, call) = (self.clone(), guest.call());
            async move {
                let response = match call {
                    Some(_) => port.answer(request).await,
                    None => short(StatusCode::SERVICE_UNAVAILABLE, "too many requests\n"),
                };
                Ok::<_, Infallible>(response.map(|body| Answering::new(body, call)))
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = guest.displaced() => {
                connection.as_mut().graceful_shutdown();
                self.context.world.clock.timeout(FAREWELL_LIMIT, connection).await.unwrap_or(Ok(()))
            }
            () = guest.stalled(&self.context.world.clock) => Ok(()),
        };
        if let Err(error) = ended {
            // Peers come and go.
            tracing::debug!(%error, "a peer's connection ended early");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match request.uri().path().starts_with(wire::SERVICE) {
            true => self.service.answer(request.map(Body::new)).await,
            false => self.context.plain_http.answer(request).await,
        }
    }

    fn builder(&self) -> auto::Builder<Spawner> {
        let election = self.context.timings.election.start;
        let mut builder = auto::Builder::new(self.context.world.spawner.clone());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .keep_alive_interval(election / 4)
            .keep_alive_timeout(election / 2);
        builder
    }
}
