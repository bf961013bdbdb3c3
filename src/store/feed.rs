//! From the state machine to the watch hub: what happened, in order, within bounds. When the hub falls behind, what
//! waits is dropped and the hub told so: it then reads the history instead.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::ledger::Happened;

/// Events that wait for the hub.
const EVENTS_MAX: usize = 65_536;

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
}

#[derive(Debug, Default)]
struct Queue {
    happened: VecDeque<Happened>,
    events: usize,
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
        queue.happened.extend(happened);
        if queue.events > EVENTS_MAX {
            queue.forget();
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
        queue.events = 0;
        let batch = Batch { happened: queue.happened.drain(..).collect(), lost: std::mem::take(&mut queue.lost) };
        (batch != Batch::default()).then_some(batch)
    }
}

impl Queue {
    fn forget(&mut self) {
        self.happened.clear();
        self.events = 0;
        self.lost = true;
    }
}
