//! The small files beside a database, `%016x-%016x.snap`: term and index up to which the log was in it, who votes, and
//! in etcd before 3.6 also the members.

use std::path::Path;

use bytes::Bytes;
use crc32c::crc32c;
use prost::Message;

use super::record::ConfState;
use crate::disk::Error;
use crate::world::Disk;

/// `snappb.snapshot`.
#[derive(Clone, PartialEq, Eq, Message)]
struct Envelope {
    #[prost(uint32, required, tag = "1")]
    crc: u32,
    #[prost(bytes = "bytes", optional, tag = "2")]
    data: Option<Bytes>,
}

/// `raftpb.SnapshotMetadata`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SnapMetadata {
    #[prost(message, optional, tag = "1")]
    pub conf_state: Option<ConfState>,
    #[prost(uint64, required, tag = "2")]
    pub index: u64,
    #[prost(uint64, required, tag = "3")]
    pub term: u64,
}

/// `raftpb.Snapshot`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Snap {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub data: Option<Bytes>,
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<SnapMetadata>,
}

/// The newest sound one in `directory`. As in etcd, the one before takes the place of a damaged one.
pub fn newest(disk: &Disk, directory: &Path) -> Result<Option<Snap>, Error> {
    let names = if disk.exists(directory) { disk.list(directory)? } else { Vec::new() };
    for name in names.iter().rev().filter(|name| name.ends_with(".snap")) {
        let path = directory.join(name);
        match decode(disk.read(&path)?.into()) {
            Ok(snap) => return Ok(Some(snap)),
            Err(reason) => tracing::warn!(file = %path.display(), reason, "a snapshot file is damaged"),
        }
    }
    Ok(None)
}

/// The content of a file.
pub fn decode(bytes: Bytes) -> Result<Snap, &'static str> {
    let envelope = Envelope::decode(bytes).map_err(|_| "it does not decode")?;
    let data = envelope.data.filter(|data| !data.is_empty()).ok_or("it is empty")?;
    if crc32c(&data) != envelope.crc {
        return Err("its checksum does not match");
    }
    Snap::decode(data).map_err(|_| "its content does not decode")
}

/// The name and the content of a file.
pub fn encode(snap: &Snap) -> (String, Vec<u8>) {
    let metadata = snap.metadata.clone().unwrap_or_default();
    let data = snap.encode_to_vec();
    let envelope = Envelope { crc: crc32c(&data), data: Some(data.into()) };
    (format!("{:016x}-{:016x}.snap", metadata.term, metadata.index), envelope.encode_to_vec())
}
