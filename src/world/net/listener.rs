//! Listening sockets.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::stream::{NO_ADDRESS, Stream};
use crate::world::Clock;

/// How long to wait after a failed accept, for file descriptors to become free.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// A listening socket.
pub struct Listener(Kind);

enum Kind {
    Real(tokio::net::TcpListener),
    Unix { listener: tokio::net::UnixListener, _file: SocketFile },
    Simulated(turmoil::net::TcpListener),
}

/// Removed with its listener.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    #[allow(clippy::disallowed_methods, reason = "a socket's name belongs to the network, not to the disk")]
    fn drop(&mut self) {
        // Nobody is left to be told; the next listener removes it, too.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// The first of several addresses counts, those of IPv4 before those of IPv6, as etcd has it; an empty host is all
    /// of both.
    #[allow(clippy::disallowed_methods, reason = "the one place that opens sockets")]
    pub(super) async fn tcp(address: &str) -> io::Result<Listener> {
        let listener = match address.strip_prefix(':') {
            Some(port) => match tokio::net::TcpListener::bind(format!("[::]:{port}")).await {
                Ok(listener) => listener,
                Err(_) => tokio::net::TcpListener::bind(format!("0.0.0.0:{port}")).await?,
            },
            None => {
                let mut found: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
                found.sort_by_key(SocketAddr::is_ipv6);
                let first = found.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
                tokio::net::TcpListener::bind(first).await?
            }
        };
        Ok(Listener(Kind::Real(listener)))
    }

    /// A file left over from a former listener of this name is replaced.
    #[allow(clippy::disallowed_methods, reason = "the one place that opens sockets")]
    pub(super) fn unix(path: &str) -> io::Result<Listener> {
        let path = PathBuf::from(path);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Listener(Kind::Unix { listener: tokio::net::UnixListener::bind(&path)?, _file: SocketFile(path) })),
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that opens sockets")]
    pub(super) async fn simulated(port: u16) -> io::Result<Listener> {
        Ok(Listener(Kind::Simulated(turmoil::net::TcpListener::bind(("0.0.0.0", port)).await?)))
    }

    /// The next connection, and where it comes from: unspecified for a Unix socket. A failure is told and waited out: out
    /// of file descriptors, or a client that left at once, neither is a reason to end.
    pub async fn next(&self, clock: &Clock) -> (Stream, SocketAddr) {
        loop {
            match self.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    clock.sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match &self.0 {
            Kind::Real(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::real(stream), peer))
            }
            Kind::Unix { listener, .. } => Ok((Stream::unix(listener.accept().await?.0), NO_ADDRESS)),
            Kind::Simulated(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::simulated(stream), peer))
            }
        }
    }

    /// An error for a Unix socket, which has none.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Kind::Real(listener) => listener.local_addr(),
            Kind::Unix { .. } => Err(io::ErrorKind::AddrNotAvailable.into()),
            Kind::Simulated(listener) => listener.local_addr(),
        }
    }
}
