//! Durable bytes. Nothing here knows Raft or etcd: it keeps entries, records and checkpoints, and says when they would
//! survive a power failure.
//!
//! ```text
//!   raft ──append, vote, truncate, purge──▶ LogHandle ──▶ Log (own thread) ──one write, one sync──▶ wal segments
//!        ◀─────────── done ────────────────────────────────┘
//!   store ──frames of records──▶ Segments ──▶ data segments     ◀── read(location), from any thread
//!         ──index──▶ checkpoint                                  sync() in the background
//!   agent ──pods──▶ Notebook (sled, or its twin in memory)
//! ```
//!
//! - [`log`]: the write-ahead log and its actor
//! - [`segments`]: append-only data segments
//! - [`bbolt`]: the file format of etcd's database and snapshots
//! - [`checkpoint`]: a file that is there whole or not at all
//! - [`etcd_wal`]: the file format of etcd's Raft log
//! - [`codec`]: bincode with limits
//! - [`format`]: what a directory holds, and in which format
//! - [`notebook`]: what a node knows of its own pods
//! - [`space`]: whether there is disk space ahead
//! - [`position`]: term and index of an entry of the replicated log
//! - [`error`]: why bytes could not be read or written

pub mod bbolt;
pub mod checkpoint;
pub mod codec;
pub mod error;
pub mod etcd_wal;
pub mod format;
pub mod log;
pub mod notebook;
pub mod position;
pub mod segments;
pub mod space;

pub use error::Error;
pub use log::{Entry, LogHandle, Recovered};
pub use notebook::Notebook;
pub use position::Position;
pub use segments::{Point, RecordLocation, SegmentId, Segments};
pub use space::Space;
