//! Housekeeping among the log's files, away from the thread that writes them.

use std::path::{Path, PathBuf};

use super::segment::{SPARE, make, zero};
use crate::disk::Error;
use crate::world::Disk;
use crate::world::disk::Open;

/// Work on files that nobody waits for.
#[derive(Debug)]
pub struct Chores {
    disk: Disk,
    directory: PathBuf,
    released: Vec<PathBuf>,
    segment_bytes: u64,
}

impl Chores {
    pub fn new(disk: &Disk, directory: &Path, released: Vec<PathBuf>, segment_bytes: u64) -> Chores {
        Chores { disk: disk.clone(), directory: directory.to_owned(), released, segment_bytes }
    }

    /// Recycles or removes the released segments, and makes a spare segment if there is none. Blocks.
    ///
    /// It removes segments one by one, oldest first, each durably before the next, so a crash leaves a gapless run of
    /// them. It overwrites none before its old name is durably gone.
    pub fn run(&mut self) -> Result<(), Error> {
        let (spare, scratch) = (self.directory.join(SPARE), self.directory.join("recycled.tmp"));
        while let Some(path) = self.released.first() {
            // A segment that was removed, but not yet durably, stays the first until it is.
            if self.disk.exists(path) {
                if !self.disk.exists(&spare) && self.length(path)? == self.segment_bytes {
                    self.disk.rename(path, &scratch)?;
                } else {
                    self.disk.remove(path)?;
                }
            }
            self.disk.sync_dir(&self.directory)?;
            self.released.remove(0);
            if self.disk.exists(&scratch) {
                self.disk.rename(&scratch, &spare)?;
            }
        }
        if self.disk.exists(&spare) { Ok(()) } else { self.make_spare(&spare) }
    }

    /// The segments that are yet to be removed.
    pub fn left(self) -> Vec<PathBuf> {
        self.released
    }

    fn length(&self, path: &Path) -> Result<u64, Error> {
        self.disk.open(path, Open::Read)?.len().map_err(|error| Error::io(path, error))
    }

    fn make_spare(&self, spare: &Path) -> Result<(), Error> {
        let scratch = self.directory.join("spare.tmp");
        let file = make(&self.disk, &scratch, self.segment_bytes)?;
        let zeroed = file.len().and_then(|bytes| zero(&file, 0..bytes));
        if let Err(error) = zeroed {
            self.disk.remove(&scratch)?;
            return Err(Error::io(&scratch, error));
        }
        Ok(self.disk.rename(&scratch, spare)?)
    }
}
