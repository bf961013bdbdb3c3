//! A state for a peer that lags behind: what it holds is settled under the ledger's lock, its files are made outside.

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
    /// What a peer that lags behind needs.
    pub fn snapshot(&self) -> Result<Outgoing, disk::Error> {
        self.must_not_stall()?;
        let (world, files, state) = (self.world.clone(), self.files.clone(), self.state.clone());
        Ok(Outgoing { world, files, state, frames: self.segments.hold() })
    }
}

/// A state on its way to a peer: what it holds is settled, its files are yet to be made. Until then it holds those of the
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

    /// Makes the files; they go with what is returned beside them. Takes its time, and nobody's but the caller's.
    pub fn prepare(self) -> io::Result<(Vec<PathBuf>, Scratch)> {
        let scratch = self.files.scratch()?;
        let mut files = self.frames.link_into(&scratch.directory)?;
        let index = Files::index_in(&scratch.directory);
        checkpoint::write(&self.world, &index, &self.state, self.frames.end)?;
        files.push(index);
        Ok((files, scratch))
    }
}
