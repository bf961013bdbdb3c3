//! The bounded queue of responses of one stream.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chorus_proto::etcdserverpb::WatchResponse;
use tokio::sync::Notify;

/// Responses with events that may wait; as in etcd.
const RESPONSES_MAX: usize = 128;

/// What waits to be sent. The hub writes, the stream of one client reads.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Queue>,
    written: Notify,
    read: Notify,
    /// Told when a queue that had no room has some again.
    hub: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Queue {
    responses: VecDeque<WatchResponse>,
    closed: bool,
    /// The hub found no room.
    missed: bool,
}

impl Outbox {
    pub fn new(hub: Arc<Notify>) -> Outbox {
        Outbox { queue: Mutex::default(), written: Notify::new(), read: Notify::new(), hub }
    }

    /// Whether events may be pushed. When not, the hub hears once there is room again.
    pub fn has_room(&self) -> bool {
        let mut queue = self.lock();
        queue.missed = queue.responses.len() >= RESPONSES_MAX;
        !queue.missed
    }

    /// Answers to requests go in whether there is room or not: who asks is held back by [`Outbox::drained`].
    pub fn push(&self, response: WatchResponse) {
        self.lock().responses.push_back(response);
        self.written.notify_one();
    }

    /// Nothing more will come: the reader gets what is there, and the end.
    pub fn close(&self) {
        self.lock().closed = true;
        self.written.notify_one();
        self.read.notify_one();
    }

    /// The next response; `None` at the end.
    pub async fn next(&self) -> Option<WatchResponse> {
        loop {
            let written = self.written.notified();
            match self.pop() {
                Some(response) => return Some(response),
                None if self.lock().closed => return None,
                None => written.await,
            }
        }
    }

    /// Resolves once another request may be taken from the client.
    pub async fn drained(&self) {
        loop {
            let read = self.read.notified();
            if self.is_drained() {
                return;
            }
            read.await;
        }
    }

    fn is_drained(&self) -> bool {
        let queue = self.lock();
        queue.closed || queue.responses.len() < 2 * RESPONSES_MAX
    }

    pub fn pop(&self) -> Option<WatchResponse> {
        let mut queue = self.lock();
        let response = queue.responses.pop_front()?;
        let length = queue.responses.len();
        let room_again = queue.missed && length <= RESPONSES_MAX / 2;
        queue.missed &= !room_again;
        drop(queue);
        if room_again {
            self.hub.notify_one();
        }
        if length < 2 * RESPONSES_MAX {
            self.read.notify_one();
        }
        Some(response)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
