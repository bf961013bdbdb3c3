//! What one watcher wants to see, and how it sees an event.

use chorus_proto::mvccpb::{Event, KeyValue, event::EventType};

use crate::store::mvcc::{Rev, Slot, Values};
use crate::store::range::{End, KeyRange};
use crate::store::view::View;
use crate::world::planted::planted;

/// What a client wants to see.
#[derive(Clone, Debug)]
pub struct Interest {
    pub range: KeyRange,
    pub puts: bool,
    pub deletions: bool,
    pub prev_kv: bool,
}

/// Bytes that a watcher takes in memory besides its range.
const WATCHER_BYTES: usize = 512;

impl Interest {
    /// About how many bytes a watcher with this interest takes in memory. Its range is kept in two places.
    pub fn bytes(&self) -> usize {
        let end = if let End::Before(end) = &self.range.end { end.len() } else { 0 };
        WATCHER_BYTES + 2 * (self.range.start.len() + end)
    }

    /// The event as this watcher sees it, if it does. `prev` looks up what was there before.
    pub fn see(&self, event: &Event, prev: impl FnOnce() -> Option<KeyValue>) -> Option<Event> {
        let wanted = if event.r#type == EventType::Put as i32 { self.puts } else { self.deletions };
        let prev_kv = if wanted && self.prev_kv { prev() } else { None };
        wanted.then(|| Event { prev_kv, ..event.clone() })
    }
}

/// The key of the change at `at` as it was just before that revision; nothing when compaction has passed that.
pub fn previous(view: &View, at: Rev) -> Option<KeyValue> {
    let index = &view.state.index;
    if at.main - 1 < index.compacted {
        return None;
    }
    let mut change = index.change(index.change(at)?.prev)?;
    let mut prev = index.change(at)?.prev;
    while prev.main == at.main {
        prev = change.prev;
        change = index.change(prev)?;
    }
    if planted!("wrong-prev-kv") {
        change = index.change(change.prev).unwrap_or(change);
    }
    let Slot::Stored(_) = change.slot else { return None };
    if change.is_deletion() {
        return None;
    }
    match view.segments.key_value(change.slot) {
        Ok(kv) => Some(kv),
        Err(fault) => {
            tracing::warn!(%fault, "cannot read a previous value; a watcher gets its event without it");
            None
        }
    }
}
