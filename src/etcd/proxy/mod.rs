//! A gRPC proxy: it stands before the members of a store, any etcd v3, and passes every call on.
//!
//! ```text
//!   client ──▶ listener ── TLS ──▶ door ─┬─ gRPC ─▶ rewrite (namespace) ─▶ Upstream ─▶ a member that answers
//!                                        ├─ MemberList ─▶ the proxies themselves
//!                                        └─ HTTP: /health /metrics /proxy/health /proxy/metrics
//! ```
//!
//! Messages are passed on as they come; only a namespace makes the proxy look into them. Nothing is cached.
//!
//! - `door`: connections of clients, and who answers what
//! - `upstream`: the members, and which of them is called
//! - `namespace`, `rewrite`: keys with a prefix of their own
//! - `peers`: the proxies that stand beside this one

mod door;
mod namespace;
mod peers;
mod rewrite;
mod upstream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::door::Door;
use self::upstream::Upstream;
use crate::actor::Shutdown;
use crate::store::BadEndpoint;
use crate::world::net::Address;
use crate::world::{World, tls};

/// What a proxy is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` to listen on for clients.
    pub listen: String,
    /// URL to listen on for monitors.
    pub listen_metrics: Option<String>,
    /// For clients; without it they are served in plain text.
    pub tls: Option<tls::Options>,
    /// The members, as URLs or as `host:port`.
    pub endpoints: Vec<String>,
    /// For members; without it they are called in plain text.
    pub upstream_tls: Option<tls::Options>,
    /// How often the members are asked where the others are.
    pub sync_interval: Option<Duration>,
    /// Before every key.
    pub namespace: Vec<u8>,
    /// What `MemberList` tells clients.
    pub advertise: String,
    /// Where proxies that stand beside each other meet.
    pub resolver: Option<Resolver>,
    pub concurrent_streams_max: u32,
    /// Bytes of one request.
    pub request_bytes_max: usize,
}

/// Proxies that tell clients of each other.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// Of the keys under which they are.
    pub prefix: String,
    /// Seconds after which one that has gone is forgotten.
    pub ttl: i64,
}

/// Why a proxy did not start. Surface it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: String, cause: io::Error },
    #[error(transparent)]
    Address(#[from] crate::world::net::BadAddress),
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// Members would take every client of the proxy for the user of that name.
    #[error("cert has non empty Common Name ({name}): {path}")]
    CommonName { name: String, path: String },
}

/// A running proxy. It ends with the [`Shutdown`] it was given.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
}

impl Proxy {
    pub async fn start(world: World, config: Config, shutdown: Shutdown) -> Result<Proxy, Error> {
        let upstream = Arc::new(Upstream::new(&world, &config)?);
        let server = config.tls.clone().map(|options| tls::Server::new(&world, options)).transpose()?;
        let listening = |address: &str, cause| Error::Listen { address: address.to_owned(), cause };
        let listener = world.net.listen(&config.listen).await.map_err(|cause| listening(&config.listen, cause))?;
        let address = listener.local_addr().map_err(|cause| listening(&config.listen, cause))?;
        tracing::info!(address = config.listen, "listening for gRPC proxy client requests");
        let metrics = match &config.listen_metrics {
            Some(url) => {
                let address = Address::parse(url)?;
                let secure = address.is_secure();
                Some((world.net.listen_at(&address).await.map_err(|cause| listening(url, cause))?, secure))
            }
            None => None,
        };
        let peers = peers::Peers::start(&world, &config, upstream.clone(), &shutdown);
        if let Some(interval) = config.sync_interval {
            world.spawner.keep("proxy/members", upstream.clone().follow(interval, shutdown.clone()));
        }
        let door = Arc::new(Door { world: world.clone(), config, upstream, peers, shutdown });
        if let Some((listener, secure)) = metrics {
            let tls = server.clone().filter(|_| secure);
            world.spawner.keep("proxy/metrics_listener", door.clone().accept(listener, tls, true));
            tracing::info!("gRPC proxy server metrics URL serving");
        }
        world.spawner.keep("proxy/listener", door.clone().accept(listener, server, false));
        tracing::info!(address = door.config.listen, "started gRPC proxy");
        Ok(Proxy { address })
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
