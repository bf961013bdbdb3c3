//! The agent's own port, as a kubelet's: HTTP/1.1 over mutual TLS. Every request is authenticated and authorized first.
//!
//! - `GET /containerLogs/...`: see [`logs`](super::logs)
//! - `GET /healthz`

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::access::{Auth, Refusal};
use super::answer::{Body, plain};
use super::logs::Logs;
use crate::actor::{Gate, Shutdown, Supervisor};
use crate::world::{Listener, Stream, World, panics, tls};

/// Connections at once; each may follow a log for hours.
const CONNECTIONS_MAX: usize = 512;
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Serves the requests to one node's agent.
#[derive(Clone)]
pub struct Server {
    pub world: World,
    pub tls: Option<tls::Server>,
    pub access: Arc<Auth>,
    pub logs: Logs,
}

impl Server {
    /// Accepts connections until `shutdown`.
    pub fn start(self, listener: Listener, shutdown: Shutdown) {
        let (gate, listener) = (Gate::new(CONNECTIONS_MAX), Arc::new(listener));
        Supervisor::new(&self.world.clone(), &shutdown.clone())
            .task("agent/listener", move || self.clone().accept(listener.clone(), gate.clone(), shutdown.clone()));
    }

    async fn accept(self, listener: Arc<Listener>, gate: Gate, shutdown: Shutdown) {
        let end = shutdown.wait();
        tokio::pin!(end);
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = &mut end => return,
                accepted = listener.next(&self.world.clock) => accepted,
            };
            // A connection above the bound is closed at once.
            if let Ok(permit) = gate.enter() {
                let (server, shutdown) = (self.clone(), shutdown.clone());
                self.world.spawner.detached(async move {
                    let _permit = permit;
                    tokio::select! {
                        () = shutdown.wait() => {}
                        served = panics::catch_panics(server.serve(stream, peer)) => {
                            if let Err(panic) = served {
                                tracing::error!(%peer, %panic, "a connection to the agent has ended");
                            }
                        }
                    }
                });
            }
        }
    }

    async fn serve(self, stream: Stream, peer: SocketAddr) {
        let (stream, certificate) = match &self.tls {
            None => (stream, None),
            Some(tls) => match tls.accept(stream).await {
                Ok(accepted) => (accepted.stream, accepted.certificate),
                Err(rejected) => return rejected.log("rejected connection to the agent", &peer.to_string()),
            },
        };
        let certificate = Arc::new(certificate);
        let service = service_fn(|request: Request<Incoming>| {
            let (server, certificate) = (self.clone(), certificate.clone());
            async move { Ok::<_, Infallible>(server.answer(request, certificate.as_ref().as_ref()).await) }
        });
        let mut connection = hyper::server::conn::http1::Builder::new();
        connection.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(HEAD_BYTES_MAX);
        // A client that goes away in the middle of a log is nothing to report.
        let _ = connection.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: Request<Incoming>, certificate: Option<&tls::Certificate>) -> Response<Body> {
        let (method, path) = (request.method(), request.uri().path());
        match self.access.check(certificate, request.headers(), method, path).await {
            Ok(()) => {}
            Err(Refusal::Unknown) => return plain(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Err(Refusal::Forbidden(why)) => return plain(StatusCode::FORBIDDEN, &why),
            Err(Refusal::Undecided(why)) => return plain(StatusCode::INTERNAL_SERVER_ERROR, &why),
        }
        if method != Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here");
        }
        if path == "/healthz" {
            return plain(StatusCode::OK, "ok");
        }
        let logs = self.logs.answer(path, request.uri().query().unwrap_or_default()).await;
        logs.unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "404 page not found"))
    }
}
