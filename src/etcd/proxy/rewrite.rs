//! Bodies of gRPC calls with changed messages.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Frame};
use tonic::Status;

use crate::etcd::frame::{PREFIX_BYTES, length_of, prefix};

/// Changes one message.
pub(super) type Change = Box<dyn Fn(Bytes) -> Result<Vec<u8>, Status> + Send>;

/// A body with another one's messages, changed.
pub(super) struct Rewritten<B> {
    inner: B,
    change: Change,
    /// The beginning of a message that is not whole yet.
    pending: BytesMut,
    message_bytes_max: usize,
}

impl<B> Rewritten<B> {
    pub fn new(inner: B, message_bytes_max: usize, change: Change) -> Rewritten<B> {
        Rewritten { inner, change, pending: BytesMut::new(), message_bytes_max }
    }

    /// All whole messages that came, changed and framed.
    fn take_whole(&mut self) -> Result<Bytes, Status> {
        let mut framed = BytesMut::new();
        while let Some((head, held)) = self.pending.split_first_chunk::<PREFIX_BYTES>() {
            let (compressed, length, held) = (head[0] != 0, length_of(head), held.len());
            if compressed {
                return Err(Status::unimplemented("grpc: the proxy does not read compressed messages"));
            }
            if length > self.message_bytes_max {
                return Err(crate::etcd::status::message_too_large(length, self.message_bytes_max));
            }
            if held < length {
                break;
            }
            self.pending.advance(PREFIX_BYTES);
            let changed = (self.change)(self.pending.split_to(length).freeze())?;
            let length = u32::try_from(changed.len()).map_err(|_| Status::internal("a message is too long"))?;
            framed.put_slice(&prefix(length));
            framed.put_slice(&changed);
        }
        Ok(framed.freeze())
    }
}

impl<B> HttpBody for Rewritten<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(Status::unavailable(error.to_string())))),
                None => return Poll::Ready(None),
            };
            match frame.into_data() {
                Ok(data) => self.pending.put(data),
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
            match self.take_whole() {
                Ok(framed) if framed.is_empty() => continue,
                Ok(framed) => return Poll::Ready(Some(Ok(Frame::data(framed)))),
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
        bytes
    }

    #[tokio::test]
    async fn messages_are_changed_however_they_are_cut() {
        let whole = [framed(b"one"), framed(b""), framed(b"three")].concat();
        for size in [1, 3, 7, whole.len()] {
            let pieces = whole.chunks(size).map(|piece| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(piece))));
            let pieces: Vec<_> = pieces.collect();
            let change: Change = Box::new(|message| Ok([b"<", &message[..], b">"].concat()));
            let body = Rewritten::new(StreamBody::new(stream::iter(pieces)), 100, change);
            let changed = body.collect().await.unwrap().to_bytes();
            assert_eq!(changed, [framed(b"<one>"), framed(b"<>"), framed(b"<three>")].concat());
        }
    }

    #[tokio::test]
    async fn a_long_message_is_refused_before_it_came() {
        let body =
            Rewritten::new(http_body_util::Full::new(Bytes::from(framed(&[7; 101]))), 100, Box::new(|m| Ok(m.into())));
        let refused = body.collect().await.unwrap_err();
        assert_eq!(refused.message(), "grpc: received message larger than max (101 vs. 100)");
    }
}
