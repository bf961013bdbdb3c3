//! The generation of a store's files. Installing a snapshot replaces the state and all of its files: a background step
//! that began before must not touch the files that came after, however alike the two look.

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

/// Where a background step began. It acts on these segments only, and on the ledger only while that has the same
/// generation; see [`MemberState::ledger_of`](super::member_state::MemberState::ledger_of).
#[derive(Clone)]
pub struct Basis {
    pub generation: Generation,
    pub segments: Segments,
}

/// Why a background step did not finish.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A snapshot was installed, so there is nothing left to do for the old files. Begin again with the new ones.
    #[error("a snapshot was installed meanwhile")]
    Superseded,
    /// The files could not be read or written.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}
