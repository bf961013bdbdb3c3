//! Closes the connections of clients that ping too often, as etcd does: `GOAWAY` with `too_many_pings`.
//!
//! hyper answers pings without a callback, so this reads the frames as they pass: pings that come in, and the streams
//! that open and end, which decide how often a client may ping. It reads only the nine bytes at the head of a frame.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::world::net::Opened;
use crate::world::{Clock, Instant, Stream};

/// How often a client may ping while no call is under way.
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);
/// How many pings too early are allowed.
const STRIKES_MAX: u32 = 2;
/// What a client sends first, before any frame.
const PREFACE_BYTES: usize = 24;
/// How it begins, unlike any request of HTTP/1.1.
const HTTP2: &[u8] = b"PRI * HTTP/2";
const HEAD_BYTES: usize = 9;
/// GOAWAY of 22 bytes on stream 0: the last stream is the highest there is, ENHANCE_YOUR_CALM, and why.
const GO_AWAY: &[u8] = b"\x00\x00\x16\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x0btoo_many_pings";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
/// A flag: on DATA and HEADERS, the last frame of the stream; on PING, an answer.
const END_STREAM_OR_ACK: u8 = 1;

/// One head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Finds the heads of frames in bytes as they pass.
#[derive(Debug)]
struct Frames {
    /// Bytes that belong to no head.
    skip: usize,
    head: [u8; HEAD_BYTES],
    filled: usize,
}

impl Frames {
    fn after(skip: usize) -> Frames {
        Frames { skip, head: [0; HEAD_BYTES], filled: 0 }
    }

    /// Whether all frames so far are whole.
    fn is_between(&self) -> bool {
        self.skip == 0 && self.filled == 0
    }

    fn pass(&mut self, mut bytes: &[u8], mut found: impl FnMut(Head)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(HEAD_BYTES - self.filled);
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD_BYTES {
                let [a, b, c, kind, flags, s0, s1, s2, s3] = self.head;
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                self.filled = 0;
                found(Head { kind, flags, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]) });
            }
        }
    }
}

/// The rule, and how often it was broken.
#[derive(Debug)]
struct Strikes {
    interval_min: Duration,
    last: Option<Instant>,
    count: u32,
    /// Since the last ping something was sent, so that a ping is as good as any other.
    sent: bool,
    open: BTreeSet<u32>,
}

impl Strikes {
    fn received(&mut self, head: Head, clock: &Clock) {
        match head.kind {
            HEADERS => _ = self.open.insert(head.stream),
            RST_STREAM => _ = self.open.remove(&head.stream),
            PING if head.flags & END_STREAM_OR_ACK == 0 => self.pinged(clock.now()),
            _ => (),
        }
    }

    fn pinged(&mut self, now: Instant) {
        let before = self.last.replace(now);
        if std::mem::take(&mut self.sent) {
            self.count = 0;
            return;
        }
        let interval = if self.open.is_empty() { IDLE_PING_INTERVAL } else { self.interval_min };
        if before.is_some_and(|before| before + interval > now) {
            self.count += 1;
        }
    }

    fn sent(&mut self, head: Head) {
        match head.kind {
            DATA | HEADERS => {
                self.sent = true;
                if head.flags & END_STREAM_OR_ACK != 0 {
                    self.open.remove(&head.stream);
                }
            }
            RST_STREAM => _ = self.open.remove(&head.stream),
            _ => (),
        }
    }
}

/// A connection that ends when its client speaks HTTP/2 and pings too often.
pub(super) struct Guarded {
    stream: Opened<Stream>,
    speaks: Speaks,
    clock: Clock,
    incoming: Frames,
    outgoing: Frames,
    strikes: Strikes,
    /// The rest of the GOAWAY that is still to be sent, once the connection has to end.
    farewell: Option<&'static [u8]>,
}

/// The protocol of a client, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    /// Not known yet: so many bytes agree with HTTP/2.
    Unknown(usize),
    Http2,
    /// Anything else, or a connection without a limit on pings.
    Other,
}

impl Speaks {
    fn hear(self, bytes: &[u8]) -> Speaks {
        let Speaks::Unknown(seen) = self else { return self };
        let expected = &HTTP2[seen..];
        let compared = bytes.len().min(expected.len());
        match bytes[..compared] == expected[..compared] {
            false => Speaks::Other,
            true if compared == expected.len() => Speaks::Http2,
            true => Speaks::Unknown(seen + compared),
        }
    }
}

impl Guarded {
    /// `interval_min` is how often a client may ping while calls are under way; zero is as often as it likes.
    pub fn new(stream: Opened<Stream>, clock: Clock, interval_min: Duration) -> Guarded {
        let speaks = if interval_min.is_zero() { Speaks::Other } else { Speaks::Unknown(0) };
        let strikes = Strikes { interval_min, last: None, count: 0, sent: false, open: BTreeSet::new() };
        let (incoming, outgoing) = (Frames::after(PREFACE_BYTES), Frames::after(0));
        Guarded { stream, speaks, clock, incoming, outgoing, strikes, farewell: None }
    }

    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.farewell.filter(|rest| !rest.is_empty()) {
            // In the middle of a frame there is no room for a farewell.
            if !self.outgoing.is_between() {
                break;
            }
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            self.farewell = Some(&rest[sent..]);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.farewell.is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            this.speaks = this.speaks.hear(read);
            if this.speaks == Speaks::Other {
                return Poll::Ready(Ok(()));
            }
            let (strikes, clock) = (&mut this.strikes, &this.clock);
            this.incoming.pass(read, |head| strikes.received(head, clock));
            if this.strikes.count <= STRIKES_MAX {
                return Poll::Ready(Ok(()));
            }
            tracing::warn!("closing the connection of a client that pings too often");
            buf.set_filled(before);
            this.farewell = Some(GO_AWAY);
        }
        // After it, nothing of the client is read any more.
        this.poll_farewell(cx)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.farewell.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        if this.speaks == Speaks::Http2 {
            let strikes = &mut this.strikes;
            this.outgoing.pass(&bytes[..written], |head| strikes.sent(head));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.farewell.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, parts))?;
        if this.speaks != Speaks::Http2 {
            return Poll::Ready(Ok(written));
        }
        let (strikes, mut left) = (&mut this.strikes, written);
        for part in parts {
            let passed = left.min(part.len());
            this.outgoing.pass(&part[..passed], |head| strikes.sent(head));
            left -= passed;
        }
        Poll::Ready(Ok(written))
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
    use super::*;

    fn head(kind: u8, flags: u8, stream: u32) -> Head {
        Head { kind, flags, stream }
    }

    #[test]
    fn heads_are_found_however_the_bytes_are_cut() {
        let mut bytes = vec![b'x'; PREFACE_BYTES];
        bytes.extend([0, 0, 2, DATA, 1, 0, 0, 0, 5, 9, 9]);
        bytes.extend([0, 0, 0, PING, 0, 0, 0, 0, 0]);
        for size in 1..bytes.len() {
            let (mut frames, mut found) = (Frames::after(PREFACE_BYTES), Vec::new());
            bytes.chunks(size).for_each(|part| frames.pass(part, |head| found.push(head)));
            assert_eq!(found, [head(DATA, 1, 5), head(PING, 0, 0)]);
            assert!(frames.is_between());
        }
    }

    #[test]
    fn only_http2_is_looked_at() {
        let hear = |parts: &[&[u8]]| parts.iter().fold(Speaks::Unknown(0), |speaks, part| speaks.hear(part));
        assert_eq!(hear(&[b"PRI * HTTP/2.0\r\n\r\nSM"]), Speaks::Http2);
        assert_eq!(hear(&[b"P", b"RI * HTT", b"P/2.0"]), Speaks::Http2);
        assert_eq!(hear(&[b"P", b"UT / HTTP/1.1\r\n"]), Speaks::Other);
        assert_eq!(hear(&[b"GET / HTTP/1.1"]), Speaks::Other);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_too_early_are_counted() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let interval_min = Duration::from_secs(5);
        let fresh = || Strikes { interval_min, last: None, count: 0, sent: false, open: BTreeSet::new() };

        let mut idle = fresh();
        (0..4).for_each(|n| idle.pinged(at(n * 10)));
        assert_eq!(idle.count, 3, "no call is under way");

        let (mut busy, clock) = (fresh(), Clock::real());
        busy.received(head(HEADERS, 0, 1), &clock);
        (0..4).for_each(|n| busy.pinged(at(n * 5)));
        assert_eq!(busy.count, 0, "as often as is allowed");
        busy.pinged(at(16));
        busy.received(head(PING, END_STREAM_OR_ACK, 0), &clock);
        assert_eq!(busy.count, 1, "an answer is no ping");
        busy.sent(head(DATA, 0, 1));
        busy.pinged(at(17));
        assert_eq!(busy.count, 0, "something was sent in between");
        busy.sent(head(HEADERS, END_STREAM_OR_ACK, 1));
        assert!(busy.open.is_empty());
    }
}
