//! Connections: TCP, Unix sockets, turmoil's TCP, and TLS over any of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::Guest;

/// A connection.
#[derive(Debug)]
pub struct Stream {
    /// What was read to see what the other end speaks, and is yet to be delivered.
    sniffed: Option<u8>,
    kind: Kind,
    /// Its place among the connections that others opened; goes after the socket.
    guest: Guest,
}

#[derive(Debug)]
enum Kind {
    Real(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
    Simulated(turmoil::net::TcpStream),
    Secure(Box<TlsStream<Stream>>),
}

/// The peer of a Unix socket, which has no address.
pub(super) const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Stream {
    fn new(kind: Kind) -> Stream {
        Stream { sniffed: None, kind, guest: Guest::default() }
    }

    pub(super) fn real(stream: tokio::net::TcpStream) -> Stream {
        Stream::new(Kind::Real(stream))
    }

    pub(super) fn unix(stream: tokio::net::UnixStream) -> Stream {
        Stream::new(Kind::Unix(stream))
    }

    pub(super) fn simulated(stream: turmoil::net::TcpStream) -> Stream {
        Stream::new(Kind::Simulated(stream))
    }

    /// A connection whose handshake is done.
    pub(in crate::world) fn secure(stream: TlsStream<Stream>) -> Stream {
        Stream::new(Kind::Secure(Box::new(stream)))
    }

    /// The same, with its place among those that others opened.
    pub(super) fn of(self, guest: Guest) -> Stream {
        Stream { guest, ..self }
    }

    /// Its place among the connections that others opened.
    pub fn guest(&self) -> Guest {
        match &self.kind {
            Kind::Secure(stream) => stream.get_ref().0.guest(),
            _ => self.guest.clone(),
        }
    }

    /// Says `words`, as far as they can be sent at once, and ends.
    pub(super) fn close_with(self, words: &[u8]) {
        let _ = match &self.kind {
            Kind::Real(stream) => stream.try_write(words),
            Kind::Unix(stream) => stream.try_write(words),
            Kind::Simulated(_) | Kind::Secure(_) => Ok(0),
        };
    }

    /// Unspecified for a Unix socket.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.kind {
            Kind::Real(stream) => stream.peer_addr(),
            Kind::Unix(_) => Ok(NO_ADDRESS),
            Kind::Simulated(stream) => stream.peer_addr(),
            Kind::Secure(stream) => stream.get_ref().0.peer_addr(),
        }
    }

    /// Whether the other end begins with a TLS handshake. Waits for its first byte, which is read again by whoever
    /// reads next.
    pub async fn starts_with_tls(&mut self) -> io::Result<bool> {
        let first = self.read_u8().await?;
        self.sniffed = Some(first);
        Ok(first == TLS_HANDSHAKE)
    }

    /// Whether both ends agreed on HTTP/2 in their TLS handshake.
    pub fn is_http2(&self) -> bool {
        match &self.kind {
            Kind::Secure(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            _ => false,
        }
    }
}

/// The type of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Kind::Real($stream) => $call,
            Kind::Unix($stream) => $call,
            Kind::Simulated($stream) => $call,
            Kind::Secure($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.sniffed.is_some() && buf.remaining() > 0 {
            buf.put_slice(self.sniffed.take().as_slice());
            return Poll::Ready(Ok(()));
        }
        each!(&mut self.kind, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(&mut self.kind, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(&mut self.kind, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        each!(&self.kind, stream => stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut self.kind, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut self.kind, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl Connected for Stream {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: self.peer_addr().ok() }
    }
}
