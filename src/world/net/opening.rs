//! What a client speaks, by its first bytes: HTTP/1.1, or HTTP/2 with its preface and its first frame.
//!
//! A connection is looked at before it is served, so that one that says nothing, or stops within its first words, is
//! let go after a while.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::Guest;
use crate::world::Clock;

/// A client that has not said what it speaks after this time is let go.
pub const OPENING_LIMIT: Duration = Duration::from_secs(10);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The head of the settings that follow it.
const HEAD_BYTES: usize = 9;
const OPENING_BYTES: usize = PREFACE.len() + HEAD_BYTES;

/// A connection whose client has said what it speaks. Its first bytes are read again by whoever reads.
#[derive(Debug)]
pub struct Opened<S> {
    stream: S,
    first: [u8; OPENING_BYTES],
    /// Of the first bytes, those that are yet to be read again.
    unread: std::ops::Range<usize>,
}

impl<S: AsyncRead + Unpin> Opened<S> {
    /// Waits until the client of `stream` has said what it speaks. `None`: it has not, or is gone.
    pub async fn wait(clock: &Clock, stream: S, guest: &Guest) -> Option<Opened<S>> {
        match clock.timeout(OPENING_LIMIT, Opened::read(stream)).await {
            Ok(opened) => opened.ok(),
            Err(_) => {
                tracing::debug!("a connection is closed: it did not say what it speaks");
                guest.abandon();
                None
            }
        }
    }

    async fn read(mut stream: S) -> io::Result<Opened<S>> {
        let (mut first, mut filled) = ([0; OPENING_BYTES], 0);
        loop {
            match stream.read(&mut first[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
            let said = filled.min(PREFACE.len());
            if first[..said] != PREFACE[..said] || filled == OPENING_BYTES {
                return Ok(Opened { stream, first, unread: 0..filled });
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opened<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unread.is_empty() || buf.remaining() == 0 {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let taken = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.first[this.unread.start..][..taken]);
        this.unread.start += taken;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opened<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::world::net::Connections;

    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

    #[tokio::test(start_paused = true)]
    async fn what_was_read_to_tell_is_read_again() {
        let http2 = [PREFACE, SETTINGS, b"more"].concat();
        for said in [&http2[..], b"GET / HTTP/1.1\r\n\r\n", b"PRI * nothing known"] {
            let (mut client, server) = tokio::io::duplex(64);
            let (mut opened, ()) = tokio::join!(
                async { Opened::wait(&Clock::simulated(), server, &Guest::default()).await.unwrap() },
                async {
                    for byte in said {
                        client.write_all(&[*byte]).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                }
            );
            drop(client);
            let mut read = Vec::new();
            opened.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, said);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_within_the_first_words_is_let_go() {
        let http2 = [PREFACE, SETTINGS].concat();
        for said in 0..http2.len() {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(&http2[..said]).await.unwrap();
            let connections = Connections::at_most(1);
            let guest = connections.enter().unwrap();
            assert!(Opened::wait(&Clock::simulated(), server, &guest).await.is_none(), "{said}");
            assert_eq!(connections.abandoned(), 1);
        }
    }
}
