//! The listener of a frontend: TLS, HTTP/1.1 and HTTP/2 on one port.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::world::net::{Answering, Guest, Opened};
use crate::world::{Clock, Listener, Stream, panics};

use super::authentication::certificate_user;
use super::config::Tls;
use super::error::Error;
use super::http;
use super::request::Api;
use super::user::User;

/// A client must finish its handshake, and the head of a request, in this time, or its connection is closed.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// HTTP/2 pings detect connections whose client is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(20);
/// Requests and watches on one HTTP/2 connection.
const STREAMS_MAX: u32 = 1000;
/// How long requests in flight may take to end when the node shuts down.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A connection that is displaced by another one is closed after this time at the latest.
const FAREWELL_MAX: Duration = Duration::from_millis(100);

/// Accepts connections.
pub struct Server {
    pub api: Arc<Api>,
    pub listener: Listener,
    pub tls: Option<TlsAcceptor>,
}

impl Server {
    /// Serves until the node shuts down.
    pub async fn run(&self) {
        let shutdown = self.api.shutdown.clone();
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = shutdown.wait() => return,
                accepted = self.listener.next(&self.api.world.clock) => accepted,
            };
            let connection = panics::catch_panics(connection(self.api.clone(), self.tls.clone(), stream, peer));
            self.api.world.spawner.detached(async move {
                if let Err(panic) = connection.await {
                    tracing::error!(%peer, %panic, "a connection panicked and was closed");
                }
            });
        }
    }
}

async fn connection(api: Arc<Api>, tls: Option<TlsAcceptor>, stream: Stream, peer: SocketAddr) {
    let guest = stream.guest();
    guest.gives_way();
    let clock = api.world.clock.clone();
    let Some(tls) = tls else {
        let opened = unless_displaced(&guest, Opened::wait(&clock, stream, &guest)).await;
        if let Some(stream) = opened.flatten() {
            serve(api, None, stream, guest).await;
        }
        return;
    };
    let shaking = clock.timeout(HANDSHAKE_MAX, tls.accept(stream));
    let Some(shaken) = unless_displaced(&guest, shaking).await else { return };
    match shaken {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let user = certificates.and_then(|chain| chain.first()).and_then(|leaf| certificate_user(leaf));
            let opened = unless_displaced(&guest, Opened::wait(&clock, stream, &guest)).await;
            if let Some(stream) = opened.flatten() {
                serve(api, user, stream, guest).await;
            }
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => {
            tracing::debug!(%peer, "TLS handshake took too long");
            guest.abandon();
        }
    }
}

async fn unless_displaced<T>(guest: &Guest, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = guest.displaced() => None,
        done = work => Some(done),
    }
}

async fn serve<S>(api: Arc<Api>, certificate: Option<User>, stream: Opened<S>, guest: Guest)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shutdown = api.shutdown.clone();
    let clock = api.world.clock.clone();
    let mut builder = auto::Builder::new(api.world.spawner.clone());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .max_concurrent_streams(STREAMS_MAX);
    let visitor = guest.clone();
    let service = service_fn(move |request| {
        let (call, api, certificate) = (visitor.call(), api.clone(), certificate.clone());
        async move {
            let response = match call {
                Some(_) => http::answer(api, certificate, request).await,
                None => http::too_much(),
            };
            Ok::<_, Infallible>(response.map(|body| Answering::new(body, call)))
        }
    });
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => Ok(ended),
        () = shutdown.wait() => Err(DRAIN_MAX),
        () = guest.displaced() => Err(FAREWELL_MAX),
        () = guest.stalled(&clock) => Ok(Ok(())),
    };
    let ended = match ended {
        Ok(ended) => ended,
        Err(limit) => {
            serving.as_mut().graceful_shutdown();
            clock.timeout(limit, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// The world's clock, for the validity of client certificates.
#[derive(Debug)]
struct CertificateClock(Clock);

impl TimeProvider for CertificateClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.unix()))
    }
}

/// TLS with optional client certificates.
pub fn acceptor(tls: &Tls, clock: Clock) -> Result<TlsAcceptor, Error> {
    let refuse = |what: &'static str| move |error: &dyn std::fmt::Display| Error::Tls(format!("{what}: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(tls.client_ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| refuse("client authority")(&error))?;
        roots.add(certificate).map_err(|error| refuse("client authority")(&error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| refuse("client authority")(&error))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(tls.certificate_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| refuse("certificate")(&error))?;
    let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes()).map_err(|error| refuse("key")(&error))?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(CertificateClock(clock)))
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse("protocol versions")(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| refuse("certificate")(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
