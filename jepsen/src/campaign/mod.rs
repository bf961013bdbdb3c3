//! Campaigns: one question, asked again and again, with a figure as the answer.
//!
//! Each fills in what its caller holds, so that what was found is there however the campaign ends: an error is trouble
//! of the harness, and takes nothing of it back.
//!
//! - [`failover`]: how long writes stop when the leader dies
//! - [`power`]: whether a write is still there after the power of all members was cut
//! - [`prove`]: whether the checks bite, with planted bugs
//! - [`soak`]: runs of all kinds in turn, for hours
//! - [`upgrade`]: whether members change their binary one by one under writes
//! - `writers`: who write meanwhile, and whether what was acknowledged is there

pub mod failover;
pub mod power;
pub mod prove;
pub mod soak;
pub mod upgrade;
mod writers;

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::time::Duration;

/// Whether a campaign is to end with what it has so far. Cheap to clone.
#[derive(Clone, Default)]
pub struct Ending(Rc<Cell<bool>>);

impl Ending {
    /// Whether this is the first time that it is told.
    pub fn begin(&self) -> bool {
        !self.0.replace(true)
    }

    fn has_begun(&self) -> bool {
        self.0.get()
    }
}

/// Shows how far a campaign has come, on a terminal.
fn show(line: &str) {
    if std::io::stderr().is_terminal() {
        let mut terminal = std::io::stderr();
        let _ = write!(terminal, "\r\x1b[K{line}").and_then(|()| terminal.flush());
    }
}

/// What `share` of all `times` are at most.
fn quantile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(at - 1).copied().unwrap_or_default()
}
