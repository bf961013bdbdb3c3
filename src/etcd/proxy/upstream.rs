//! The members behind a proxy: one connection each, the one that answered last is called first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower_service::Service;

use super::config::Config;
use super::error::Error;
use crate::actor::Shutdown;
use crate::store::client::Client;
use crate::store::{BadEndpoint, Remote, RemoteConfig};
use crate::world::net::{Address, Dialler, NotConnected};
use crate::world::{World, tls};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// The size of a member's metrics.
const METRICS_BYTES_MAX: usize = 64 << 20;

/// The members, as far as they are known.
pub(super) struct Upstream {
    world: World,
    tls: Option<tls::Client>,
    known: Mutex<Arc<Members>>,
}

struct Members {
    urls: Vec<String>,
    channels: Vec<Channel>,
    /// The one that answered last.
    preferred: AtomicUsize,
    store: Client,
}

/// A request's body on its way to a member.
pub(super) enum Outgoing {
    /// It is all there, and can be sent again.
    Whole(Bytes),
    Open(Body),
}

impl Upstream {
    pub fn new(world: &World, config: &Config) -> Result<Upstream, Error> {
        if let Some(path) = config.upstream_tls.as_ref().and_then(|tls| tls.cert_file.as_ref()) {
            check_name(world, path)?;
        }
        let tls = config.upstream_tls.clone().map(|options| tls::Client::new(world, options)).transpose()?;
        let members = Members::new(world, &config.endpoints, tls.clone())?;
        Ok(Upstream { world: world.clone(), tls, known: Mutex::new(Arc::new(members)) })
    }

    fn members(&self) -> Arc<Members> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The members as one store.
    pub fn store(&self) -> Client {
        self.members().store.clone()
    }

    /// Passes a call on. One that could not be sent goes to the next member, if its body is still there.
    pub async fn call(&self, parts: Parts, body: Outgoing) -> Response<Body> {
        let members = self.members();
        let count = members.channels.len();
        let first = members.preferred.load(Ordering::Relaxed);
        let mut body = Some(body);
        let mut last = None;
        for at in (first..first + count).map(|at| at % count) {
            let sent = match body.take() {
                Some(Outgoing::Whole(bytes)) => {
                    body = Some(Outgoing::Whole(bytes.clone()));
                    Body::new(Full::new(bytes))
                }
                Some(Outgoing::Open(open)) => open,
                None => break,
            };
            let mut channel = members.channels[at].clone();
            let answered = match std::future::poll_fn(|cx| channel.poll_ready(cx)).await {
                Ok(()) => channel.call(Request::from_parts(parts.clone(), sent)).await,
                Err(error) => Err(error),
            };
            match answered {
                Ok(response) => {
                    members.preferred.store(at, Ordering::Relaxed);
                    return response;
                }
                Err(error) => {
                    let unsent = not_connected(&error);
                    members.preferred.store((at + 1) % count, Ordering::Relaxed);
                    last = Some(Status::unavailable(text_of(&error)));
                    if !unsent {
                        break;
                    }
                }
            }
        }
        last.unwrap_or_else(|| Status::unavailable("no member answers")).into_http()
    }

    /// Asks for the list of members from time to time.
    pub async fn follow(self: Arc<Self>, interval: Duration, shutdown: Shutdown) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = self.world.clock.sleep(interval) => {}
            }
            match self.store().member_list(pb::MemberListRequest { linearizable: true }).await {
                Ok(list) => self.learn(list),
                Err(error) => tracing::info!(%error, "Auto sync endpoints failed."),
            }
        }
    }

    fn learn(&self, list: pb::MemberListResponse) {
        let started = list.members.into_iter().filter(|member| !member.name.is_empty() && !member.is_learner);
        let mut urls: Vec<String> = started.flat_map(|member| member.client_ur_ls).collect();
        urls.sort();
        let before = self.members();
        if urls.is_empty() || urls == before.urls {
            return;
        }
        match Members::new(&self.world, &urls, self.tls.clone()) {
            Ok(members) => {
                let endpoints = serde_json::json!({ "endpoints": urls });
                tracing::info!(inlined = %endpoints, "set etcd endpoints by autoSync");
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(members);
            }
            Err(error) => tracing::warn!(%error, "a member has no endpoint that can be called"),
        }
    }

    /// The `/metrics` of a member.
    pub async fn metrics(&self) -> Result<Bytes, String> {
        let members = self.members();
        let at = members.preferred.load(Ordering::Relaxed) % members.urls.len();
        let address = Address::parse(&members.urls[at]).map_err(|error| error.to_string())?;
        let host = address.place().to_owned();
        let dialler = Dialler { address, tls: self.tls.clone(), local: None };
        let asking = async {
            let stream = self.world.net.dial(&dialler).await.map_err(|error| error.to_string())?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
            self.world.spawner.task(async move { drop(connection.await) });
            let request = Request::get("/metrics").header("host", host).body(Empty::<Bytes>::new());
            let request = request.map_err(|error| error.to_string())?;
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let body = Limited::new(response.into_body(), METRICS_BYTES_MAX).collect().await;
            body.map(|body| body.to_bytes()).map_err(|error| error.to_string())
        };
        self.world.clock.timeout(CONNECT_LIMIT, asking).await.unwrap_or_else(|_| Err("no answer in time".into()))
    }
}

impl Members {
    fn new(world: &World, endpoints: &[String], tls: Option<tls::Client>) -> Result<Members, BadEndpoint> {
        let secure = tls.is_some();
        let with_scheme = |endpoint: &String| match (endpoint.contains("://"), secure) {
            (true, _) => endpoint.clone(),
            (false, true) => format!("https://{endpoint}"),
            (false, false) => format!("http://{endpoint}"),
        };
        let urls: Vec<String> = endpoints.iter().map(with_scheme).collect();
        let store = Remote::new(world, RemoteConfig { tls: tls.clone(), ..RemoteConfig::new(urls.clone()) })?;
        let channel = |url: &String| {
            let address = Address::parse(url)
                .map_err(|error| BadEndpoint { endpoint: url.clone(), message: error.to_string() })?;
            let dialler = Dialler { address, tls: tls.clone(), local: None };
            Ok(world.net.channel_by(dialler, CONNECT_LIMIT, |endpoint| {
                endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE)
            }))
        };
        let channels = urls.iter().map(channel).collect::<Result<Vec<_>, BadEndpoint>>()?;
        Ok(Members { urls, channels, preferred: AtomicUsize::new(0), store: Client::new(store) })
    }
}

/// Refuses a certificate with a common name: members would give the rights of that name to every client.
fn check_name(world: &World, path: &std::path::Path) -> Result<(), Error> {
    // A file that cannot be read is reported when it is used.
    let Ok(pem) = world.disk.read(path) else { return Ok(()) };
    let Ok(der) = CertificateDer::from_pem_slice(&pem) else { return Ok(()) };
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(&der) else { return Ok(()) };
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    match name.filter(|name| !name.is_empty()) {
        Some(name) => Err(Error::CommonName { name: name.to_owned(), path: path.display().to_string() }),
        None => Ok(()),
    }
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// Whether the call failed before anything was sent.
fn not_connected(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<NotConnected>())
}

/// The text of the innermost cause, which is the most exact.
fn text_of(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
