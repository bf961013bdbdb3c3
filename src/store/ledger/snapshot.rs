//! A snapshot for a peer that lags behind: its content is fixed under the ledger's lock, its files are made outside of
//! it.

use std::io;
use std::path::PathBuf;

use super::Ledger;
use crate::disk;
use crate::disk::segments::Hold;
use crate::raft::machine::Applied;
use crate::store::checkpoint;
use crate::store::files::{Files, Scratch};
use crate::store::state::State;
use crate::world::World;

impl Ledger {
    /// A snapshot of the present state.
    pub fn snapshot(&self) -> Result<Outgoing, disk::Error> {
        self.must_not_stall()?;
        let (world, files, state) = (self.world.clone(), self.files.clone(), self.state.clone());
        Ok(Outgoing { world, files, state, frames: self.segments.hold() })
    }
}

/// A snapshot for a peer: its content is fixed, its files are yet to be made. Until then it holds the files of the
/// state.
pub struct Outgoing {
    world: World,
    files: Files,
    state: State,
    frames: Hold,
}

impl Outgoing {
    pub fn applied(&self) -> Applied {
        Applied { at: self.state.applied, membership: self.state.membership.clone() }
    }

    /// Makes the files, which are removed with the returned [`Scratch`]. This takes its time; only the caller waits.
    pub fn prepare(self) -> io::Result<(Vec<PathBuf>, Scratch)> {
        let scratch = self.files.scratch()?;
        let mut files = self.frames.link_into(&scratch.directory)?;
        let index = Files::index_in(&scratch.directory);
        checkpoint::write(&self.world, &index, &self.state, self.frames.end)?;
        files.push(index);
        Ok((files, scratch))
    }
}
