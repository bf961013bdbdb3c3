//! The network: TCP and Unix sockets, or turmoil's simulated TCP.
//!
//! Simulated TCP does not retransmit: a lost segment wedges a connection for ever. Every connection therefore has
//! keep-alive and every call a deadline, in production as well.
//!
//! - [`address`]: the URLs of listeners and of what is dialled
//! - [`listener`], [`stream`]: sockets
//! - [`ports`]: who listens on a port, and which ports the kernel gives away
//! - [`connections`]: how many others may open, and who gives way
//! - [`opening`]: what a client speaks, by its first bytes

pub mod address;
pub mod connections;
pub mod listener;
pub mod opening;
pub mod ports;
pub mod stream;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};

pub use address::{Address, BadAddress};
pub use connections::{Answering, Call, Connections, Guest};
pub use listener::{Listener, Refusal};
pub use opening::Opened;
pub use stream::Stream;

use super::{process, tls};

/// A handle on the network. Cheap to clone; clones share the bounds on connections.
#[derive(Clone, Debug)]
pub struct Network {
    kind: Kind,
    /// Of what is listened on through this handle.
    accepted: Connections,
    clients: Connections,
    peers: Connections,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Real,
    Simulated,
}

impl Network {
    /// The machine's, within the limit on file descriptors that this process has now.
    pub fn real() -> Network {
        let (clients, peers) = connections::within(process::descriptors_max());
        Network::new(Kind::Real, clients, peers)
    }

    /// Turmoil's. It takes no file descriptors, and has no bound.
    pub fn simulated() -> Network {
        Network::new(Kind::Simulated, usize::MAX, usize::MAX)
    }

    fn new(kind: Kind, clients_max: usize, peers_max: usize) -> Network {
        let (clients, peers) = (Connections::at_most(clients_max), Connections::at_most(peers_max));
        Network { kind, accepted: clients.clone(), clients, peers }
    }

    /// The same network, with other bounds on the connections of clients and of peers.
    pub fn bounded(&self, clients_max: usize, peers_max: usize) -> Network {
        Network::new(self.kind, clients_max, peers_max)
    }

    /// A handle whose listeners accept peers: members of the same cluster, which clients must not crowd out.
    pub fn for_peers(&self) -> Network {
        Network { accepted: self.peers.clone(), ..self.clone() }
    }

    /// The connections of clients.
    pub fn clients(&self) -> &Connections {
        &self.clients
    }

    /// The connections of peers.
    pub fn peers(&self) -> &Connections {
        &self.peers
    }

    /// Listens on `address`, a `host:port`. In a simulation the host part is replaced by "any". The error of an address
    /// in use says whose it is, where that can be told.
    pub async fn listen(&self, address: &str) -> io::Result<Listener> {
        let accepted = self.accepted.clone();
        match self.kind {
            Kind::Real => Listener::tcp(address, accepted).await.map_err(|error| with_holder(error, address)),
            Kind::Simulated => Listener::simulated(port(address)?, accepted).await,
        }
    }

    /// Listens on the place that `address` names. Whether TLS is spoken there is the caller's to see to.
    pub async fn listen_at(&self, address: &Address) -> io::Result<Listener> {
        match address.is_unix() {
            true => Listener::unix(address.place(), self.accepted.clone()),
            false => self.listen(address.place()).await,
        }
    }

    /// Connects to `address`, a `host:port`.
    pub async fn connect(&self, address: &str) -> io::Result<Stream> {
        self.connect_from(None, address).await
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that opens sockets")]
    async fn connect_from(&self, local: Option<IpAddr>, address: &str) -> io::Result<Stream> {
        let stream = match (self.kind, local) {
            (Kind::Simulated, _) => return Ok(Stream::simulated(turmoil::net::TcpStream::connect(address).await?)),
            (Kind::Real, None) => tokio::net::TcpStream::connect(address).await?,
            (Kind::Real, Some(local)) => {
                let found = tokio::net::lookup_host(address).await?.find(|found| found.is_ipv4() == local.is_ipv4());
                let target = found.ok_or(ErrorKind::AddrNotAvailable)?;
                let socket =
                    if local.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
                socket.bind(SocketAddr::new(local, 0))?;
                socket.connect(target).await?
            }
        };
        stream.set_nodelay(true)?;
        Ok(Stream::real(stream))
    }

    /// Connects to the place that a dialler names, with a TLS handshake where its address asks for one.
    #[allow(clippy::disallowed_methods, reason = "the one place that opens sockets")]
    pub async fn dial(&self, dialler: &Dialler) -> io::Result<Stream> {
        let address = &dialler.address;
        let stream = match address.is_unix() {
            true => Stream::unix(tokio::net::UnixStream::connect(address.place()).await?),
            false => self.connect_from(dialler.local, address.place()).await?,
        };
        match &dialler.tls {
            _ if !address.is_secure() => Ok(stream),
            Some(tls) => tls.connect(stream, address.host()).await,
            None => Err(io::Error::other(format!("{address} asks for TLS, which is not set up here"))),
        }
    }

    /// The addresses of a host; none in a simulation.
    #[allow(clippy::disallowed_methods, reason = "the one place that asks for names")]
    pub async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        match self.kind {
            Kind::Real => Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect()),
            Kind::Simulated => Ok(Vec::new()),
        }
    }

    /// The address from which this machine reaches others; nothing where it reaches none, and in a simulation.
    #[allow(clippy::disallowed_methods, reason = "the one place that opens sockets")]
    pub fn default_host(&self) -> Option<IpAddr> {
        let Kind::Real = self.kind else { return None };
        // Connecting a datagram socket sends nothing; it only makes the system choose. The address is for examples.
        let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).ok()?;
        socket.connect(("192.0.2.1", 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_unspecified())
    }

    /// A gRPC channel to `endpoint` that connects on first use and again after a failure.
    pub fn channel(&self, endpoint: Endpoint) -> Channel {
        let network = self.clone();
        repeatable(endpoint).connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
            let network = network.clone();
            async move {
                let connecting = async {
                    let host = uri.host().ok_or_else(|| io::Error::other(format!("{uri} names no host")))?;
                    network.connect(&format!("{host}:{}", uri.port_u16().unwrap_or(80))).await
                };
                let connected = within(CONNECT_LIMIT, connecting).await;
                connected.map(TokioIo::new).map_err(|source| NotConnected { uri: uri.to_string(), source })
            }
        }))
    }

    /// A gRPC channel that a dialler connects, with `limit` for each attempt; `tune` sets what else there is to set. A
    /// call that fails because no connection was made has [`NotConnected`] among its causes.
    pub fn channel_by(&self, dialler: Dialler, limit: Duration, tune: impl FnOnce(Endpoint) -> Endpoint) -> Channel {
        let network = self.clone();
        let authority = dialler.address.authority();
        // The handshake is the dialler's, so for the library this is a plain connection.
        let endpoint = tune(endpoint(&format!("http://{authority}")));
        let endpoint = match dialler.address.is_secure() {
            true => endpoint.origin(Uri::try_from(format!("https://{authority}")).unwrap_or_default()),
            false => endpoint,
        };
        repeatable(endpoint).connect_with_connector_lazy(tower::service_fn(move |_| {
            let (network, dialler) = (network.clone(), dialler.clone());
            async move {
                let connected = within(limit, network.dial(&dialler)).await;
                let uri = dialler.address.to_string();
                connected.map(TokioIo::new).map_err(|source| NotConnected { uri, source })
            }
        }))
    }
}

/// How to reach one place.
#[derive(Clone, Debug)]
pub struct Dialler {
    pub address: Address,
    /// For addresses that ask for TLS.
    pub tls: Option<tls::Client>,
    /// The address of this machine to connect from; by default the system chooses.
    pub local: Option<IpAddr>,
}

/// Of an address in use, who uses it.
fn with_holder(error: io::Error, address: &str) -> io::Error {
    if error.kind() != ErrorKind::AddrInUse {
        return error;
    }
    let holder = port(address).ok().and_then(ports::holder);
    let holder = holder.map_or("another process".to_owned(), |holder| holder.to_string());
    io::Error::new(ErrorKind::AddrInUse, format!("{holder} listens there already"))
}

fn endpoint(uri: &str) -> Endpoint {
    Endpoint::from_shared(uri.to_owned()).unwrap_or_else(|_| Endpoint::from_static("http://unnamed"))
}

/// By default the HTTP/2 library forgets calls that were given up after a second of the machine's own clock, which a
/// simulation does not have. Here it forgets them by their number alone.
fn repeatable(endpoint: Endpoint) -> Endpoint {
    endpoint.http2_reset_stream_duration(Duration::MAX)
}

async fn within<T>(limit: Duration, connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, connecting).await.unwrap_or(Err(ErrorKind::TimedOut.into()))
}

/// For connecting, unless told otherwise.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// No connection was made, so nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {uri}: {source}")]
pub struct NotConnected {
    uri: String,
    source: io::Error,
}

fn port(address: &str) -> io::Result<u16> {
    address
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{address:?} is not host:port")))
}
