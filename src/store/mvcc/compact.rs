//! Compaction: a floor below which history is gone at once, and the sweep that frees it bit by bit.
//!
//! The newest change of each key at or below the floor stays if it is a put, or a deletion at the floor itself. No
//! answer depends on how far the sweep is: reads below the floor fail anyway.

use super::index::{Change, Index, Rev};
use crate::store::Error;
use crate::world::planted::planted;

impl Index {
    /// Raises the floor to `revision`.
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        // A deletion at the old floor stayed because of that floor: look at it again.
        self.swept = self.swept.min(Rev { main: self.compacted.max(0), sub: 0 });
        self.compacted = revision;
        Ok(())
    }

    pub fn is_swept(&self) -> bool {
        self.swept.main > self.compacted
    }

    /// Looks at up to `changes_max` changes and gives what it freed.
    pub fn sweep(&mut self, changes_max: usize) -> Vec<Change> {
        let floor = self.compacted;
        let next = Rev { main: floor + 1, sub: 0 };
        let due: Vec<(Rev, Rev, bool)> = self
            .changes_from(self.swept)
            .take_while(|(at, _)| *at < next)
            .take(changes_max)
            .map(|(at, change)| {
                (at, change.prev, (change.is_deletion() || planted!("compact-drops-live")) && at.main < floor)
            })
            .collect();
        self.swept = match due.last() {
            Some((last, ..)) if due.len() == changes_max => Rev { main: last.main, sub: last.sub + 1 },
            _ => next,
        };
        let mut freed = Vec::new();
        for (at, prev, gone) in due {
            freed.extend(self.remove(prev));
            if gone {
                freed.extend(self.remove(at));
            }
        }
        freed
    }
}
