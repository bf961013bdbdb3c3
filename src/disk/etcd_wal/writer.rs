//! Writing a log for etcd: records are gathered and go to the file when asked to; a file that has reached its length is
//! followed by the next.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::reader::{End, Log};
use super::record::{Entry, HardState, Kind, Metadata, Snapshot};
use super::{file_name, frame};
use crate::disk::Error;
use crate::world::disk::{Access, Open};
use crate::world::{Disk, File};

/// The writer of one directory.
#[derive(Debug)]
pub struct Writer {
    disk: Disk,
    directory: PathBuf,
    metadata: Metadata,
    file_bytes: u64,
    file: File,
    path: PathBuf,
    end: End,
    state: HardState,
    /// The index of the last entry.
    last: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins a log in `directory`, which is created and must not hold one.
    pub fn create(disk: &Disk, directory: &Path, metadata: Metadata, file_bytes: u64) -> Result<Writer, Error> {
        disk.create_dir_all(directory, Access::Owner)?;
        let end = End::default();
        let (file, path) = create_file(disk, directory, &end, file_bytes)?;
        let mut writer = Writer {
            disk: disk.clone(),
            directory: directory.to_owned(),
            metadata,
            file_bytes,
            file,
            path,
            end,
            state: HardState::default(),
            last: 0,
            buffer: Vec::new(),
        };
        writer.begin_file();
        writer.snapshot(&Snapshot::default());
        Ok(writer)
    }

    /// Goes on with a log that was read. Overwrites what a torn write left behind its end.
    pub fn resume(disk: &Disk, directory: &Path, log: &Log, file_bytes: u64) -> Result<Writer, Error> {
        let path = directory.join(file_name(log.end.sequence, log.end.index));
        let file = disk.open(&path, Open::Write)?;
        let length = file.len().map_err(|error| Error::io(&path, error))?.max(file_bytes);
        let cleared = file.set_len(log.end.offset).and_then(|()| file.set_len(length));
        cleared.map_err(|error| Error::io(&path, error))?;
        Ok(Writer {
            disk: disk.clone(),
            directory: directory.to_owned(),
            metadata: log.metadata,
            file_bytes,
            file,
            path,
            end: log.end.clone(),
            state: log.state,
            last: log.entries.last().map_or(0, |entry| entry.index),
            buffer: Vec::new(),
        })
    }

    /// The index of the last entry; 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    pub fn entry(&mut self, entry: &Entry) {
        self.last = entry.index;
        self.add(Kind::Entry, entry.encode_to_vec().into());
    }

    pub fn state(&mut self, state: HardState) {
        self.state = state;
        self.add(Kind::State, state.encode_to_vec().into());
    }

    pub fn snapshot(&mut self, snapshot: &Snapshot) {
        self.add(Kind::Snapshot, snapshot.encode_to_vec().into());
    }

    /// Writes what was added, and begins the next file once this one is full.
    pub fn write(&mut self) -> Result<(), Error> {
        let written = self.file.write_all_at(&self.buffer, self.end.offset);
        written.map_err(|error| Error::io(&self.path, error))?;
        self.end.offset += self.buffer.len() as u64;
        self.buffer.clear();
        if self.end.offset < self.file_bytes { Ok(()) } else { self.next_file() }
    }

    /// Bytes that were added and not yet written.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Makes the log durable, the names of its files included.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.write()?;
        self.file.sync_data().map_err(|error| Error::io(&self.path, error))?;
        Ok(self.disk.sync_dir(&self.directory)?)
    }

    fn next_file(&mut self) -> Result<(), Error> {
        let cut = self.file.set_len(self.end.offset).and_then(|()| self.file.sync_data());
        cut.map_err(|error| Error::io(&self.path, error))?;
        self.end = End { sequence: self.end.sequence + 1, index: self.last + 1, offset: 0, crc: self.end.crc };
        (self.file, self.path) = create_file(&self.disk, &self.directory, &self.end, self.file_bytes)?;
        self.begin_file();
        self.state(self.state);
        self.write()
    }

    fn begin_file(&mut self) {
        self.end.crc = frame::encode(&mut self.buffer, self.end.crc, Kind::Crc, None);
        self.add(Kind::Metadata, self.metadata.encode_to_vec().into());
    }

    fn add(&mut self, kind: Kind, data: Bytes) {
        self.end.crc = frame::encode(&mut self.buffer, self.end.crc, kind, Some(data));
    }
}

/// A file of zeroes, as etcd preallocates it.
fn create_file(disk: &Disk, directory: &Path, end: &End, file_bytes: u64) -> Result<(File, PathBuf), Error> {
    let path = directory.join(file_name(end.sequence, end.index));
    let created = disk.open(&path, Open::CreateNew);
    let file = created.and_then(|file: File| file.set_len(file_bytes).map(|()| file));
    Ok((file.map_err(|error: io::Error| Error::io(&path, error))?, path))
}
