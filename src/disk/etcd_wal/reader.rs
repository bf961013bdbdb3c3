//! Reading a log that etcd wrote, or that was written for it. Damage is an error. A torn write at the very end is none,
//! because it was never acknowledged.

use std::path::Path;

use bytes::Bytes;
use prost::Message;

use super::frame::{self, Parsed};
use super::record::{Entry, HardState, Kind, Metadata, Snapshot};
use super::{file_name, parse_file_name};
use crate::disk::Error;
use crate::world::Disk;

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    pub metadata: Metadata,
    pub state: HardState,
    /// In the order in which they were recorded.
    pub snapshots: Vec<Snapshot>,
    /// A gapless run, without entries that later ones replaced. In a log that went on from a snapshot of another
    /// member, it begins after that snapshot.
    pub entries: Vec<Entry>,
    pub end: End,
}

/// Where the last record ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    pub sequence: u64,
    /// The index in the name of the last file.
    pub index: u64,
    pub offset: u64,
    pub crc: u32,
}

/// Reads the log in `directory`; `None` when there is no file of one.
pub fn read(disk: &Disk, directory: &Path) -> Result<Option<Log>, Error> {
    let mut names: Vec<(u64, u64)> = match disk.exists(directory) {
        true => disk.list(directory)?.iter().filter_map(|name| parse_file_name(name)).collect(),
        false => Vec::new(),
    };
    names.sort_unstable();
    let Some(((last, _), [first, ..])) = names.last().copied().zip(Some(&names[..])) else { return Ok(None) };
    let first = first.0;
    let (mut log, mut crc) = (Log::default(), None);
    for (at, (sequence, index)) in names.iter().copied().enumerate() {
        let path = directory.join(file_name(sequence, index));
        if sequence != first + at as u64 {
            return Err(Error::corrupt(&path, 0, "a file is missing before it"));
        }
        let bytes = Bytes::from(disk.read(&path)?);
        let offset = log.read_file(&path, &bytes, &mut crc, sequence == last)?;
        log.end = End { sequence, index, offset, crc: crc.unwrap_or_default() };
    }
    Ok(Some(log))
}

impl Log {
    /// Reads one file. Returns where its records end.
    fn read_file(&mut self, path: &Path, bytes: &Bytes, crc: &mut Option<u32>, last: bool) -> Result<u64, Error> {
        let mut offset = 0;
        loop {
            match frame::parse(bytes, offset, *crc) {
                Ok(Parsed::Record { kind, data, crc: now, end }) => {
                    let taken = self.take(kind, data);
                    taken.map_err(|reason| Error::corrupt(path, offset as u64, reason))?;
                    (offset, *crc) = (end, Some(now));
                }
                Ok(Parsed::End) => return Ok(offset as u64),
                Err(unsound) if unsound.torn && last => {
                    tracing::warn!(file = %path.display(), offset, "the log ends in a torn write");
                    return Ok(offset as u64);
                }
                Err(unsound) => return Err(Error::corrupt(path, offset as u64, unsound.reason)),
            }
        }
    }

    fn take(&mut self, kind: Kind, data: Bytes) -> Result<(), String> {
        let malformed = |error: prost::DecodeError| format!("{error}");
        match kind {
            Kind::Crc => {}
            Kind::Metadata => {
                let metadata = Metadata::decode(data).map_err(malformed)?;
                if self.metadata != Metadata::default() && self.metadata != metadata {
                    return Err("the file is of another member's log".to_owned());
                }
                self.metadata = metadata;
            }
            Kind::State => self.state = HardState::decode(data).map_err(malformed)?,
            Kind::Snapshot => self.snapshots.push(Snapshot::decode(data).map_err(malformed)?),
            Kind::Entry => self.take_entry(Entry::decode(data).map_err(malformed)?)?,
        }
        Ok(())
    }

    /// An entry replaces the one with its index and all behind it. An entry further on begins a new run, if a snapshot
    /// says that the log went on there.
    fn take_entry(&mut self, entry: Entry) -> Result<(), String> {
        let after_snapshot = || self.snapshots.iter().any(|snapshot| snapshot.index.wrapping_add(1) == entry.index);
        match self.entries.last() {
            Some(last) if entry.index == last.index.wrapping_add(1) => {}
            Some(last) if entry.index <= last.index => {
                let keep = self.entries.partition_point(|before| before.index < entry.index);
                self.entries.truncate(keep);
            }
            Some(last) if !after_snapshot() => return Err(format!("entry {} comes after {}", entry.index, last.index)),
            _ => self.entries.clear(),
        }
        self.entries.push(entry);
        Ok(())
    }
}
