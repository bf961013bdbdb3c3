//! The threads that actors share.

use serde::{Deserialize, Serialize};

/// A thread that actors share in production. A busy lane never delays another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// The write-ahead log alone: it blocks on the disk.
    Log,
    /// The proposer.
    Consensus,
    /// Watch hub, lessor, compactor.
    Store,
    /// Controllers, scheduler.
    Control,
    /// The node agent and its pods.
    Agent,
    /// Blocking background work on the disk: checkpoints, segment reclaim, the notebook.
    Background,
}

pub(super) const LANES: [Lane; 6] =
    [Lane::Log, Lane::Consensus, Lane::Store, Lane::Control, Lane::Agent, Lane::Background];
