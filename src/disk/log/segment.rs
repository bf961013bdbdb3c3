//! One segment file of the log: making, opening and naming it, and reading an entry back from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::entry::Entry;
use super::frame::{self, FRAME_HEAD_BYTES, Kind, SEGMENT_HEAD_BYTES, Seed, SegmentHead};
use crate::disk::{Error, Position};
use crate::world::disk::Open;
use crate::world::{Disk, File};

/// The file that becomes the next segment.
pub const SPARE: &str = "spare";
/// Zeroes are written and synced in pieces, so that they never keep a sync of the log waiting for long.
const ZEROES_BYTES: usize = 1 << 20;
/// No segment is made smaller than this part of what it should be.
const SMALLEST_PART: u64 = 16;

/// A segment file.
#[derive(Debug)]
pub struct Segment {
    pub id: u64,
    pub path: PathBuf,
    pub seed: Seed,
    pub file: File,
}

/// Where an entry lies on disk.
#[derive(Clone, Debug)]
pub struct EntryLocation {
    segment: Arc<Segment>,
    offset: u64,
    payload_bytes: usize,
}

impl EntryLocation {
    /// Reads the entry back and verifies it.
    pub fn read(&self, at: Position) -> Result<Entry, Error> {
        let Segment { path, seed, file, .. } = &*self.segment;
        let mut bytes = vec![0; FRAME_HEAD_BYTES + self.payload_bytes];
        file.read_exact_at(&mut bytes, self.offset).map_err(|error| Error::io(path, error))?;
        let (_, parsed) =
            frame::parse_one(&bytes, *seed, self.offset).map_err(|reason| Error::corrupt(path, self.offset, reason))?;
        if parsed.frame.kind != Kind::Entry || parsed.frame.at != at {
            return Err(Error::corrupt(path, self.offset, format!("another frame than that of entry {at}")));
        }
        Ok(Entry { at, payload: Bytes::from(bytes).slice(FRAME_HEAD_BYTES..) })
    }

    /// The entry of this payload length that was read from `offset` of `segment`.
    pub fn of(segment: &Arc<Segment>, offset: u64, payload_bytes: usize) -> EntryLocation {
        EntryLocation { segment: segment.clone(), offset, payload_bytes }
    }
}

impl Segment {
    pub fn length(&self) -> Result<u64, Error> {
        self.file.len().map_err(|error| Error::io(&self.path, error))
    }

    /// Opens a segment. Also returns the chain that it continues.
    pub fn open(disk: &Disk, directory: &Path, id: u64) -> Result<(Segment, u32), Error> {
        let path = path_of(directory, id);
        let file = disk.open(&path, Open::Write)?;
        let mut bytes = [0; SEGMENT_HEAD_BYTES as usize];
        file.read_exact_at(&mut bytes, 0).map_err(|_| Error::corrupt(&path, 0, "the file is shorter than its head"))?;
        let head = SegmentHead::decode(&bytes).map_err(|reason| Error::corrupt(&path, 0, reason))?;
        if head.id != id {
            return Err(Error::corrupt(&path, 16, format!("the head says segment {:016x}", head.id)));
        }
        Ok((Segment { id, path, seed: head.seed(), file }, head.chain))
    }
}

/// A segment that was just made.
pub struct Created {
    pub segment: Segment,
    /// Made without a spare.
    pub sparse: bool,
}

/// Makes a segment of the spare or, without one, of a new file.
pub fn create(disk: &Disk, directory: &Path, head: SegmentHead, segment_bytes: u64) -> Result<Created, Error> {
    let (path, spare, scratch) = (path_of(directory, head.id), directory.join(SPARE), directory.join("next.tmp"));
    let sparse = !disk.exists(&spare);
    let file = if sparse {
        make(disk, &scratch, segment_bytes)?
    } else {
        disk.rename(&spare, &scratch)?;
        disk.open(&scratch, Open::Write)?
    };
    file.write_all_at(&head.encode(), 0).and_then(|()| file.sync_data()).map_err(|error| Error::io(&scratch, error))?;
    disk.rename(&scratch, &path)?;
    disk.sync_dir(directory)?;
    Ok(Created { segment: Segment { id: head.id, path, seed: head.seed(), file }, sparse })
}

/// A new file whose space is reserved: of `segment_bytes` or, on a disk that is nearly full, of a part of them.
pub fn make(disk: &Disk, path: &Path, segment_bytes: u64) -> Result<File, Error> {
    let mut bytes = segment_bytes;
    loop {
        match make_exactly(disk, path, bytes) {
            Err(error) if error.is_full() && bytes / 2 >= segment_bytes / SMALLEST_PART => bytes /= 2,
            made => return made,
        }
    }
}

fn make_exactly(disk: &Disk, path: &Path, bytes: u64) -> Result<File, Error> {
    if disk.exists(path) {
        disk.remove(path)?;
    }
    let file = disk.open(path, Open::CreateNew)?;
    let made = file.set_len(bytes).and_then(|()| file.reserve(0, bytes));
    if let Err(error) = made {
        disk.remove(path)?;
        return Err(Error::io(path, error));
    }
    Ok(file)
}

/// Writes zeroes over `range` of a file, durably.
pub fn zero(file: &File, range: std::ops::Range<u64>) -> std::io::Result<()> {
    let zeroes = vec![0; ZEROES_BYTES.min((range.end - range.start) as usize)];
    for at in range.clone().step_by(ZEROES_BYTES) {
        let length = (range.end - at).min(ZEROES_BYTES as u64);
        file.write_all_at(&zeroes[..length as usize], at)?;
        file.sync_data()?;
    }
    Ok(())
}

fn path_of(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("{id:016x}.wal"))
}

/// The segments in `directory`, oldest first.
pub fn list(disk: &Disk, directory: &Path) -> Result<Vec<u64>, Error> {
    let id_of = |name: &String| {
        let digits = name.strip_suffix(".wal").filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok()
    };
    Ok(disk.list(directory)?.iter().filter_map(id_of).collect())
}
