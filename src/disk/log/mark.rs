//! A file beside the log that says how far the log is durable: written after every sync, never synced itself.
//!
//! ```text
//!   mark   segment 8 | offset 8 | crc 4
//! ```
//!
//! Frames witness the durability of those before them, but nothing witnesses the last ones. The mark does, as long as
//! the machine stays up: a process that was killed leaves it. A power failure may lose it, which costs nothing but the
//! knowledge; it can never claim too much.

use std::path::Path;

use crc32c::crc32c;

use crate::disk::Error;
use crate::world::disk::Open;
use crate::world::{Disk, File};

const NAME: &str = "synced";
const MARK_BYTES: usize = 20;

/// A point in the log up to which it was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Synced {
    pub segment: u64,
    pub offset: u64,
}

/// The file of the mark.
#[derive(Debug)]
pub struct Mark(File);

impl Mark {
    pub fn open(disk: &Disk, directory: &Path) -> Result<Mark, Error> {
        let path = directory.join(NAME);
        let how = if disk.exists(&path) { Open::Write } else { Open::CreateNew };
        Ok(Mark(disk.open(&path, how)?))
    }

    /// A mark that could not be written makes the log no less durable.
    pub fn set(&self, synced: Synced) {
        if let Err(error) = self.0.write_all_at(&encode(synced), 0) {
            tracing::debug!(%error, "the mark of the write-ahead log was not written");
        }
    }
}

/// The mark in `directory`; `None` when there is none, or none that can be trusted.
pub fn read(disk: &Disk, directory: &Path) -> Result<Option<Synced>, Error> {
    let path = directory.join(NAME);
    if !disk.exists(&path) {
        return Ok(None);
    }
    let bytes = disk.read(&path)?;
    let synced = decode(&bytes);
    if synced.is_none() && !bytes.is_empty() {
        tracing::warn!(file = %path.display(), "the mark does not verify; damage to the last write would go unnoticed");
    }
    Ok(synced)
}

fn encode(synced: Synced) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[..8].copy_from_slice(&synced.segment.to_le_bytes());
    bytes[8..16].copy_from_slice(&synced.offset.to_le_bytes());
    let crc = crc32c(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Synced> {
    let bytes: &[u8; MARK_BYTES] = bytes.try_into().ok()?;
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let synced = Synced { segment: number(0), offset: number(8) };
    (encode(synced) == *bytes).then_some(synced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_or_does_not_verify() {
        let synced = Synced { segment: 3, offset: 4096 };
        let bytes = encode(synced);
        assert_eq!(decode(&bytes), Some(synced));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
        assert_eq!(decode(&bytes[1..]), None);
    }
}
