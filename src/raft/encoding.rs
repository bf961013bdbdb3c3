//! How entries and records look as bytes: in the log, between peers, and in the state machine's record of membership.
//!
//! A payload is one tag byte and what follows: nothing for a blank, a [`CommandBatch`] (which keeps its own tag, so
//! that its buffer travels untouched), or a bincode membership.

use std::io;

use bincode::Options;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::types::{CommandBatch, Membership, Payload};

const BLANK: u8 = 0;
const BATCH: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Bytes of the tag and the count of a batch.
const BATCH_HEAD: usize = 1 + 4;

/// Bytes of a bincode record: votes, memberships, peer envelopes. Commands do not count.
const RECORD_BYTES_MAX: u64 = 16 << 20;

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(RECORD_BYTES_MAX).reject_trailing_bytes()
}

/// A record as bincode.
pub(super) fn record<T: Serialize>(value: &T) -> Bytes {
    options().serialize(value).expect("records are far smaller than the limit and have no fallible parts").into()
}

/// The record that [`record`] wrote.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    options().deserialize(bytes).map_err(|error| malformed(format!("record: {error}")))
}

/// Packs commands into one entry's payload.
pub(super) fn pack<'a>(commands: impl ExactSizeIterator<Item = &'a Bytes> + Clone) -> CommandBatch {
    let count = commands.len();
    let total: usize = commands.clone().map(Bytes::len).sum();
    let mut out = BytesMut::with_capacity(BATCH_HEAD + 4 * count + total);
    out.put_u8(BATCH);
    out.put_u32_le(u32::try_from(count).expect("a batch has few commands"));
    for command in commands.clone() {
        out.put_u32_le(u32::try_from(command.len()).expect("a command's size is limited"));
    }
    commands.for_each(|command| out.extend_from_slice(command));
    CommandBatch(out.freeze())
}

/// The commands of a batch, in order; they share its buffer.
pub(super) fn unpack(batch: &CommandBatch) -> io::Result<Vec<Bytes>> {
    let mut head = batch.0.clone();
    if head.len() < BATCH_HEAD || head.get_u8() != BATCH {
        return Err(malformed("batch: no head"));
    }
    let count = head.get_u32_le() as usize;
    if head.len() / 4 < count {
        return Err(malformed("batch: cut inside the lengths"));
    }
    let mut body = head.split_off(4 * count);
    let mut commands = Vec::with_capacity(count);
    for _ in 0..count {
        let length = head.get_u32_le() as usize;
        if body.len() < length {
            return Err(malformed("batch: cut inside a command"));
        }
        commands.push(body.split_to(length));
    }
    if body.is_empty() { Ok(commands) } else { Err(malformed("batch: bytes after the last command")) }
}

/// A payload as bytes; a batch is not copied.
pub(super) fn encode(payload: &Payload) -> Bytes {
    match payload {
        Payload::Blank => Bytes::from_static(&[BLANK]),
        Payload::Normal(batch) => batch.0.clone(),
        Payload::Membership(membership) => [&[MEMBERSHIP], &record(membership)[..]].concat().into(),
    }
}

/// The payload that [`encode`] wrote; a batch shares the buffer and is not looked into.
pub(super) fn decode(bytes: Bytes) -> io::Result<Payload> {
    match bytes.first() {
        Some(&BLANK) if bytes.len() == 1 => Ok(Payload::Blank),
        Some(&BATCH) => Ok(Payload::Normal(CommandBatch(bytes))),
        Some(&MEMBERSHIP) => parse::<Membership>(&bytes[1..]).map(Payload::Membership),
        tag => Err(malformed(format!("payload: unknown tag {tag:?}"))),
    }
}

pub(super) fn malformed(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed {}", reason.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::raft::types::Peer;

    proptest! {
        #[test]
        fn a_batch_comes_back_as_it_went(commands: Vec<Vec<u8>>) {
            let commands: Vec<Bytes> = commands.into_iter().map(Bytes::from).collect();
            let batch = pack(commands.iter());
            prop_assert_eq!(unpack(&batch).unwrap(), commands);
            prop_assert_eq!(decode(encode(&Payload::Normal(batch.clone()))).unwrap(), Payload::Normal(batch));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            let _ = decode(bytes.clone());
            let _ = unpack(&CommandBatch(bytes));
        }

        #[test]
        fn a_cut_batch_is_refused(commands in prop::collection::vec(any::<Vec<u8>>(), 1..8), cut in any::<prop::sample::Index>()) {
            let commands: Vec<Bytes> = commands.into_iter().map(Bytes::from).collect();
            let batch = pack(commands.iter()).0;
            let cut = cut.index(batch.len());
            prop_assert!(unpack(&CommandBatch(batch.slice(..cut))).is_err());
        }
    }

    #[test]
    fn memberships_and_blanks_come_back() {
        let nodes = BTreeMap::from([(1, Peer { name: "n1".into(), ..Peer::default() })]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        for payload in [Payload::Blank, Payload::Membership(membership)] {
            assert_eq!(decode(encode(&payload)).unwrap(), payload);
        }
    }
}
