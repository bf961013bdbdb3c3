//! The applied state of one member.

use std::io;
use std::path::PathBuf;

use crate::raft::machine::{Applied, Committed, Machine, Position, Snapshot};

/// The applied state, driven by the replica.
pub struct StateMachine {}

impl Machine for StateMachine {
    fn applied(&self) -> Applied {
        Applied::default()
    }

    fn apply(&mut self, _entries: Vec<Committed>) -> io::Result<()> {
        Ok(())
    }

    fn durable(&self) -> Option<Position> {
        None
    }

    fn snapshot(&mut self) -> io::Result<Snapshot> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn incoming(&mut self) -> io::Result<PathBuf> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn install(&mut self, _directory: PathBuf) -> io::Result<Applied> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
