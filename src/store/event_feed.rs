//! The events of applied revisions, in order, on their way from the state machine to the watch hub. The feed is
//! bounded: when the hub falls behind, the feed drops what waits and says so, and the hub reads the history instead.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::ledger::RevisionEvents;
use super::weight::weight;
use crate::actor::metrics::Counter;

/// Events that wait for the hub, and bytes of them.
const EVENTS_MAX: usize = 65_536;
const BYTES_MAX: usize = 64 << 20;

/// What the hub takes from the feed at once.
#[derive(Debug, Default, PartialEq)]
pub struct EventBatch {
    pub revisions: Vec<RevisionEvents>,
    /// Something was left out after what the hub saw last, and before `revisions`.
    pub lost: bool,
}

/// A bounded queue with one reader.
#[derive(Debug, Default)]
pub struct EventFeed {
    queue: Mutex<Queue>,
    ready: Notify,
    /// How often the feed dropped what waited.
    pub overflows: Counter,
}

#[derive(Debug, Default)]
struct Queue {
    revisions: VecDeque<RevisionEvents>,
    events: usize,
    bytes: usize,
    lost: bool,
    /// Without a reader nothing is kept.
    read: bool,
}

impl EventFeed {
    pub fn push(&self, revisions: Vec<RevisionEvents>) {
        if revisions.is_empty() {
            return;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.read {
            return;
        }
        queue.events += revisions.iter().map(|revision| revision.events.len()).sum::<usize>();
        queue.bytes += revisions.iter().flat_map(|revision| &revision.events).map(weight).sum::<usize>();
        queue.revisions.extend(revisions);
        if queue.events > EVENTS_MAX || queue.bytes > BYTES_MAX {
            queue.forget();
            self.overflows.inc();
        }
        drop(queue);
        self.ready.notify_one();
    }

    /// From here on the queue is kept for its reader.
    pub fn open(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).read = true;
    }

    /// Tells the hub that the state changed in a way that no events describe.
    pub fn lose(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).forget();
        self.ready.notify_one();
    }

    /// Waits until there is something, and takes all of it.
    pub async fn take(&self) -> EventBatch {
        loop {
            if let Some(batch) = self.take_now() {
                return batch;
            }
            self.ready.notified().await;
        }
    }

    /// Takes all there is.
    pub fn take_now(&self) -> Option<EventBatch> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        (queue.events, queue.bytes) = (0, 0);
        let batch =
            EventBatch { revisions: queue.revisions.drain(..).collect(), lost: std::mem::take(&mut queue.lost) };
        (batch != EventBatch::default()).then_some(batch)
    }
}

impl Queue {
    fn forget(&mut self) {
        self.revisions = VecDeque::new();
        (self.events, self.bytes) = (0, 0);
        self.lost = true;
    }
}

#[cfg(test)]
mod tests {
    use chorus_proto::mvccpb::{Event, KeyValue};

    use super::*;

    fn events_of(revision: i64, bytes: usize) -> Vec<RevisionEvents> {
        let kv = KeyValue { value: vec![0; bytes].into(), mod_revision: revision, ..Default::default() };
        vec![RevisionEvents { revision, events: vec![Event { kv: Some(kv), ..Default::default() }] }]
    }

    #[test]
    fn what_waits_is_bounded_in_events_and_in_bytes() {
        for (count, bytes) in [(EVENTS_MAX, 0), (64, 1 << 20)] {
            let feed = EventFeed::default();
            feed.open();
            let fits = (1..=count as i64).find(|revision| {
                feed.push(events_of(*revision, bytes));
                feed.overflows.get() > 0
            });
            assert!(fits.is_none_or(|overflow| overflow >= 60), "{fits:?}");
            while feed.overflows.get() == 0 {
                feed.push(events_of(i64::MAX, bytes));
            }
            let batch = feed.take_now().unwrap();
            assert!(batch.lost && batch.revisions.is_empty());
            feed.push(events_of(5, bytes));
            let batch = feed.take_now().unwrap();
            assert!(!batch.lost && batch.revisions.len() == 1, "it goes on after what was lost");
        }
    }
}
