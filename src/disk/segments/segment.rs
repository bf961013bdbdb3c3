//! One segment file: reading, writing and creating it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use super::frame::{self, Frame, Parsed, RECORD_HEAD_BYTES, SEGMENT_HEAD_BYTES, Seed};
use super::location::{RecordLocation, SegmentId};
use crate::disk::Error;
use crate::disk::space::is_full;
use crate::world::disk::Open;
use crate::world::{Disk, File, Random};

/// A segment file; clones of its handle read it from any thread.
#[derive(Debug)]
pub struct Segment {
    pub id: SegmentId,
    pub path: PathBuf,
    pub seed: Seed,
    pub file: File,
    /// Writes before this offset need no more disk space.
    reserved: AtomicU32,
}

/// Bytes of one piece of a copy.
const COPY_BYTES: u32 = 1 << 20;

/// The smallest part of the space ahead that suffices.
const SMALLEST_PART: u32 = 16;

impl Segment {
    pub fn open(disk: &Disk, directory: &Path, id: SegmentId) -> Result<Segment, Error> {
        let path = path_of(directory, id);
        let file = disk.open(&path, Open::Write)?;
        let mut head = [0; SEGMENT_HEAD_BYTES as usize];
        file.read_exact_at(&mut head, 0).map_err(|error| short(&path, 0, error))?;
        let seed = frame::read_segment_head(&head, id).map_err(|reason| Error::corrupt(&path, 0, reason))?;
        Ok(Segment { id, path, seed, file, reserved: AtomicU32::new(0) })
    }

    pub fn length(&self) -> Result<u64, Error> {
        self.file.len().map_err(|error| Error::io(&self.path, error))
    }

    pub fn write(&self, bytes: &[u8], offset: u32) -> Result<(), Error> {
        self.file.write_all_at(bytes, u64::from(offset)).map_err(|error| Error::io(&self.path, error))
    }

    /// Reserves disk space for about `ahead` bytes from `offset` on. An error means that they have almost none.
    pub fn reserve(&self, offset: u32, ahead: u32) -> Result<(), Error> {
        let reserved = || self.reserved.load(Ordering::Relaxed);
        if reserved() >= offset.saturating_add(ahead / 2) {
            return Ok(());
        }
        let mut bytes = ahead;
        loop {
            match self.file.reserve(u64::from(offset), u64::from(bytes)) {
                Ok(()) => {
                    self.reserved.fetch_max(offset.saturating_add(bytes), Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) if is_full(&error) && bytes > ahead / SMALLEST_PART => bytes /= 4,
                Err(_) if reserved() >= offset.saturating_add(ahead / SMALLEST_PART) => return Ok(()),
                Err(error) => return Err(Error::io(&self.path, error)),
            }
        }
    }

    /// Frees the space that is still reserved for a segment which takes no more frames.
    pub fn trim(&self) -> Result<(), Error> {
        if u64::from(self.reserved.swap(0, Ordering::Relaxed)) > self.length()? {
            let length = self.length()?;
            self.file.set_len(length).map_err(|error| Error::io(&self.path, error))?;
        }
        Ok(())
    }

    pub fn read(&self, location: RecordLocation) -> Result<Bytes, Error> {
        let mut bytes = vec![0; RECORD_HEAD_BYTES + location.length as usize];
        let offset = u64::from(location.offset);
        self.file.read_exact_at(&mut bytes, offset).map_err(|error| short(&self.path, offset, error))?;
        let (head, content) = bytes.split_at(RECORD_HEAD_BYTES);
        frame::check_record(self.seed, location.offset, head, content)
            .map_err(|reason| Error::corrupt(&self.path, offset, reason))?;
        Ok(Bytes::from(bytes).slice(RECORD_HEAD_BYTES..))
    }

    /// Visits the frames from `offset` to `stop`, or to the seal.
    pub fn scan<F, E>(&self, mut offset: u32, stop: Option<u32>, visit: &mut F) -> Result<(), E>
    where
        F: FnMut(Frame) -> Result<(), E>,
        E: From<Error>,
    {
        let bytes = self.content()?;
        while Some(offset) != stop {
            match frame::parse(&bytes, self.id, self.seed, offset) {
                Ok(Parsed::Frame(frame, _)) => {
                    offset = frame.end.offset;
                    visit(frame)?;
                }
                Ok(Parsed::Seal(_)) if stop.is_none() => return Ok(()),
                Ok(Parsed::Seal(_) | Parsed::End) => {
                    return Err(self.corrupt(offset, "frames are missing at the end").into());
                }
                Err(reason) => return Err(self.corrupt(offset, reason).into()),
            }
        }
        Ok(())
    }

    /// The whole content, even after the file was removed.
    pub fn content(&self) -> Result<Bytes, Error> {
        let length = usize::try_from(self.length()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, 0).map_err(|error| short(&self.path, 0, error))?;
        Ok(bytes.into())
    }

    /// Makes `path` a file with its first `bytes` bytes.
    pub fn copy_start(&self, disk: &Disk, path: &Path, bytes: u32) -> Result<(), Error> {
        let copy = disk.open(path, Open::CreateNew)?;
        let (mut offset, mut piece) = (0, Vec::new());
        while offset < bytes {
            piece.resize(COPY_BYTES.min(bytes - offset) as usize, 0);
            let at = u64::from(offset);
            self.file.read_exact_at(&mut piece, at).map_err(|error| short(&self.path, at, error))?;
            copy.write_all_at(&piece, at).map_err(|error| Error::io(path, error))?;
            offset += piece.len() as u32;
        }
        Ok(())
    }

    fn corrupt(&self, offset: u32, reason: &str) -> Error {
        Error::corrupt(&self.path, u64::from(offset), reason)
    }
}

/// A file that ends too early has lost bytes; any other error is the operating system's.
fn short(path: &Path, offset: u64, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Error::corrupt(path, offset, "the file ends before it should");
    }
    Error::io(path, error)
}

/// Creates an empty segment under its name, durably.
pub fn create(disk: &Disk, random: &Random, directory: &Path, id: SegmentId) -> Result<Segment, Error> {
    let (path, scratch) = (path_of(directory, id), directory.join("new.tmp"));
    if disk.exists(&scratch) {
        disk.remove(&scratch)?;
    }
    let file = disk.open(&scratch, Open::CreateNew)?;
    let head = frame::segment_head(id, random.u64());
    if let Err(error) = file.write_all_at(&head, 0).and_then(|()| file.sync_data()) {
        disk.remove(&scratch)?;
        return Err(Error::io(&scratch, error));
    }
    disk.rename(&scratch, &path)?;
    disk.sync_dir(directory)?;
    Ok(Segment { id, path, seed: Seed::of(&head), file, reserved: AtomicU32::new(0) })
}

/// The name of segment `id`.
pub fn path_of(directory: &Path, id: SegmentId) -> PathBuf {
    directory.join(format!("{:08x}.seg", id.0))
}

/// The segment that a file is named for.
pub fn id_of(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok().map(SegmentId)
}
