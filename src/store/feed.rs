//! From the state machine to the watch hub: what happened, in order, within bounds. When the hub falls behind, what
//! waits is dropped and the hub told so: it then reads the history instead.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::ledger::Happened;
use super::weight::weight;
use crate::actor::metrics::Counter;

/// Events that wait for the hub, and bytes of them.
const EVENTS_MAX: usize = 65_536;
const BYTES_MAX: usize = 64 << 20;

/// What the hub finds when it looks.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    pub happened: Vec<Happened>,
    /// Something was left out after what the hub saw last, and before `happened`.
    pub lost: bool,
}

/// A bounded queue with one reader.
#[derive(Debug, Default)]
pub struct Feed {
    queue: Mutex<Queue>,
    ready: Notify,
    /// How often more was waiting than is kept.
    pub overflows: Counter,
}

#[derive(Debug, Default)]
struct Queue {
    happened: VecDeque<Happened>,
    events: usize,
    bytes: usize,
    lost: bool,
    /// Without a reader nothing is kept.
    read: bool,
}

impl Feed {
    pub fn push(&self, happened: Vec<Happened>) {
        if happened.is_empty() {
            return;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.read {
            return;
        }
        queue.events += happened.iter().map(|happened| happened.events.len()).sum::<usize>();
        queue.bytes += happened.iter().flat_map(|happened| &happened.events).map(weight).sum::<usize>();
        queue.happened.extend(happened);
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
    pub async fn take(&self) -> Batch {
        loop {
            if let Some(batch) = self.take_now() {
                return batch;
            }
            self.ready.notified().await;
        }
    }

    /// Takes all there is.
    pub fn take_now(&self) -> Option<Batch> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        (queue.events, queue.bytes) = (0, 0);
        let batch = Batch { happened: queue.happened.drain(..).collect(), lost: std::mem::take(&mut queue.lost) };
        (batch != Batch::default()).then_some(batch)
    }
}

impl Queue {
    fn forget(&mut self) {
        self.happened = VecDeque::new();
        (self.events, self.bytes) = (0, 0);
        self.lost = true;
    }
}

#[cfg(test)]
mod tests {
    use chorus_proto::mvccpb::{Event, KeyValue};

    use super::*;

    fn happened(revision: i64, bytes: usize) -> Vec<Happened> {
        let kv = KeyValue { value: vec![0; bytes].into(), mod_revision: revision, ..Default::default() };
        vec![Happened { revision, events: vec![Event { kv: Some(kv), ..Default::default() }] }]
    }

    #[test]
    fn what_waits_is_bounded_in_events_and_in_bytes() {
        for (count, bytes) in [(EVENTS_MAX, 0), (64, 1 << 20)] {
            let feed = Feed::default();
            feed.open();
            let fits = (1..=count as i64).find(|revision| {
                feed.push(happened(*revision, bytes));
                feed.overflows.get() > 0
            });
            assert!(fits.is_none_or(|overflow| overflow >= 60), "{fits:?}");
            while feed.overflows.get() == 0 {
                feed.push(happened(i64::MAX, bytes));
            }
            let batch = feed.take_now().unwrap();
            assert!(batch.lost && batch.happened.is_empty());
            feed.push(happened(5, bytes));
            let batch = feed.take_now().unwrap();
            assert!(!batch.lost && batch.happened.len() == 1, "it goes on after what was lost");
        }
    }
}
