//! What peers say to each other, as bytes: a length, a bincode head, and a body that is passed through untouched.

use std::io;

use bytes::{Buf, BufMut, Bytes};
use openraft::raft::AppendEntriesRequest;
use openraft::type_config::alias::SnapshotMetaOf;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::encoding::{decode, encode, malformed, parse, record};
use super::types::{Entry, LogId, Types, Vote};

/// One gRPC message.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Carries the cluster ID in hexadecimal.
pub(super) const CLUSTER_HEADER: &str = "chorus-cluster";
/// Carries the ID of the member that is called, in hexadecimal: an address may have been reused.
pub(super) const TARGET_HEADER: &str = "chorus-target";
/// Carries the ID of the member that calls, in hexadecimal.
pub(super) const CALLER_HEADER: &str = "chorus-caller";
/// Carries [`PROTOCOL`].
pub(super) const PROTOCOL_HEADER: &str = "chorus-protocol";
/// The version of this file's messages.
pub(super) const PROTOCOL: &str = "3";

/// What the paths of all calls begin with.
pub(super) const SERVICE: &str = "/chorus.raft.Peer/";
pub(super) const APPEND: &str = "/chorus.raft.Peer/Append";
pub(super) const HEARTBEAT: &str = "/chorus.raft.Peer/Heartbeat";
pub(super) const VOTE: &str = "/chorus.raft.Peer/Vote";
pub(super) const PRE_VOTE: &str = "/chorus.raft.Peer/PreVote";
pub(super) const SNAPSHOT: &str = "/chorus.raft.Peer/Snapshot";
pub(super) const TRANSFER_LEADER: &str = "/chorus.raft.Peer/TransferLeader";
pub(super) const FORWARD: &str = "/chorus.raft.Peer/Forward";
pub(super) const READ_INDEX: &str = "/chorus.raft.Peer/ReadIndex";
pub(super) const CHANGE: &str = "/chorus.raft.Peer/Change";
pub(super) const ASK: &str = "/chorus.raft.Peer/Ask";
pub(super) const HELLO: &str = "/chorus.raft.Peer/Hello";

/// A message on its way out.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerMessage {
    head: Bytes,
    body: Vec<Bytes>,
}

impl PeerMessage {
    pub fn new<T: Serialize>(head: &T) -> PeerMessage {
        PeerMessage { head: record(head), body: Vec::new() }
    }

    pub fn with_body<T: Serialize>(head: &T, body: Vec<Bytes>) -> PeerMessage {
        PeerMessage { head: record(head), body }
    }

    pub fn bytes(&self) -> u64 {
        (self.head.len() + self.body.iter().map(Bytes::len).sum::<usize>()) as u64
    }

    fn write(&self, out: &mut impl BufMut) {
        out.put_u32_le(u32::try_from(self.head.len()).expect("heads are far smaller than 4 GiB"));
        out.put_slice(&self.head);
        self.body.iter().for_each(|part| out.put_slice(part));
    }
}

/// The head of a received message, and its body.
pub(super) fn open<T: DeserializeOwned>(mut message: Bytes) -> io::Result<(T, Bytes)> {
    if message.len() < 4 {
        return Err(malformed("message: no head"));
    }
    let length = message.get_u32_le() as usize;
    if message.len() < length {
        return Err(malformed("message: cut inside the head"));
    }
    let head = message.split_to(length);
    Ok((parse(&head)?, message))
}

#[derive(Serialize, Deserialize)]
struct AppendHead {
    vote: Vote,
    previous: Option<LogId>,
    committed: Option<LogId>,
    /// With the bytes of each payload.
    entries: Vec<(LogId, u32)>,
}

pub(super) fn append_message(request: &AppendEntriesRequest<Types>) -> PeerMessage {
    let body: Vec<Bytes> = request.entries.iter().map(|entry| encode(&entry.payload)).collect();
    let sizes = body.iter().map(|payload| u32::try_from(payload.len()).expect("an entry is smaller than 4 GiB"));
    let head = AppendHead {
        vote: request.vote,
        previous: request.prev_log_id,
        committed: request.leader_commit,
        entries: request.entries.iter().map(|entry| entry.log_id).zip(sizes).collect(),
    };
    PeerMessage::with_body(&head, body)
}

pub(super) fn open_append(message: Bytes) -> io::Result<AppendEntriesRequest<Types>> {
    let (head, mut body) = open::<AppendHead>(message)?;
    let mut entries = Vec::with_capacity(head.entries.len());
    for (log_id, size) in head.entries {
        if body.len() < size as usize {
            return Err(malformed("append: cut inside an entry"));
        }
        entries.push(Entry { log_id, payload: decode(body.split_to(size as usize))? });
    }
    let (vote, prev_log_id, leader_commit) = (head.vote, head.previous, head.committed);
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

/// What became of a forwarded batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Forwarded {
    Committed,
    /// Did not happen.
    NotLeader,
    /// Did not happen.
    Busy,
    /// Did not happen: a command of the batch cannot be applied.
    Malformed,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ReadIndex {
    /// What was committed before the call stands at this index or below.
    At(u64),
    NotLeader,
}

/// What a member answers to a hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub leader: Option<u64>,
    pub last: Option<LogId>,
    /// The caller is known to have run before.
    pub you_started: bool,
    /// The caller was removed from the cluster, for good.
    pub you_removed: bool,
    /// The version of its software.
    pub version: String,
    /// What the membership should record of the member that answers; `None` until it takes part.
    pub introduction: Option<Introduction>,
    /// The member that answers is short of disk space.
    pub short: bool,
}

/// What the membership records of a member that has started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Introduction {
    pub name: String,
    pub client_urls: Vec<String>,
}

/// The first message of a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub vote: Vote,
    pub meta: SnapshotMetaOf<Types>,
    /// Name and length of each file, in the order in which they follow.
    pub files: Vec<(String, u64)>,
}

/// The head of a piece of a file; the body is the piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub file: u32,
    pub offset: u64,
    pub crc32c: u32,
}

/// gRPC framing without a schema.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Untouched;

impl Codec for Untouched {
    type Encode = PeerMessage;
    type Decode = Bytes;
    type Encoder = Untouched;
    type Decoder = Untouched;

    fn encoder(&mut self) -> Untouched {
        Untouched
    }

    fn decoder(&mut self) -> Untouched {
        Untouched
    }
}

impl Encoder for Untouched {
    type Item = PeerMessage;
    type Error = Status;

    fn encode(&mut self, frame: PeerMessage, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        frame.write(out);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(64 * 1024, 256 * 1024)
    }
}

impl Decoder for Untouched {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::raft::encoding::pack;
    use crate::raft::machine::Position;
    use crate::raft::types::{Payload, log_id};

    fn sent(frame: &PeerMessage) -> Bytes {
        let mut out = BytesMut::new();
        frame.write(&mut out);
        out.freeze()
    }

    #[test]
    fn an_append_request_comes_back_as_it_went() {
        let at = |index| log_id(Position { term: 2, index });
        let batch = pack([Bytes::from_static(b"one"), Bytes::from_static(b"two")].iter());
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(2, 7),
            prev_log_id: Some(at(1)),
            entries: vec![
                Entry { log_id: at(2), payload: Payload::Blank },
                Entry { log_id: at(3), payload: Payload::Normal(batch) },
            ],
            leader_commit: Some(at(1)),
        };
        let back = open_append(sent(&append_message(&request))).unwrap();
        assert_eq!((back.vote, back.prev_log_id, back.leader_commit), (request.vote, Some(at(1)), Some(at(1))));
        assert_eq!(back.entries, request.entries);
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(bytes: Vec<u8>) {
            let _ = open_append(Bytes::from(bytes.clone()));
            let _ = open::<Manifest>(Bytes::from(bytes));
        }
    }
}
