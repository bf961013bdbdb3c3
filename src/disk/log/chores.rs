//! Housekeeping among the log's files, away from the thread that writes them.

use std::path::{Path, PathBuf};

use super::files::{SPARE, make_sparse, zero};
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

    /// Recycles or removes the released segments and makes a spare where there is none. Blocks.
    ///
    /// Segments go one by one, oldest first: after a crash a gapless run of them is left. None is written over before
    /// its old name is durably gone.
    pub fn run(self) -> Result<(), Error> {
        let (spare, scratch) = (self.directory.join(SPARE), self.directory.join("recycled.tmp"));
        for path in &self.released {
            let recycle = !self.disk.exists(&spare) && self.length(path)? == self.segment_bytes;
            if recycle {
                self.disk.rename(path, &scratch)?;
            } else {
                self.disk.remove(path)?;
            }
            self.disk.sync_dir(&self.directory)?;
            if recycle {
                self.disk.rename(&scratch, &spare)?;
            }
        }
        if self.disk.exists(&spare) { Ok(()) } else { self.make_spare(&spare) }
    }

    fn length(&self, path: &Path) -> Result<u64, Error> {
        self.disk.open(path, Open::Read)?.len().map_err(|error| Error::io(path, error))
    }

    fn make_spare(&self, spare: &Path) -> Result<(), Error> {
        let scratch = self.directory.join("spare.tmp");
        make_sparse(&self.disk, &scratch, self.segment_bytes)?;
        let file = self.disk.open(&scratch, Open::Write)?;
        zero(&file, 0..self.segment_bytes).map_err(|error| Error::io(&scratch, error))?;
        Ok(self.disk.rename(&scratch, spare)?)
    }
}
