//! Another state in the place of a ledger's. It is read and put in force while everything else goes on with the old one;
//! whoever installs it then swaps the two.

use std::io;
use std::path::Path;

use super::Ledger;
use crate::disk::Segments;
use crate::store::checkpoint;
use crate::store::files::Files;
use crate::store::mvcc::Rev;
use crate::world::World;
use crate::world::planted::planted;

impl Ledger {
    /// Whoever puts another state in the place of this one.
    pub fn successor(&self) -> Successor {
        Successor { world: self.world.clone(), files: self.files.clone(), segment_bytes: self.segment_bytes }
    }

    /// Removes the files of a state that another one has replaced.
    pub fn discard(self) {
        if let Err(error) = self.files.remove() {
            tracing::warn!(%error, "the files of a state that was replaced go at the next start");
        }
    }
}

/// Puts another state in the place of a ledger's, beside everything that still goes on with it.
pub struct Successor {
    world: World,
    files: Files,
    segment_bytes: u32,
}

impl Successor {
    /// Puts the files in `directory` in force, durably, and opens them. They are read before. The files of the ledger
    /// before stay until [`Ledger::discard`].
    pub fn install(self, directory: &Path) -> io::Result<Ledger> {
        if checkpoint::read(&self.world, &Files::index_in(directory))?.is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the snapshot has no index"));
        }
        Segments::prepare(&self.world.disk, directory)?;
        let files = self.files.replace(directory)?;
        let mut ledger = Ledger::load(&self.world, files, self.segment_bytes)?;
        if planted!("snapshot-misses-end") {
            ledger.state.index.remove(Rev { main: ledger.state.index.revision, sub: 0 });
        }
        Ok(ledger)
    }
}
