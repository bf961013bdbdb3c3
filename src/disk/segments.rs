//! Append-only data segments: the store's records on disk.
//!
//! ```text
//!   append(head, records) ──▶ active segment ──full──▶ seal, next segment        (one writer at a time)
//!   read(location)        ──▶ any segment, verified                              (any thread, no lock)
//!   sync()                ──▶ fdatasync of what was written before the call      (background)
//!   provide()             ──▶ disk space for what comes next                     (background)
//! ```
//!
//! A frame is what one `append` wrote: a head that only the store understands, and records. A crash keeps all frames
//! up to some point not before the last [`sync`](Segments::sync); the first torn frame and what follows is cut when
//! the segments are opened. Anything else that does not verify is [`Error::Corrupt`].
//!
//! - [`location`]: where frames and records lie
//! - [`frame`]: the layout
//! - [`segment`]: one file
//! - [`recovery`]: finding the end after a crash

mod frame;
mod location;
mod recovery;
mod segment;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::disk::{Error, format};
use crate::world::disk::DirLock;
use crate::world::{Disk, Lock, Random, World};
use frame::SEGMENT_HEAD_BYTES;
pub use frame::{Frame, Record};
pub use location::{Point, RecordLocation, SegmentId};
use segment::{Segment, path_of};

const WHAT: &str = "data segments";
const FORMAT: u32 = 1;

/// The part of a segment that has its disk space ahead.
const AHEAD_PART: u32 = 4;

/// The largest frame: offsets in a segment have 32 bits.
pub const FRAME_BYTES_MAX: u64 = 1 << 30;

/// How segments are opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A segment that has reached this size takes no more. Below 2 GiB.
    pub segment_bytes: u32,
    /// A point known to be durable, from the store's checkpoint: opening verifies from here on, so its
    /// segment must not be removed before there is a later checkpoint. Damage before it is found when it is read.
    pub durable: Point,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 64 << 20, durable: Point::START }
    }
}

/// A segment as the store sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: SegmentId,
    pub bytes: u64,
    /// Takes no more frames: immutable.
    pub sealed: bool,
}

/// The frames of one moment, in files that keep their names until this is dropped: files of segments that are removed
/// meanwhile go afterwards.
pub struct Hold {
    segments: Segments,
    table: Arc<BTreeMap<SegmentId, Arc<Segment>>>,
    /// After the last of the frames.
    pub end: Point,
}

/// The data segments of one directory; clones share them.
#[derive(Clone)]
pub struct Segments(Arc<Inner>);

/// The segments of one moment: their records stay readable, even those of segments that were removed since. The disk
/// space of those is not freed until this is dropped.
#[derive(Clone, Debug)]
pub struct Pinned {
    table: Arc<BTreeMap<SegmentId, Arc<Segment>>>,
    directory: PathBuf,
}

impl Pinned {
    /// Reads one record and verifies it.
    pub fn read(&self, location: RecordLocation) -> Result<Bytes, Error> {
        read(&self.table, &self.directory, location)
    }
}

fn read(table: &BTreeMap<SegmentId, Arc<Segment>>, directory: &Path, location: RecordLocation) -> Result<Bytes, Error> {
    let missing = || Error::io(&path_of(directory, location.segment), io::ErrorKind::NotFound.into());
    table.get(&location.segment).ok_or_else(missing)?.read(location)
}

struct Inner {
    disk: Disk,
    random: Random,
    directory: PathBuf,
    segment_bytes: u32,
    /// Read without a lock; changed while `active` or `next` is locked.
    table: ArcSwap<BTreeMap<SegmentId, Arc<Segment>>>,
    active: Lock<Active>,
    /// The segment after the active one, made ahead of need. Locked after `active`, never before it.
    next: Lock<Option<Arc<Segment>>>,
    /// Serializes [`Segments::sync`].
    syncing: Lock<()>,
    _lock: DirLock,
}

struct Active {
    segment: Arc<Segment>,
    offset: u32,
    synced: Point,
    /// Segments with bytes that may not be durable yet, in order; the active one is the last.
    unsynced: Vec<Arc<Segment>>,
    /// How many [`Hold`]s there are.
    holds: usize,
    /// Segments that were removed while somebody held them.
    condemned: Vec<Arc<Segment>>,
}

impl Segments {
    /// Opens the segments in `directory`, which is created where needed, and cuts a torn end. Blocks.
    pub fn open(world: &World, directory: &Path, options: Options) -> Result<Segments, Error> {
        assert!(options.segment_bytes <= 1 << 31, "offsets have 32 bits");
        let disk = &world.disk;
        let dir_lock = format::claim(disk, directory, WHAT, FORMAT)?;
        let mut table = recovery::list(disk, directory)?;
        let end = recovery::find_end(disk, directory, &mut table, options.durable)?;
        let (active, offset) = match end {
            Some(end) => (table[&end.segment].clone(), end.offset),
            None => {
                let first = Arc::new(segment::create(disk, &world.random, directory, SegmentId(1))?);
                table.insert(first.id, first.clone());
                (first, SEGMENT_HEAD_BYTES)
            }
        };
        // What was found may be in the page cache only.
        let unsynced = table.range(options.durable.segment..).map(|(_, segment)| segment.clone()).collect();
        let synced = options.durable;
        let active = Active { segment: active, offset, synced, unsynced, holds: 0, condemned: Vec::new() };
        Ok(Segments(Arc::new(Inner {
            disk: disk.clone(),
            random: world.random.clone(),
            directory: directory.to_owned(),
            segment_bytes: options.segment_bytes,
            table: ArcSwap::from_pointee(table),
            active: Lock::new(active),
            next: Lock::new(None),
            syncing: Lock::new(()),
            _lock: dir_lock,
        })))
    }

    /// Prepares a directory of whole segments, so that [`open`](Segments::open) needs no disk space.
    pub fn prepare(disk: &Disk, directory: &Path) -> Result<(), Error> {
        format::label(disk, directory, WHAT, FORMAT)
    }

    /// Writes one frame and returns the locations of its records. They can be read at once and are durable after the
    /// next [`sync`](Segments::sync). After an error nothing was added.
    pub fn append(&self, head: &[u8], records: &[&[u8]]) -> Result<Vec<RecordLocation>, Error> {
        let bytes = frame::frame_bytes(head, records);
        if bytes > FRAME_BYTES_MAX {
            let error = io::Error::new(io::ErrorKind::InvalidInput, format!("a frame of {bytes} bytes is too large"));
            return Err(Error::io(&self.0.directory, error));
        }
        let mut active = self.0.active.lock();
        if active.offset > SEGMENT_HEAD_BYTES && u64::from(active.offset) + bytes > u64::from(self.0.segment_bytes) {
            self.roll_over(&mut active)?;
        }
        let segment = active.segment.clone();
        let (frame, offsets) = frame::encode(segment.seed, active.offset, active.synced, head, records);
        segment.write(&frame, active.offset)?;
        active.offset += frame.len() as u32;
        let locations = offsets.into_iter().zip(records);
        Ok(locations
            .map(|(offset, r)| RecordLocation { segment: segment.id, offset, length: r.len() as u32 })
            .collect())
    }

    /// Reads one record and verifies it. From any thread, without a lock. A segment that was removed is an
    /// [`Error::Io`] of kind `NotFound`.
    pub fn read(&self, location: RecordLocation) -> Result<Bytes, Error> {
        read(&self.0.table.load(), &self.0.directory, location)
    }

    /// The segments as they are now.
    pub fn pin(&self) -> Pinned {
        Pinned { table: self.0.table.load_full(), directory: self.0.directory.clone() }
    }

    /// Makes every frame that was appended before this call durable, and returns where they end. Appends go on
    /// meanwhile.
    ///
    /// # Panics
    /// When the disk fails to sync: what it then holds is unknown, and only a restart finds out.
    pub fn sync(&self) -> Result<Point, Error> {
        let _one_at_a_time = self.0.syncing.lock();
        let (end, unsynced) = {
            let active = self.0.active.lock();
            (active.end(), active.unsynced.clone())
        };
        for segment in &unsynced {
            if segment.id < end.segment {
                segment.trim()?;
            }
            let synced = segment.file.sync_data();
            assert!(synced.is_ok(), "{}: sync failed: {synced:?}", segment.path.display());
        }
        let mut active = self.0.active.lock();
        active.synced = active.synced.max(end);
        active.unsynced.retain(|segment| segment.id >= end.segment);
        Ok(end)
    }

    /// Reserves disk space and makes a segment ahead, so that the next frames wait for nothing, and removes files that
    /// nobody holds any more. To be called now and then. A full-disk error means that there is almost no space ahead.
    pub fn provide(&self) -> Result<(), Error> {
        self.remove_condemned()?;
        let (segment, offset) = {
            let active = self.0.active.lock();
            (active.segment.clone(), active.offset)
        };
        let ahead = self.0.segment_bytes / AHEAD_PART;
        if offset > self.0.segment_bytes / 2 {
            self.0.prepare_next()?.reserve(0, ahead)?;
        }
        segment.reserve(offset, ahead)
    }

    /// The point up to which frames are known to be durable.
    pub fn synced(&self) -> Point {
        self.0.active.lock().synced
    }

    /// The point after the last frame.
    pub fn end(&self) -> Point {
        self.0.active.lock().end()
    }

    /// Seals the active segment, so that all frames up to now lie in immutable ones. One without frames stays.
    pub fn seal(&self) -> Result<Point, Error> {
        let mut active = self.0.active.lock();
        if active.offset > SEGMENT_HEAD_BYTES {
            self.roll_over(&mut active)?;
        }
        Ok(active.end())
    }

    /// Visits the frames from `from` on, in order, verifying each, up to the end as of this call.
    pub fn scan<F>(&self, from: Point, mut visit: F) -> Result<Point, Error>
    where
        F: FnMut(Frame) -> Result<(), Error>,
    {
        let end = self.end();
        let table = self.0.table.load_full();
        for segment in table.range(from.segment..=end.segment).map(|(_, segment)| segment) {
            let start = if segment.id == from.segment { from.offset } else { 0 };
            let stop = (segment.id == end.segment).then_some(end.offset);
            segment.scan(start.max(SEGMENT_HEAD_BYTES), stop, &mut visit)?;
        }
        Ok(end)
    }

    /// Visits the frames of one sealed segment, in order, verifying each.
    pub fn scan_segment<F, E>(&self, id: SegmentId, mut visit: F) -> Result<(), E>
    where
        F: FnMut(Frame) -> Result<(), E>,
        E: From<Error>,
    {
        let segment = self
            .0
            .table
            .load()
            .get(&id)
            .cloned()
            .ok_or_else(|| Error::io(&path_of(&self.0.directory, id), io::ErrorKind::NotFound.into()))?;
        segment.scan(SEGMENT_HEAD_BYTES, None, &mut visit)
    }

    /// The segments, oldest first; the last one is active.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let end = self.end();
        let table = self.0.table.load_full();
        let listed = table.range(..=end.segment).map(|(&id, segment)| {
            let sealed = id != end.segment;
            let bytes = if sealed { segment.length()? } else { u64::from(end.offset) };
            Ok(Listed { id, bytes, sealed })
        });
        listed.collect()
    }

    /// Removes sealed segments. What still lived in them must be durable elsewhere. A [`RecordLocation`] in one of them
    /// can no longer be read; files that a [`Hold`] keeps are removed later.
    pub fn remove(&self, ids: &[SegmentId]) -> Result<(), Error> {
        let mut active = self.0.active.lock();
        assert!(!ids.contains(&active.segment.id), "the active segment is never removed");
        let mut table = BTreeMap::clone(&self.0.table.load());
        active.condemned.extend(ids.iter().filter_map(|id| table.remove(id)));
        self.0.table.store(Arc::new(table));
        drop(active);
        self.remove_condemned()
    }

    fn remove_condemned(&self) -> Result<(), Error> {
        let condemned = {
            let mut active = self.0.active.lock();
            if active.holds > 0 { Vec::new() } else { std::mem::take(&mut active.condemned) }
        };
        if condemned.is_empty() {
            return Ok(());
        }
        for segment in condemned {
            self.0.disk.remove(&segment.path)?;
        }
        Ok(self.0.disk.sync_dir(&self.0.directory)?)
    }

    /// Holds the frames up to now, with their files.
    pub fn hold(&self) -> Hold {
        let mut active = self.0.active.lock();
        active.holds += 1;
        Hold { segments: self.clone(), table: self.0.table.load_full(), end: active.end() }
    }

    fn roll_over(&self, active: &mut Active) -> Result<(), Error> {
        let seal = frame::encode_seal(active.segment.seed, active.offset, active.synced);
        let next = self.0.take_next()?;
        active.segment.write(&seal, active.offset)?;
        let mut table = BTreeMap::clone(&self.0.table.load());
        table.insert(next.id, next.clone());
        self.0.table.store(Arc::new(table));
        active.unsynced.push(next.clone());
        active.segment = next;
        active.offset = SEGMENT_HEAD_BYTES;
        Ok(())
    }
}

impl Inner {
    /// Makes the next segment ahead of need, so that an append that fills the active one waits for nothing.
    fn prepare_next(&self) -> Result<Arc<Segment>, Error> {
        let mut next = self.next.lock();
        match &*next {
            Some(segment) => Ok(segment.clone()),
            None => Ok(next.insert(self.create_next()?).clone()),
        }
    }

    fn take_next(&self) -> Result<Arc<Segment>, Error> {
        match self.next.lock().take() {
            Some(segment) => Ok(segment),
            None => self.create_next(),
        }
    }

    fn create_next(&self) -> Result<Arc<Segment>, Error> {
        let last = self.table.load().keys().next_back().copied().expect("there is always an active segment");
        segment::create(&self.disk, &self.random, &self.directory, SegmentId(last.0 + 1)).map(Arc::new)
    }
}

impl Active {
    fn end(&self) -> Point {
        Point { segment: self.segment.id, offset: self.offset }
    }
}

impl Hold {
    /// Links the files of the frames into `directory`, one a segment, and returns their new names. Frames in a segment
    /// that still grows are copied. Their content need not be durable yet.
    pub fn link_into(&self, directory: &Path) -> Result<Vec<PathBuf>, Error> {
        let disk = &self.segments.0.disk;
        let name = |(id, segment): (&SegmentId, &Arc<Segment>)| {
            let path = path_of(directory, *id);
            if *id == self.end.segment {
                segment.copy_start(disk, &path, self.end.offset)?;
            } else {
                disk.hard_link(&segment.path, &path)?;
            }
            Ok(path)
        };
        self.table.range(..=self.end.segment).map(name).collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.segments.0.active.lock().holds -= 1;
    }
}

#[cfg(test)]
mod tests;
