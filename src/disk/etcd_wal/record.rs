//! The messages in the records of a log. Their fields are written even where they are zero, as etcd does.

use bytes::Bytes;
use prost::{Enumeration, Message};

/// What a record's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum Kind {
    Metadata = 1,
    Entry = 2,
    State = 3,
    /// No data: the checksum goes on from the one in the record.
    Crc = 4,
    Snapshot = 5,
}

/// `walpb.Record`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Record {
    #[prost(int64, required, tag = "1")]
    pub kind: i64,
    #[prost(uint32, required, tag = "2")]
    pub crc: u32,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub data: Option<Bytes>,
}

/// `etcdserverpb.Metadata`: whose log this is.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Metadata {
    #[prost(uint64, required, tag = "1")]
    pub node: u64,
    #[prost(uint64, required, tag = "2")]
    pub cluster: u64,
}

/// What the data of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum EntryKind {
    Normal = 0,
    ConfChange = 1,
    ConfChangeV2 = 2,
}

/// `raftpb.Entry`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Entry {
    #[prost(enumeration = "EntryKind", required, tag = "1")]
    pub kind: i32,
    #[prost(uint64, required, tag = "2")]
    pub term: u64,
    #[prost(uint64, required, tag = "3")]
    pub index: u64,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub data: Option<Bytes>,
}

/// `raftpb.HardState`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HardState {
    #[prost(uint64, required, tag = "1")]
    pub term: u64,
    #[prost(uint64, required, tag = "2")]
    pub vote: u64,
    #[prost(uint64, required, tag = "3")]
    pub commit: u64,
}

/// `raftpb.ConfState`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConfState {
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    pub voters: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    pub learners: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    pub voters_outgoing: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    pub learners_next: Vec<u64>,
    #[prost(bool, required, tag = "5")]
    pub auto_leave: bool,
}

/// `walpb.Snapshot`: the log up to here is in a database.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Snapshot {
    #[prost(uint64, required, tag = "1")]
    pub index: u64,
    #[prost(uint64, required, tag = "2")]
    pub term: u64,
    #[prost(message, optional, tag = "3")]
    pub conf_state: Option<ConfState>,
}

/// What a change of the membership does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum ConfChangeKind {
    AddNode = 0,
    RemoveNode = 1,
    UpdateNode = 2,
    AddLearnerNode = 3,
}

/// `raftpb.ConfChange`: the data of an entry of that kind.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConfChange {
    #[prost(uint64, required, tag = "1")]
    pub id: u64,
    #[prost(enumeration = "ConfChangeKind", required, tag = "2")]
    pub kind: i32,
    #[prost(uint64, required, tag = "3")]
    pub node: u64,
    /// The member as JSON.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub context: Option<Bytes>,
}
