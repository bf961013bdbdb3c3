//! Which files a step belongs to. A snapshot that is installed replaces the state and all of its files: a step in the
//! background that began before must do nothing to what came after it, however alike the two look.

use std::fmt;

use crate::disk::{self, Segments};

/// The identity of a store's files, from one installed snapshot to the next. No two of a member are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u32);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}", self.0)
    }
}

/// What a step in the background began with. It acts on these segments alone, and on the ledger only as long as that is
/// of the same generation; see [`MemberState::ledger_of`](super::member_state::MemberState::ledger_of).
#[derive(Clone)]
pub struct Basis {
    pub generation: Generation,
    pub segments: Segments,
}

/// Why a step in the background did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A snapshot was installed, so that there is nothing left to do. Begin anew with what there is now.
    #[error("a snapshot was installed meanwhile")]
    Superseded,
    /// The files could not be read or written.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}
