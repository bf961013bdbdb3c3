//! What the replica needs of the state that it replicates. The store implements it; nothing here knows etcd.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;

pub use crate::disk::{Position, Space};

/// A committed entry, in log order.
#[derive(Clone, Debug)]
pub struct Committed {
    pub at: Position,
    pub payload: Payload,
}

#[derive(Clone, Debug)]
pub enum Payload {
    /// A new leader's first entry.
    Blank,
    /// Commands that were proposed together, in order. Each is one marshalled `InternalRaftRequest`; the store alone
    /// looks inside.
    Batch(Vec<Bytes>),
    /// The cluster's membership from here on, encoded by the raft room; the store keeps it beside the position.
    Membership(Bytes),
}

/// What an installed or reopened state already holds.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    pub at: Option<Position>,
    /// The last membership and the position of its entry, as given by [`Payload::Membership`].
    pub membership: Option<(Position, Bytes)>,
}

/// Returns why no state machine could apply the command, whatever its state. Pure.
pub type Validate = fn(&Bytes) -> Result<(), String>;

/// A state machine. Calls come from one task, in log order.
pub trait Machine: Send + 'static {
    /// The leader checks with it every command that another member sends, before the command enters a log.
    fn validate(&self) -> Validate;

    /// What the state holds after it was opened.
    fn applied(&self) -> Applied;

    /// Applies committed entries: a pure function of the state and the entries. A command that cannot be applied
    /// changes nothing, on every member alike. It also answers the proposals of this member that wait for these
    /// entries. Errors are fatal to the node, except for a [full disk](crate::disk::space::is_full): then the machine
    /// keeps what it could not write, no reader has seen any of it, and [`resume`](Machine::resume) is the next call
    /// that changes the state.
    fn apply(&mut self, entries: Vec<Committed>) -> io::Result<()>;

    /// Writes again what the disk had no space for. Its errors are those of `apply`.
    fn resume(&mut self) -> io::Result<()>;

    /// Whether the state has disk space to grow.
    fn space(&self) -> Space;

    /// The position up to which the state is durable on disk: the log may be purged up to here.
    fn durable(&self) -> Option<Position>;

    /// A consistent copy of the state for a lagging peer. Nothing is applied until it returns, so slow work belongs
    /// into [`Snapshot::prepare`].
    fn snapshot(&mut self) -> io::Result<Snapshot>;

    /// A fresh directory for the files of an incoming snapshot, which keep the sender's names.
    fn incoming(&mut self) -> io::Result<PathBuf>;

    /// Replaces the state by the files in `directory`; durable when it returns. When the disk is full, nothing changes.
    fn install(&mut self, directory: PathBuf) -> io::Result<Applied>;
}

/// A copy of the state as it was when this was made.
pub struct Snapshot {
    pub applied: Applied,
    pub prepare: Prepare,
}

/// Makes the files of a snapshot. Blocks, while the machine goes on. When the disk is full, it leaves no files behind.
pub type Prepare = Box<dyn FnOnce() -> io::Result<SnapshotFiles> + Send + Sync>;

/// Files that do not change any more. Dropping `keep` releases them.
pub struct SnapshotFiles {
    pub paths: Vec<PathBuf>,
    pub keep: Box<dyn Send + Sync>,
}
