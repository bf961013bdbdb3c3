//! gRPC's framing of messages: a prefix of five bytes, then the message.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

/// A flag that says whether the message is compressed, and its length in four bytes.
pub(super) const PREFIX_BYTES: usize = 5;

/// The prefix of an uncompressed message of so many bytes.
pub(super) fn prefix(length: u32) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d] = length.to_be_bytes();
    [0, a, b, c, d]
}

/// The length of the message that follows `prefix`.
pub(super) fn length_of(prefix: &[u8; PREFIX_BYTES]) -> usize {
    let [_, length @ ..] = *prefix;
    u32::from_be_bytes(length) as usize
}

/// `message` with its prefix.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + length);
    framed.put_slice(&prefix(u32::try_from(length).expect("requests and answers have less than 4 GiB")));
    message.encode_raw(&mut framed);
    framed.freeze()
}
