//! Finding the end of the segments after a crash.
//!
//! The first place where nothing verifies is the end, provided that nothing shows it to have been durable: neither the
//! store's checkpoint nor any frame that was written later. Then the rest was never promised to anyone, and is cut.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::frame::{self, Parsed, SEGMENT_HEAD_BYTES};
use super::location::{Point, SegmentId};
use super::segment::{Segment, id_of, path_of};
use crate::disk::Error;
use crate::world::Disk;

type Table = BTreeMap<SegmentId, Arc<Segment>>;

/// The segments in a directory.
pub fn list(disk: &Disk, directory: &Path) -> Result<Table, Error> {
    let ids = disk.list(directory)?.into_iter().filter_map(|name| id_of(&name));
    ids.map(|id| Ok((id, Arc::new(Segment::open(disk, directory, id)?)))).collect()
}

/// The point after the last frame that verifies, where the next one goes; what follows is cut off, durably. `None`
/// when there is no segment at all. An error when frames before that end, or before `durable`, are lost.
pub fn find_end(disk: &Disk, directory: &Path, table: &mut Table, durable: Point) -> Result<Option<Point>, Error> {
    if durable > Point::START && !table.contains_key(&durable.segment) {
        let path = path_of(directory, durable.segment);
        return Err(Error::corrupt(&path, u64::from(durable.offset), "the segment is missing"));
    }
    let Some(stop) = first_stop(table, durable)? else { return Ok(None) };
    let witness = stop.witness.max(synced_beyond(table, stop.at)?);
    if witness.max(durable) > stop.at {
        let path = &table[&stop.at.segment].path;
        return Err(Error::corrupt(path, u64::from(stop.at.offset), stop.reason));
    }
    cut(disk, directory, table, stop.at)?;
    Ok(Some(stop.at))
}

/// The first point where the frames end, intact or damaged.
struct Stop {
    at: Point,
    reason: &'static str,
    /// The furthest durable point that the frames before it know of.
    witness: Point,
}

fn first_stop(table: &Table, durable: Point) -> Result<Option<Stop>, Error> {
    let mut witness = Point::START;
    let mut stop = None;
    for segment in table.range(durable.segment..).map(|(_, segment)| segment) {
        let bytes = segment.content()?;
        let start = if segment.id == durable.segment { durable.offset } else { 0 };
        let mut offset = start.max(SEGMENT_HEAD_BYTES).min(bytes.len() as u32);
        let reason = loop {
            match frame::parse(&bytes, segment.id, segment.seed, offset) {
                Ok(Parsed::Frame(frame, synced)) => (offset, witness) = (frame.end.offset, witness.max(synced)),
                Ok(Parsed::Seal(synced)) => {
                    witness = witness.max(synced);
                    break None;
                }
                Ok(Parsed::End) => break Some("frames are missing at the end"),
                Err(reason) => break Some(reason),
            }
        };
        stop = Some(Stop { at: Point { segment: segment.id, offset }, reason: reason.unwrap_or_default(), witness });
        if reason.is_some() {
            break;
        }
    }
    Ok(stop)
}

/// The furthest durable point known to any frame after `at`.
fn synced_beyond(table: &Table, at: Point) -> Result<Point, Error> {
    let mut witness = Point::START;
    for segment in table.range(at.segment..).map(|(_, segment)| segment) {
        let from = if segment.id == at.segment { at.offset } else { SEGMENT_HEAD_BYTES };
        let found = frame::synced_after(&segment.content()?, segment.seed, from);
        witness = witness.max(found.unwrap_or_default());
    }
    Ok(witness)
}

/// Cuts off everything after `end`. Newest first, so that a crash in between leaves a state that is cut the same way.
fn cut(disk: &Disk, directory: &Path, table: &mut Table, end: Point) -> Result<(), Error> {
    while let Some(last) = table.last_entry().filter(|last| *last.key() > end.segment) {
        disk.remove(&last.remove().path)?;
        disk.sync_dir(directory)?;
    }
    let segment = &table[&end.segment];
    if segment.length()? > u64::from(end.offset) {
        let cut = segment.file.set_len(u64::from(end.offset));
        cut.and_then(|()| segment.file.sync_data()).map_err(|error| Error::io(&segment.path, error))?;
    }
    Ok(())
}
