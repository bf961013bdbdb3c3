//! The log's files: one active segment that frames are appended to, sealed ones behind it, and a spare ahead.
//!
//! A segment is written over zeroes, or over what a purged one left, so that an append changes neither the file's length
//! nor its blocks and a sync need not touch the file system's journal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::chores::Chores;
use super::entry::Entry;
use super::frame::{self, Frame, Kind, SEGMENT_HEAD_BYTES, SegmentHead};
use super::mark::{Mark, Synced};
use super::segment::{self, EntryLocation, SPARE, Segment};
use crate::disk::{Error, Position};
use crate::world::disk::DirLock;
use crate::world::{Disk, Random, World};

/// A write that has gathered this much goes to the file before more is added.
const WRITE_BYTES_MAX: usize = 4 << 20;

/// Raft's hard state, and up to where entries were purged. Each segment restates it at its beginning, because earlier
/// segments may be gone.
#[derive(Clone, Debug, Default)]
pub struct HardState {
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
    pub purged: Option<Position>,
}

/// A sealed segment, or the active one, and the highest index of any entry in it.
#[derive(Debug)]
pub struct Held {
    pub segment: Arc<Segment>,
    pub highest: Option<u64>,
}

/// The writer of the log's files.
#[derive(Debug)]
pub struct Files {
    disk: Disk,
    random: Random,
    directory: PathBuf,
    segment_bytes: u64,
    held: BTreeMap<u64, Held>,
    active: Arc<Segment>,
    /// The length that the active segment was made with.
    active_bytes: u64,
    /// Where `buffer` begins in the active segment.
    offset: u64,
    /// Frames that are not yet in the file.
    buffer: Vec<u8>,
    chain: u32,
    /// Everything before `offset` is durable.
    synced: bool,
    /// The active segment was not filled with zeroes before: leave it as soon as there is a spare.
    sparse: bool,
    /// A spare is there.
    spare: bool,
    hard_state: HardState,
    mark: Mark,
    _lock: DirLock,
}

/// Where the frames of the last segment end.
pub struct End {
    pub offset: u64,
    pub chain: u32,
}

impl Files {
    /// Goes on with the segments `held`, or begins the first one.
    pub fn resume(
        world: &World,
        directory: &Path,
        segment_bytes: u64,
        lock: DirLock,
        held: BTreeMap<u64, Held>,
        end: End,
        hard_state: HardState,
    ) -> Result<Files, Error> {
        let (active, sparse) = match held.last_key_value() {
            Some((_, last)) => (last.segment.clone(), false),
            None => {
                let head = SegmentHead { id: 1, salt: world.random.u64(), chain: end.chain };
                let created = segment::create(&world.disk, directory, head, segment_bytes)?;
                (Arc::new(created.segment), created.sparse)
            }
        };
        let active_bytes = active.length()?;
        let mut files = Files {
            disk: world.disk.clone(),
            random: world.random.clone(),
            directory: directory.to_owned(),
            segment_bytes,
            held,
            active: active.clone(),
            active_bytes,
            offset: end.offset,
            buffer: Vec::new(),
            chain: end.chain,
            synced: true,
            sparse,
            spare: world.disk.exists(&directory.join(SPARE)),
            hard_state,
            mark: Mark::open(&world.disk, directory)?,
            _lock: lock,
        };
        files.held.entry(active.id).or_insert(Held { segment: active, highest: None });
        // What the segment restated at its beginning may have been the torn write.
        files.restate();
        Ok(files)
    }

    pub fn add_entry(&mut self, entry: &Entry) -> Result<EntryLocation, Error> {
        let offset = self.add(Frame { kind: Kind::Entry, at: entry.at, payload: &entry.payload })?;
        let held = self.held.get_mut(&self.active.id).expect("the active segment is held");
        held.highest = held.highest.max(Some(entry.at.index));
        Ok(EntryLocation::of(&self.active, offset, entry.payload.len()))
    }

    pub fn add_vote(&mut self, vote: &Bytes) -> Result<(), Error> {
        self.add(Frame { kind: Kind::Vote, at: Position::default(), payload: vote })?;
        self.hard_state.vote = Some(vote.clone());
        Ok(())
    }

    pub fn add_committed(&mut self, committed: &Bytes) -> Result<(), Error> {
        self.add(Frame { kind: Kind::Committed, at: Position::default(), payload: committed })?;
        self.hard_state.committed = Some(committed.clone());
        Ok(())
    }

    pub fn add_truncate(&mut self, after: u64) -> Result<(), Error> {
        let at = Position { index: after, ..Position::default() };
        self.add(Frame { kind: Kind::Truncate, at, payload: &[] }).map(drop)
    }

    pub fn add_purge(&mut self, up_to: Position) -> Result<(), Error> {
        self.add(Frame { kind: Kind::Purge, at: up_to, payload: &[] })?;
        self.hard_state.purged = Some(up_to);
        Ok(())
    }

    /// Marks all before as durable, so that any damage to it is known as such.
    pub fn close(&mut self) -> Result<(), Error> {
        self.write()?;
        self.sync();
        self.add(Frame { kind: Kind::Closed, at: Position::default(), payload: &[] })?;
        self.write()?;
        self.sync();
        Ok(())
    }

    /// Writes what was added to the file, and returns its length in bytes. After an error the content of the file from
    /// there on is unknown: until the very same bytes have been written over it, there must be no sync and no other
    /// frame.
    pub fn write(&mut self) -> Result<u64, Error> {
        if self.buffer.is_empty() {
            return Ok(0);
        }
        self.synced = false;
        let written = self.active.file.write_all_at(&self.buffer, self.offset);
        written.map_err(|error| Error::io(&self.active.path, error))?;
        let bytes = self.buffer.len() as u64;
        self.offset += bytes;
        self.buffer.clear();
        Ok(bytes)
    }

    /// Makes what was written durable.
    ///
    /// # Panics
    /// When the disk fails to: what it then holds is unknown, and only a restart finds out.
    pub fn sync(&mut self) {
        let synced = self.active.file.sync_data();
        assert!(synced.is_ok(), "{}: sync failed: {synced:?}", self.active.path.display());
        self.synced = true;
        self.mark.set(Synced { segment: self.active.id, offset: self.offset });
    }

    /// Releases the oldest segments that hold no entry after the purged position. The purge must be durable.
    pub fn release(&mut self) -> Vec<PathBuf> {
        let mut released = Vec::new();
        let Some(purged) = self.hard_state.purged.map(|at| at.index) else { return released };
        while let Some(oldest) = self.held.first_entry() {
            if *oldest.key() == self.active.id || oldest.get().highest > Some(purged) {
                break;
            }
            released.push(oldest.remove().segment.path.clone());
        }
        released
    }

    /// The work for the background: `released` segments to recycle or remove, and a spare to make.
    pub fn chores(&self, released: Vec<PathBuf>) -> Option<Chores> {
        if released.is_empty() && self.spare {
            return None;
        }
        Some(Chores::new(&self.disk, &self.directory, released, self.segment_bytes))
    }

    /// Notes that the chores are done.
    pub fn chores_done(&mut self) {
        self.spare = true;
    }

    fn add(&mut self, frame: Frame<'_>) -> Result<u64, Error> {
        if frame.payload.len() > frame::PAYLOAD_BYTES_MAX {
            let reason = format!("an entry of {} bytes is too large for the log", frame.payload.len());
            return Err(Error::io(&self.directory, std::io::Error::new(std::io::ErrorKind::InvalidInput, reason)));
        }
        let bytes = frame::frame_bytes(frame.payload.len()) as u64;
        let full = self.end() + bytes > self.active_bytes || (self.sparse && self.spare);
        if full && self.end() > SEGMENT_HEAD_BYTES {
            self.roll_over()?;
        }
        if self.buffer.len() >= WRITE_BYTES_MAX {
            self.write()?;
        }
        Ok(self.put(frame))
    }

    fn put(&mut self, frame: Frame<'_>) -> u64 {
        let (offset, synced) = (self.end(), self.synced && self.buffer.is_empty());
        self.chain = frame::encode(&mut self.buffer, self.active.seed, self.chain, offset, frame, synced);
        offset
    }

    fn end(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    /// Goes on in the next segment. The full one is durable before the next one exists, so only the last one may be
    /// torn. After an error the old segment stays active, and the caller may try again.
    fn roll_over(&mut self) -> Result<(), Error> {
        self.write()?;
        self.sync();
        let head = SegmentHead { id: self.active.id + 1, salt: self.random.u64(), chain: self.chain };
        let created = segment::create(&self.disk, &self.directory, head, self.segment_bytes)?;
        self.active_bytes = created.segment.length()?;
        self.active = Arc::new(created.segment);
        (self.sparse, self.spare) = (created.sparse, false);
        self.held.insert(head.id, Held { segment: self.active.clone(), highest: None });
        self.offset = SEGMENT_HEAD_BYTES;
        self.restate();
        Ok(())
    }

    fn restate(&mut self) {
        let HardState { vote, committed, purged } = self.hard_state.clone();
        if let Some(vote) = &vote {
            self.put(Frame { kind: Kind::Vote, at: Position::default(), payload: vote });
        }
        if let Some(committed) = &committed {
            self.put(Frame { kind: Kind::Committed, at: Position::default(), payload: committed });
        }
        if let Some(at) = purged {
            self.put(Frame { kind: Kind::Purge, at, payload: &[] });
        }
    }
}
