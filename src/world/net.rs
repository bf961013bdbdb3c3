//! The network: TCP, or turmoil's simulated TCP.
//!
//! Simulated TCP does not retransmit: a lost segment wedges a connection for ever. Every connection therefore has
//! keep-alive and every call a deadline, in production as well.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::transport::{Channel, Endpoint, Uri};

/// A handle on the network.
#[derive(Clone, Copy, Debug)]
pub struct Network(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Real,
    Simulated,
}

impl Network {
    pub fn real() -> Network {
        Network(Kind::Real)
    }

    pub fn simulated() -> Network {
        Network(Kind::Simulated)
    }

    /// Listens on `address`, a `host:port`. In a simulation the host part is replaced by "any".
    #[allow(clippy::disallowed_methods, reason = "the one place that opens sockets")]
    pub async fn listen(&self, address: &str) -> io::Result<Listener> {
        match self.0 {
            Kind::Real => Ok(Listener(ListenerKind::Real(tokio::net::TcpListener::bind(address).await?))),
            Kind::Simulated => {
                let listener = turmoil::net::TcpListener::bind(("0.0.0.0", port(address)?)).await?;
                Ok(Listener(ListenerKind::Simulated(listener)))
            }
        }
    }

    /// Connects to `address`, a `host:port`.
    #[allow(clippy::disallowed_methods, reason = "the one place that opens sockets")]
    pub async fn connect(&self, address: &str) -> io::Result<Stream> {
        match self.0 {
            Kind::Real => {
                let stream = tokio::net::TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream(StreamKind::Real(stream)))
            }
            Kind::Simulated => Ok(Stream(StreamKind::Simulated(turmoil::net::TcpStream::connect(address).await?))),
        }
    }

    /// A gRPC channel to `endpoint` that connects on first use and again after a failure.
    pub fn channel(&self, endpoint: Endpoint) -> Channel {
        self.channel_within(endpoint, CONNECT_LIMIT)
    }

    /// The same, with `limit` for each attempt to connect. A call that fails because of it has [`NotConnected`] among
    /// its causes.
    pub fn channel_within(&self, endpoint: Endpoint, limit: Duration) -> Channel {
        let network = *self;
        endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| async move {
            let connecting = async {
                let host = uri.host().ok_or_else(|| io::Error::other(format!("{uri} names no host")))?;
                network.connect(&format!("{host}:{}", uri.port_u16().unwrap_or(80))).await
            };
            let connected = tokio::time::timeout(limit, connecting).await.unwrap_or(Err(ErrorKind::TimedOut.into()));
            connected.map(TokioIo::new).map_err(|source| NotConnected { uri: uri.to_string(), source })
        }))
    }
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

/// A listening socket.
pub struct Listener(ListenerKind);

enum ListenerKind {
    Real(tokio::net::TcpListener),
    Simulated(turmoil::net::TcpListener),
}

impl Listener {
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match &self.0 {
            ListenerKind::Real(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream(StreamKind::Real(stream)), peer))
            }
            ListenerKind::Simulated(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream(StreamKind::Simulated(stream)), peer))
            }
        }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            ListenerKind::Real(listener) => listener.local_addr(),
            ListenerKind::Simulated(listener) => listener.local_addr(),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Stream(StreamKind);

#[derive(Debug)]
enum StreamKind {
    Real(tokio::net::TcpStream),
    Simulated(turmoil::net::TcpStream),
}

impl Stream {
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            StreamKind::Real(stream) => stream.peer_addr(),
            StreamKind::Simulated(stream) => stream.peer_addr(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            StreamKind::Real(stream) => Pin::new(stream).poll_read(cx, buf),
            StreamKind::Simulated(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            StreamKind::Real(stream) => Pin::new(stream).poll_write(cx, buf),
            StreamKind::Simulated(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            StreamKind::Real(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            StreamKind::Simulated(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            StreamKind::Real(stream) => stream.is_write_vectored(),
            StreamKind::Simulated(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            StreamKind::Real(stream) => Pin::new(stream).poll_flush(cx),
            StreamKind::Simulated(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            StreamKind::Real(stream) => Pin::new(stream).poll_shutdown(cx),
            StreamKind::Simulated(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Connected for Stream {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: self.peer_addr().ok() }
    }
}
