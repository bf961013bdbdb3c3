//! Metrics of clients that reach a bound.

use crate::actor::metrics::{Counter, Gauge};

/// Counts of what was refused or ended so that no client uses up what all of them share.
#[derive(Default)]
pub struct Bounds {
    pub passwords_refused: Counter,
    pub large_reads_waiting: Gauge,
    pub large_reads_refused: Counter,
    pub snapshots_refused: Counter,
    /// Ranges and snapshots whose clients did not read them.
    pub answers_ended: Counter,
}
