//! A gRPC proxy: it runs in front of the members of a store, any etcd v3, and passes every call on.
//!
//! ```text
//!   client ──▶ Downstream ─┬─ gRPC ─▶ rewrite (namespace) ─▶ Upstream ─▶ a member that answers
//!                          ├─ MemberList ─▶ Registry: the proxies themselves
//!                          └─ HTTP: /health /metrics /proxy/health /proxy/metrics
//! ```
//!
//! Messages are passed on as they come; only a namespace makes the proxy look into them. Nothing is cached.
//!
//! - `config`, `error`: what a proxy is configured with, and why it does not start
//! - `downstream`: connections of clients, and who answers what
//! - `upstream`: the members, and which of them is called
//! - `namespace`, `rewrite`: keys with a prefix of their own
//! - `registry`: the proxies that run beside this one

mod config;
mod downstream;
mod error;
mod namespace;
mod registry;
mod rewrite;
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;

use self::downstream::Downstream;
use self::registry::Registry;
use self::upstream::Upstream;
use crate::actor::Shutdown;
use crate::world::net::Address;
use crate::world::{World, tls};

pub use self::config::{Config, Resolver};
pub use self::error::Error;

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
        let registry = Registry::start(&world, &config, upstream.clone(), &shutdown);
        if let Some(interval) = config.sync_interval {
            world.spawner.keep("proxy/members", upstream.clone().follow(interval, shutdown.clone()));
        }
        let downstream = Arc::new(Downstream { world: world.clone(), config, upstream, registry, shutdown });
        if let Some((listener, secure)) = metrics {
            let tls = server.clone().filter(|_| secure);
            world.spawner.keep("proxy/metrics_listener", downstream.clone().accept(listener, tls, true));
            tracing::info!("gRPC proxy server metrics URL serving");
        }
        world.spawner.keep("proxy/listener", downstream.clone().accept(listener, server, false));
        tracing::info!(address = downstream.config.listen, "started gRPC proxy");
        Ok(Proxy { address })
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
