//! Reading a data directory of etcd, or a snapshot file.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Error;
use crate::disk::etcd_wal::{self, Log, snap};
use crate::disk::{Position, bbolt};
use crate::store::database::import::{Database, Origin};
use crate::world::World;
use crate::world::disk::Open;

const SHA_BYTES: u64 = 32;
/// A database is a number of these.
const SECTOR_BYTES: u64 = 512;
const READ_BYTES: usize = 1 << 20;

/// A member's directory.
#[derive(Debug)]
pub struct Source {
    pub database: PathBuf,
    pub origin: Origin,
    pub log: Log,
}

impl Source {
    /// Reads the directory of a stopped member; its log may lie elsewhere than in `member/wal`.
    pub fn open(world: &World, data_dir: &Path, wal_dir: Option<&Path>) -> Result<Source, Error> {
        let (snap_dir, wal_dir) =
            (data_dir.join("member/snap"), wal_dir.map_or_else(|| data_dir.join("member/wal"), Path::to_owned));
        let log = etcd_wal::read(&world.disk, &wal_dir)?;
        let log = log.ok_or_else(|| {
            Error::unfit(&wal_dir, "there is no log of etcd; name the directory that etcd was given as its --data-dir")
        })?;
        let snap = snap::newest(&world.disk, &snap_dir)?.and_then(|snap| snap.metadata);
        let mut database = snap_dir.join("db");
        let mut origin = Database::open(world, &database)?.origin()?;
        // etcd puts a database that a member received in force at its next start.
        let sent = snap.as_ref().map(|snap| snap_dir.join(format!("{:016x}.snap.db", snap.index)));
        if let (Some(snap), Some(sent)) = (&snap, sent)
            && snap.index > origin.index
            && world.disk.exists(&sent)
        {
            origin = Database::open(world, &sent)?.origin()?;
            origin.index = origin.index.max(snap.index);
            origin.term = origin.term.or(Some(snap.term));
            database = sent;
        }
        let mut source = Source { database, origin, log };
        source.origin.term = source.origin.term.or_else(|| {
            let recorded = snap.filter(|snap| snap.index == source.origin.index).map(|snap| snap.term);
            recorded.or_else(|| source.term_of(source.origin.index))
        });
        Ok(source)
    }

    fn term_of(&self, index: u64) -> Option<u64> {
        let entry = self.log.entries.iter().find(|entry| entry.index == index).map(|entry| entry.term);
        entry.or_else(|| self.log.snapshots.iter().find(|snapshot| snapshot.index == index).map(|at| at.term))
    }

    /// The last entry that the database holds.
    pub fn applied(&self) -> Option<Position> {
        let term = self.origin.term.unwrap_or(self.log.state.term).max(1);
        (self.origin.index > 0).then_some(Position { term, index: self.origin.index })
    }
}

/// Checks a snapshot file against the SHA-256 at its end. One without is the copy of a database: it is taken only
/// where the check is waived.
pub fn check_snapshot(world: &World, path: &Path, skip_hash_check: bool) -> Result<(), Error> {
    let file = world.disk.open(path, Open::Read)?;
    let bytes = file.len()?;
    if skip_hash_check {
        return Ok(());
    }
    if bytes % SECTOR_BYTES != SHA_BYTES {
        return Err(Error::unfit(
            path,
            "it ends in no checksum; take it with --skip-hash-check if it is the copy of a database",
        ));
    }
    let mut hash = Sha256::new();
    let (mut buffer, end) = (vec![0; READ_BYTES], bytes - SHA_BYTES);
    let mut at = 0;
    while at < end {
        let chunk = &mut buffer[..(end - at).min(READ_BYTES as u64) as usize];
        file.read_exact_at(chunk, at)?;
        hash.update(&*chunk);
        at += chunk.len() as u64;
    }
    let mut expected = [0; SHA_BYTES as usize];
    file.read_exact_at(&mut expected, end)?;
    if hash.finalize()[..] != expected {
        return Err(crate::disk::Error::corrupt(path, end, "the checksum of the snapshot does not match").into());
    }
    // The checksum is not part of the pages.
    let reader = bbolt::Reader::open(&world.disk, path)?;
    match reader.pages_bytes() <= end {
        true => Ok(()),
        false => Err(crate::disk::Error::corrupt(path, end, "the file ends before its last page").into()),
    }
}
