//! The gateway: a listener that passes each TCP connection on to one of several endpoints, in turn. One that cannot be
//! reached is left out until it can be.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::actor::Shutdown;
use crate::world::{Listener, Stream, World};

/// For connecting to one endpoint.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Why a gateway did not start. Surface it.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("no endpoints found")]
    NoEndpoints,
    #[error("error parsing endpoint {0:?}")]
    Endpoint(String),
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: String, cause: io::Error },
    #[error("SRV or endpoint ({0}) should not resolve to the gateway listen addr ({1})")]
    Itself(String, String),
}

/// A running gateway. It ends with the [`Shutdown`] it was given.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
}

struct Endpoint {
    address: String,
    active: AtomicBool,
}

/// Passes connections on, and keeps account of who can be reached.
struct TcpProxy {
    world: World,
    endpoints: Vec<Endpoint>,
    next: AtomicUsize,
    retry_delay: Duration,
    shutdown: Shutdown,
}

impl Gateway {
    /// Listens on `listen`, and passes connections on to `endpoints`, each a `host:port` or a URL.
    pub async fn start(
        world: &World,
        listen: &str,
        endpoints: &[String],
        retry_delay: Duration,
        shutdown: Shutdown,
    ) -> Result<Gateway, GatewayError> {
        let addresses = endpoints.iter().map(|endpoint| address_of(endpoint)).collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(GatewayError::NoEndpoints);
        }
        refuse_itself(world, listen, &addresses).await?;
        let failed = |cause| GatewayError::Listen { address: listen.to_owned(), cause };
        let listener = world.net.listen(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let told = serde_json::json!({ "endpoints": addresses });
        let endpoints = addresses.into_iter().map(|address| Endpoint { address, active: AtomicBool::new(true) });
        let proxy = Arc::new(TcpProxy {
            world: world.clone(),
            endpoints: endpoints.collect(),
            next: AtomicUsize::new(0),
            retry_delay,
            shutdown,
        });
        tracing::info!(inlined = %told, "ready to proxy client requests");
        world.spawner.keep("gateway/listener", proxy.clone().accept(listener));
        world.spawner.keep("gateway/health", proxy.watch());
        Ok(Gateway { address })
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Without a scheme, as only bytes are passed on.
fn address_of(endpoint: &str) -> Result<String, GatewayError> {
    let address = endpoint.split_once("://").map_or(endpoint, |(_, address)| address).trim_end_matches('/');
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.map(|_| address.to_owned()).ok_or_else(|| GatewayError::Endpoint(endpoint.to_owned()))
}

/// An endpoint that is the gateway itself would call itself for ever.
async fn refuse_itself(world: &World, listen: &str, endpoints: &[String]) -> Result<(), GatewayError> {
    let Some((host, port)) = listen.rsplit_once(':') else { return Ok(()) };
    let own = world.net.lookup(host).await.unwrap_or_default();
    for endpoint in endpoints {
        let Some((other, other_port)) = endpoint.rsplit_once(':') else { continue };
        let found = world.net.lookup(other).await.unwrap_or_default();
        if port == other_port && port != "0" && found.iter().any(|address| own.contains(address)) {
            return Err(GatewayError::Itself(endpoint.clone(), listen.to_owned()));
        }
    }
    Ok(())
}

impl TcpProxy {
    async fn accept(self: Arc<Self>, listener: Listener) {
        loop {
            let (stream, _) = tokio::select! {
                biased;
                () = self.shutdown.wait() => return,
                accepted = listener.next(&self.world.clock) => accepted,
            };
            self.world.spawner.task(self.clone().pass_on(stream));
        }
    }

    /// The active endpoint whose turn it is.
    fn pick(&self) -> Option<&Endpoint> {
        let count = self.endpoints.len();
        (0..count)
            .map(|_| &self.endpoints[self.next.fetch_add(1, Ordering::Relaxed) % count])
            .find(|endpoint| endpoint.active.load(Ordering::Relaxed))
    }

    async fn pass_on(self: Arc<Self>, mut client: Stream) {
        while let Some(endpoint) = self.pick() {
            match self.connect(&endpoint.address).await {
                Ok(mut member) => {
                    tokio::select! {
                        // Either end may leave without a goodbye.
                        _ = tokio::io::copy_bidirectional(&mut client, &mut member) => {}
                        () = self.shutdown.wait() => {}
                    }
                    return;
                }
                Err(error) => {
                    endpoint.active.store(false, Ordering::Relaxed);
                    tracing::warn!(
                        address = endpoint.address,
                        interval = ?self.retry_delay,
                        %error,
                        "deactivated endpoint"
                    );
                }
            }
        }
    }

    async fn connect(&self, address: &str) -> io::Result<Stream> {
        let connecting = self.world.clock.timeout(CONNECT_LIMIT, self.world.net.connect(address)).await;
        connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Tries endpoints that were left out, from time to time.
    async fn watch(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.wait() => return,
                () = self.world.clock.sleep(self.retry_delay) => {}
            }
            for endpoint in self.endpoints.iter().filter(|endpoint| !endpoint.active.load(Ordering::Relaxed)) {
                match self.connect(&endpoint.address).await {
                    Ok(_) => {
                        endpoint.active.store(true, Ordering::Relaxed);
                        tracing::info!(address = endpoint.address, "activated");
                    }
                    Err(error) => tracing::warn!(
                        address = endpoint.address,
                        interval = ?self.retry_delay,
                        %error,
                        "failed to activate endpoint (stay inactive for another interval)"
                    ),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn endpoints_are_addresses() {
        assert_eq!(address_of("http://127.0.0.1:2379").unwrap(), "127.0.0.1:2379");
        assert_eq!(address_of("[::1]:2379").unwrap(), "[::1]:2379");
        assert!(address_of("localhost").is_err());
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the test is the program: it makes the world")]
    fn connections_go_to_an_endpoint_that_answers() {
        actix::System::new().block_on(async {
            let world = World::real();
            let member = world.net.listen("127.0.0.1:0").await.unwrap();
            let there = member.local_addr().unwrap().to_string();
            let away = world.net.listen("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
            let shutdown = Shutdown::new();
            let (endpoints, interval) = ([away, there], Duration::from_secs(60));
            let gateway = Gateway::start(&world, "127.0.0.1:0", &endpoints, interval, shutdown.clone()).await.unwrap();
            let mut client = world.net.connect(&gateway.address().to_string()).await.unwrap();
            client.write_all(b"hi").await.unwrap();
            let (mut met, _) = member.next(&world.clock).await;
            let mut heard = [0; 2];
            met.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"hi");
            shutdown.begin();
        });
    }
}
