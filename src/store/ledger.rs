//! The state and its files, together: what is applied is written before anyone sees it.
//!
//! ```text
//!   entry ──▶ command::apply ──▶ Batch ──one frame──▶ data segments ──▶ places ──▶ index
//!   install ──▶ a directory becomes the next generation ──▶ the ledger that takes this one's place
//!   snapshot ──▶ files for a peer, made beside all other work
//! ```
//!
//! - `install`: another state in the place of this one; `snapshot`: this state for a peer

mod install;
mod snapshot;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chorus_proto::mvccpb::{Event, KeyValue};
use prost::Message;

use super::checkpoint;
use super::command::Batch;
use super::files::Files;
use super::generation::{Basis, Generation};
use super::journal::{self, Head, Step};
use super::mvcc::{Rev, Slot, write::event};
use super::open::OpenError;
use super::state::State;
use super::usage::Usage;
use super::view::View;
use crate::disk::segments::Options;
use crate::disk::{self, Point, Position, RecordLocation, Segments, codec};
use crate::raft::machine::Applied;
use crate::world::World;

/// Entries that change nothing need no frame; but the log is purged only up to a frame, so that now and then one is
/// written for the position alone.
const ENTRIES_WITHOUT_FRAME_MAX: u64 = 1_000;

/// The events of one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    pub revision: i64,
    pub events: Vec<Event>,
}

/// A compaction whose history is still to be swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// The compaction before it, -1 when there is none; `None` when that one was not swept yet.
    pub floor: Option<i64>,
    pub revision: i64,
}

/// The applied state with its files.
pub struct Ledger {
    world: World,
    segment_bytes: u32,
    files: Files,
    pub segments: Segments,
    pub state: State,
    /// What the index still points to.
    pub usage: Usage,
    /// Compactions whose history has not been swept yet, oldest first.
    pub compactions: VecDeque<Compaction>,
    /// The last compaction, when it was swept.
    floor: Option<i64>,
    /// What the checkpoint on disk holds.
    pub checkpointed: Point,
    /// The last position that a frame tells.
    framed: Option<Position>,
    /// Where frames end, until they are durable.
    frames: VecDeque<(Point, Position)>,
    durable: Option<Position>,
    /// The bytes of a frame's records; kept to be used again.
    buffer: Vec<u8>,
    /// What the state holds but no frame yet, because the disk is full.
    unwritten: Option<Unwritten>,
}

/// An entry that was applied to the state, on its way to the files.
struct Unwritten {
    at: Position,
    head: Head,
    records: Vec<KeyValue>,
}

impl Ledger {
    /// Opens what is in `data_dir`, or an empty state.
    pub fn open(world: &World, data_dir: &Path, segment_bytes: u32) -> Result<Ledger, OpenError> {
        let wrap = |error: io::Error| OpenError::from_disk(data_dir, error.into());
        let files = Files::open(world, data_dir).map_err(wrap)?;
        Ledger::load(world, files, segment_bytes).map_err(|error| OpenError::from_disk(data_dir, error))
    }

    fn load(world: &World, files: Files, segment_bytes: u32) -> Result<Ledger, disk::Error> {
        let checkpoint = checkpoint::read(world, &files.index())?;
        let (mut state, point) = checkpoint.unwrap_or_else(|| (State::default(), Point::START));
        let durable = state.applied;
        let directory = files.directory();
        let segments = Segments::open(world, &directory, Options { segment_bytes, durable: point })?;
        let end = segments.scan(point, |frame| {
            journal::replay(&mut state, &frame).map_err(|error| disk::Error::Corrupt {
                path: directory.clone(),
                offset: u64::from(frame.at.offset),
                reason: format!("segment {:08x}: {error}", frame.at.segment.0),
            })
        })?;
        // The log may have been purged by what was durable before the restart, which nothing else remembers.
        segments.sync()?;
        let usage = Usage::of(&state.index);
        let frames = state.applied.map(|applied| (end, applied)).into_iter().collect();
        let framed = state.applied;
        let (world, checkpointed) = (world.clone(), point);
        let (compacted, swept) = (state.index.compacted, state.index.is_swept());
        let interrupted = (!swept).then_some(Compaction { floor: None, revision: compacted });
        let compactions = interrupted.into_iter().collect();
        let (floor, buffer) = (swept.then_some(compacted), Vec::new());
        Ok(Ledger {
            world,
            segment_bytes,
            files,
            segments,
            state,
            usage,
            compactions,
            floor,
            checkpointed,
            framed,
            frames,
            durable,
            buffer,
            unwritten: None,
        })
    }

    pub fn view(&self) -> View {
        View { generation: self.generation(), state: self.state.clone(), segments: self.segments.pin() }
    }

    pub fn generation(&self) -> Generation {
        self.files.generation
    }

    /// What a step in the background begins with.
    pub fn basis(&self) -> Basis {
        Basis { generation: self.generation(), segments: self.segments.clone() }
    }

    /// Where its files lie.
    pub fn files(&self) -> Files {
        self.files.clone()
    }

    /// See [`Files::begin_run`].
    pub fn begin_run(&self) -> io::Result<u64> {
        self.files.begin_run()
    }

    /// The size of the store, as the quota counts it.
    pub fn size(&self) -> u64 {
        self.usage.size(self.state.leases.count())
    }

    pub fn applied(&self) -> Applied {
        Applied { at: self.state.applied, membership: self.state.membership.clone() }
    }

    /// The last position whose frame is durable, with all before it.
    pub fn durable(&mut self) -> Option<Position> {
        let synced = self.segments.synced();
        while let Some((_, at)) = self.frames.pop_front_if(|(end, _)| *end <= synced) {
            self.durable = Some(at);
        }
        self.durable
    }

    /// The disk is full, and the state is ahead of its files: until [`resume`](Ledger::resume) succeeds, nobody may see
    /// it or write anything of it.
    pub fn is_stalled(&self) -> bool {
        self.unwritten.is_some()
    }

    fn must_not_stall(&self) -> Result<(), disk::Error> {
        if self.is_stalled() { Err(disk::Error::Io(io::ErrorKind::StorageFull.into())) } else { Ok(()) }
    }

    /// Ends an entry: writes what `batch` changed, and gives the events of it. Where the disk is full, that is left to
    /// [`resume`](Ledger::resume).
    pub fn commit(
        &mut self,
        at: Position,
        membership: Option<Bytes>,
        batch: Batch,
    ) -> Result<Vec<Happened>, disk::Error> {
        self.state.applied = Some(at);
        let silent = membership.is_none() && batch.steps.is_empty();
        let behind = at.index - self.framed.map_or(0, |framed| framed.index);
        if silent && behind < ENTRIES_WITHOUT_FRAME_MAX {
            return Ok(Vec::new());
        }
        if let Some(membership) = &membership {
            self.state.membership = Some((at, membership.clone()));
        }
        let Batch { steps, records, .. } = batch;
        let head = Head::Applied { at, membership, steps };
        self.write(Unwritten { at, head, records })
    }

    /// Ends the entry that the disk had no room for, if there is one.
    pub fn resume(&mut self) -> Result<Vec<Happened>, disk::Error> {
        self.unwritten.take().map_or(Ok(Vec::new()), |unwritten| self.write(unwritten))
    }

    fn write(&mut self, unwritten: Unwritten) -> Result<Vec<Happened>, disk::Error> {
        let places = match self.append(&unwritten.head, &unwritten.records) {
            Ok(places) => places,
            Err(error) => {
                self.unwritten = Some(unwritten);
                return Err(error);
            }
        };
        let Unwritten { at, head, records } = unwritten;
        self.framed = Some(at);
        self.frames.push_back((self.segments.end(), at));
        let Head::Applied { steps, .. } = head else { unreachable!("only applied entries are written here") };
        Ok(self.settle(&steps, records, &places))
    }

    fn append(&mut self, head: &Head, records: &[KeyValue]) -> Result<Vec<RecordLocation>, disk::Error> {
        let head = codec::encode(head).map_err(|error| disk::Error::Io(error.into()))?;
        self.buffer.clear();
        let mut ends = Vec::with_capacity(records.len());
        for record in records {
            record.encode(&mut self.buffer).expect("a vector grows as needed");
            ends.push(self.buffer.len());
        }
        let mut start = 0;
        let slices: Vec<&[u8]> =
            ends.into_iter().map(|end| &self.buffer[std::mem::replace(&mut start, end)..end]).collect();
        self.segments.append(&head, &slices)
    }

    /// Points the index to where the records were written.
    fn settle(&mut self, steps: &[Step], records: Vec<KeyValue>, places: &[RecordLocation]) -> Vec<Happened> {
        let mut written = records.into_iter().zip(places);
        let mut happened = Vec::new();
        for step in steps {
            let (revision, changes) = match *step {
                Step::Write { revision, changes } => (revision, changes),
                Step::Compact { revision } => {
                    self.compacted(revision);
                    continue;
                }
                _ => continue,
            };
            let mut events = Vec::with_capacity(changes as usize);
            for (sub, (record, place)) in (0..changes).zip(written.by_ref()) {
                self.usage.add(*place);
                self.state.index.relocate(Rev { main: revision, sub }, Slot::Stored(*place));
                events.push(event(record, revision));
            }
            happened.push(Happened { revision, events });
        }
        happened
    }

    fn compacted(&mut self, revision: i64) {
        self.compactions.push_back(Compaction { floor: self.floor.take(), revision });
    }

    /// Looks at up to `changes_max` changes below the compaction floor and says how many were freed; `None` when there
    /// is nothing left to look at.
    pub fn sweep(&mut self, changes_max: usize) -> Option<usize> {
        if self.state.index.is_swept() {
            self.floor = Some(self.state.index.compacted);
            return None;
        }
        let freed = self.state.index.sweep(changes_max);
        freed.iter().for_each(|change| self.usage.release(change.slot));
        Some(freed.len())
    }

    /// Copies records to the end of the segments, those that the index still has at these places.
    pub fn relocate(&mut self, moving: &[(Rev, RecordLocation, Bytes)]) -> Result<(), disk::Error> {
        self.must_not_stall()?;
        let stays = |(at, place, _): &&(Rev, RecordLocation, Bytes)| {
            self.state.index.change(*at).is_some_and(|change| change.slot == Slot::Stored(*place))
        };
        let live: Vec<_> = moving.iter().filter(stays).collect();
        if live.is_empty() {
            return Ok(());
        }
        let head = Head::Moved { changes: live.iter().map(|(at, ..)| *at).collect() };
        let head = codec::encode(&head).map_err(|error| disk::Error::Io(error.into()))?;
        let records: Vec<&[u8]> = live.iter().map(|(.., record)| &record[..]).collect();
        for ((at, before, _), place) in live.iter().zip(self.segments.append(&head, &records)?) {
            self.state.index.relocate(*at, Slot::Stored(place));
            self.usage.release(Slot::Stored(*before));
            self.usage.add(place);
        }
        Ok(())
    }

    /// What a checkpoint of this moment holds, and where it goes.
    pub fn checkpoint(&self) -> Result<Checkpoint, disk::Error> {
        self.must_not_stall()?;
        let (state, point, path) = (self.state.clone(), self.segments.end(), self.files.index());
        Ok(Checkpoint { generation: self.generation(), state, point, path })
    }
}

/// A checkpoint that is yet to be written.
pub struct Checkpoint {
    pub generation: Generation,
    state: State,
    /// Up to here frames are in it.
    pub point: Point,
    pub path: PathBuf,
}

impl Checkpoint {
    /// Writes it. The frames that are in it must be durable.
    pub fn write(&self, world: &World) -> Result<(), disk::Error> {
        checkpoint::write(world, &self.path, &self.state, self.point)
    }
}
