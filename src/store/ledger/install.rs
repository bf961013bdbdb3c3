//! Installing a snapshot. Its state is read and put in force while everything else goes on with the old ledger; then
//! the caller swaps the two.

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
    /// What installs the ledger that replaces this one.
    pub fn successor(&self) -> Successor {
        Successor { world: self.world.clone(), files: self.files.clone(), segment_bytes: self.segment_bytes }
    }

    /// Removes the files, after another ledger has replaced this one.
    pub fn discard(self) {
        if let Err(error) = self.files.remove() {
            tracing::warn!(%error, "failed to remove the files of a replaced state; the next start removes them");
        }
    }
}

/// Installs the ledger that replaces another one, while that one is still in use.
pub struct Successor {
    world: World,
    files: Files,
    segment_bytes: u32,
}

impl Successor {
    /// Reads the files in `directory`, puts them in force, durably, and opens them. The files of the ledger before stay
    /// until [`Ledger::discard`].
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
