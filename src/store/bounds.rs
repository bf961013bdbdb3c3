//! What is counted of clients that reach a bound.

use crate::actor::metrics::{Counter, Gauge};

/// What was refused or ended to keep clients from using up what all share.
#[derive(Default)]
pub struct Bounds {
    pub passwords_refused: Counter,
    pub large_reads_waiting: Gauge,
    pub large_reads_refused: Counter,
    pub snapshots_refused: Counter,
    /// Ranges and snapshots whose clients did not read them.
    pub answers_ended: Counter,
}
