//! Listening sockets.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Connections;
use super::stream::{NO_ADDRESS, Stream};
use crate::world::{Clock, Instant};

/// How long to wait after a failed accept, for file descriptors to become free.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// How often failures and refusals are logged.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// A listening socket.
pub struct Listener {
    kind: Kind,
    connections: Connections,
    refusal: Refusal,
    /// When something that went wrong was told last.
    told: Mutex<Option<Instant>>,
}

/// What a client hears when there are too many connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// 503, which clients of HTTP/2 tell from a server's preface as well.
    #[default]
    Http,
    /// An alert instead of a handshake.
    Tls,
    /// Its connection is closed: what it speaks is unknown.
    Silent,
}

impl Refusal {
    fn words(self) -> &'static [u8] {
        match self {
            Refusal::Http => {
                b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
                  Content-Length: 21\r\nRetry-After: 1\r\nConnection: close\r\n\r\ntoo many connections\n"
            }
            // A record of an alert: fatal, internal error.
            Refusal::Tls => &[21, 3, 3, 0, 2, 2, 80],
            Refusal::Silent => &[],
        }
    }
}

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
    pub(super) async fn tcp(address: &str, connections: Connections) -> io::Result<Listener> {
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
        Ok(Listener::new(Kind::Real(listener), connections))
    }

    fn new(kind: Kind, connections: Connections) -> Listener {
        Listener { kind, connections, refusal: Refusal::default(), told: Mutex::default() }
    }

    /// The same, with another answer to clients for whom there is no room.
    pub fn refusing_by(self, refusal: Refusal) -> Listener {
        Listener { refusal, ..self }
    }

    /// A file left over from a former listener of this name is replaced.
    #[allow(clippy::disallowed_methods, reason = "the one place that opens sockets")]
    pub(super) fn unix(path: &str, connections: Connections) -> io::Result<Listener> {
        let path = PathBuf::from(path);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                let listener = tokio::net::UnixListener::bind(&path)?;
                Ok(Listener::new(Kind::Unix { listener, _file: SocketFile(path) }, connections))
            }
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that opens sockets")]
    pub(super) async fn simulated(port: u16, connections: Connections) -> io::Result<Listener> {
        let listener = turmoil::net::TcpListener::bind(("0.0.0.0", port)).await?;
        Ok(Listener::new(Kind::Simulated(listener), connections))
    }

    /// The next connection for which there is room, and where it comes from: unspecified for a Unix socket. Others are
    /// refused. A failure is logged and waited out: neither a lack of file descriptors nor a client that left at once is
    /// a reason to end.
    pub async fn next(&self, clock: &Clock) -> (Stream, SocketAddr) {
        loop {
            match self.accept().await {
                Ok((stream, peer)) => match self.connections.enter() {
                    Some(guest) => return (stream.of(guest), peer),
                    None => {
                        self.tell(clock, "a connection was refused: there are too many", &peer);
                        stream.close_with(self.refusal.words());
                    }
                },
                Err(error) => {
                    self.tell(clock, "a connection could not be accepted", &error);
                    clock.sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn tell(&self, clock: &Clock, what: &str, cause: &dyn std::fmt::Display) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told + TOLD_EVERY <= clock.now()) {
            *told = Some(clock.now());
            tracing::warn!(%cause, connections = self.connections.open(), "{what}");
        }
    }

    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match &self.kind {
            Kind::Real(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                probe_when_silent(&stream)?;
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
        match &self.kind {
            Kind::Real(listener) => listener.local_addr(),
            Kind::Unix { .. } => Err(io::ErrorKind::AddrNotAvailable.into()),
            Kind::Simulated(listener) => listener.local_addr(),
        }
    }
}

/// Lets the kernel find out about clients that have gone without a word, whatever is spoken on the connection.
fn probe_when_silent(stream: &tokio::net::TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    const SILENT: Duration = Duration::from_secs(30);
    const BETWEEN: Duration = Duration::from_secs(10);
    const PROBES: u32 = 3;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENT)?;
    sockopt::set_tcp_keepintvl(stream, BETWEEN)?;
    Ok(sockopt::set_tcp_keepcnt(stream, PROBES)?)
}
