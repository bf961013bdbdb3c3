//! Reading the log back: which frames count, what they leave, and where the next one goes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::Entry;
use super::files::{End, Files, HardState, Held};
use super::frame::{self, Frame, Kind, SEGMENT_HEAD_BYTES};
use super::mark::{self, Synced};
use super::segment::{self, EntryLocation, Segment};
use super::window::Window;
use crate::disk::{Error, Position, format};
use crate::world::{Disk, World};

const FORMAT: u32 = 1;

/// Sizes of a log.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of one preallocated segment file.
    pub segment_bytes: u64,
    /// Recent payloads kept in memory for readers.
    pub cache_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 64 << 20, cache_bytes_max: 64 << 20 }
    }
}

/// What the log held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub vote: Option<Bytes>,
    /// May be behind what was saved last: it is not synced by itself.
    pub committed: Option<Bytes>,
    pub purged: Option<Position>,
    pub first: Option<Position>,
    pub last: Option<Position>,
}

/// Opens the log in `directory`. A torn end is cut; any other damage is an error.
pub fn open(
    world: &World,
    directory: &Path,
    options: Options,
) -> Result<(Files, Window<EntryLocation>, Recovered), Error> {
    let disk = &world.disk;
    let lock = format::claim(disk, directory, "write-ahead log", FORMAT)?;
    remove_scratch(disk, directory)?;
    let mark = mark::read(disk, directory)?;
    let mut replay = Replay::new(options.cache_bytes_max);
    let (mut held, mut end) = (BTreeMap::new(), End { offset: SEGMENT_HEAD_BYTES, chain: 0 });
    let ids = segment::list(disk, directory)?;
    for (i, &id) in ids.iter().enumerate() {
        let (segment, chain) = Segment::open(disk, directory, id)?;
        match held.last_key_value() {
            None => end.chain = chain,
            Some((_, before)) => follows(before, &end, id, chain)?,
        }
        let segment = Arc::new(segment);
        let (highest, found) = replay_segment(disk, &segment, end.chain, i + 1 == ids.len(), mark, &mut replay)?;
        held.insert(id, Held { segment, highest });
        end = found;
    }
    holds(&held, mark)?;
    replay.finish(held.first_key_value().map(|(_, oldest)| &*oldest.segment))?;
    let recovered = replay.recovered();
    let files = Files::resume(world, directory, options.segment_bytes, lock, held, end, replay.hard_state)?;
    Ok((files, replay.window, recovered))
}

fn remove_scratch(disk: &Disk, directory: &Path) -> Result<(), Error> {
    let names = disk.list(directory)?;
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        disk.remove(&directory.join(name))?;
    }
    Ok(())
}

/// Checks that segment `id` continues where the one before it ended, so that one lost no frame.
fn follows(before: &Held, end: &End, id: u64, chain: u32) -> Result<(), Error> {
    let before = &before.segment;
    if before.id + 1 != id {
        let missing = before.id + 1;
        let reason = format!("segment {missing:016x} is missing after it, though {id:016x} is there");
        return Err(Error::corrupt(&before.path, end.offset, reason));
    }
    if end.chain != chain {
        return Err(Error::corrupt(&before.path, end.offset, "a frame is damaged or missing"));
    }
    Ok(())
}

/// Checks that the segment in which the durable part ended is there.
fn holds(held: &BTreeMap<u64, Held>, mark: Option<Synced>) -> Result<(), Error> {
    match (held.last_key_value(), mark) {
        (Some((last, _)), Some(mark)) if mark.segment > *last => {
            let reason = format!("segment {:016x} is missing after it", mark.segment);
            Err(Error::corrupt(&held[last].segment.path, 0, reason))
        }
        _ => Ok(()),
    }
}

/// Replays one segment. Returns the highest index in it and where its frames end.
fn replay_segment(
    disk: &Disk,
    segment: &Arc<Segment>,
    mut chain: u32,
    last: bool,
    mark: Option<Synced>,
    replay: &mut Replay,
) -> Result<(Option<u64>, End), Error> {
    let bytes = disk.read(&segment.path)?;
    let (mut offset, mut highest) = (SEGMENT_HEAD_BYTES, None);
    let reason = loop {
        match frame::parse(&bytes, segment.seed, chain, offset) {
            Ok(parsed) => {
                if parsed.frame.kind == Kind::Entry {
                    highest = highest.max(Some(parsed.frame.at.index));
                }
                replay.take(segment, offset, parsed.frame)?;
                (offset, chain) = (parsed.end, parsed.chain);
            }
            Err(reason) => break reason,
        }
    };
    if last {
        cut(segment, &bytes, offset, mark, reason)?;
    }
    Ok((highest, End { offset, chain }))
}

/// Takes `offset` for the torn end of the log, unless something shows that the bytes there were durable. Overwrites
/// what is left of frames behind it, so that they never come back. Makes durable what is before it, which may be in the
/// page cache only.
fn cut(segment: &Segment, bytes: &[u8], offset: u64, mark: Option<Synced>, reason: &'static str) -> Result<(), Error> {
    let remains = frame::remains(bytes, segment.seed, offset);
    if remains.synced || mark > Some(Synced { segment: segment.id, offset }) {
        return Err(Error::corrupt(&segment.path, offset, reason));
    }
    let named = |error| Error::io(&segment.path, error);
    if remains.end > offset {
        tracing::warn!(file = %segment.path.display(), offset, "the log ends in a torn write; it was never acknowledged");
        segment::zero(&segment.file, offset..remains.end).map_err(named)?;
    }
    segment.file.sync_data().map_err(named)
}

/// What the frames leave, in order.
struct Replay {
    window: Window<EntryLocation>,
    hard_state: HardState,
    /// An entry was seen. Before that, segments that hold older ones may be gone already.
    begun: bool,
}

impl Replay {
    fn new(cache_bytes_max: usize) -> Replay {
        Replay { window: Window::new(cache_bytes_max), hard_state: HardState::default(), begun: false }
    }

    fn take(&mut self, segment: &Arc<Segment>, offset: u64, frame: Frame<'_>) -> Result<(), Error> {
        match frame.kind {
            Kind::Entry => self.take_entry(segment, offset, frame)?,
            Kind::Vote => self.hard_state.vote = Some(Bytes::copy_from_slice(frame.payload)),
            Kind::Committed => self.hard_state.committed = Some(Bytes::copy_from_slice(frame.payload)),
            Kind::Truncate => self.window.truncate_after(frame.at.index),
            Kind::Purge => self.take_purge(frame.at),
            Kind::Closed => (),
        }
        Ok(())
    }

    fn take_entry(&mut self, segment: &Arc<Segment>, offset: u64, frame: Frame<'_>) -> Result<(), Error> {
        if !self.window.accepts(frame.at.index) {
            let reason = format!("entry {} does not follow {:?}", frame.at, self.window.last());
            return Err(Error::corrupt(&segment.path, offset, reason));
        }
        self.begun = true;
        let location = EntryLocation::of(segment, offset, frame.payload.len());
        self.window.push(Entry { at: frame.at, payload: Bytes::copy_from_slice(frame.payload) }, Some(location));
        self.window.evict();
        Ok(())
    }

    fn take_purge(&mut self, at: Position) {
        self.hard_state.purged = Some(at);
        if self.begun {
            self.window.purge(at);
        }
    }

    /// Checks that no segment is missing at the beginning: only a purge removes those.
    fn finish(&mut self, oldest: Option<&Segment>) -> Result<(), Error> {
        if let Some(purged) = self.hard_state.purged {
            self.window.purge(purged);
        }
        let purged = self.hard_state.purged.map(|at| at.index);
        let first = self.window.first().map(|at| at.index);
        let gapless = match (purged, first) {
            (Some(purged), Some(first)) => purged + 1 == first,
            (None, _) => oldest.is_none_or(|oldest| oldest.id == 1),
            (Some(_), None) => true,
        };
        match oldest {
            Some(oldest) if !gapless => {
                Err(Error::corrupt(&oldest.path, 0, "the segments before it are missing, though not purged"))
            }
            _ => Ok(()),
        }
    }

    fn recovered(&self) -> Recovered {
        Recovered {
            vote: self.hard_state.vote.clone(),
            committed: self.hard_state.committed.clone(),
            purged: self.hard_state.purged,
            first: self.window.first(),
            last: self.window.last(),
        }
    }
}
