//! The bounded queue of responses of one stream, and the bound on all such queues together.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chorus_proto::etcdserverpb::WatchResponse;
use tokio::sync::Notify;

use super::response;
use crate::store::Error;

/// Responses with events that may wait; as in etcd.
const RESPONSES_MAX: usize = 128;
/// Bytes of them.
const BYTES_MAX: usize = 8 << 20;

/// The bytes that wait for the clients of all streams. Clones share the count.
#[derive(Clone, Debug)]
pub struct Unread(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: AtomicUsize,
    bytes_max: usize,
    /// Some stream found no room because of the others.
    missed: AtomicBool,
    /// Notified when a queue that had no room has some again.
    room: Notify,
}

impl Unread {
    pub fn new(bytes_max: usize) -> Unread {
        let (bytes, missed, room) = Default::default();
        Unread(Arc::new(Inner { bytes, bytes_max, missed, room }))
    }

    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// More than half of the bytes that may wait do.
    pub fn is_short(&self) -> bool {
        self.bytes() > self.0.bytes_max / 2
    }

    /// Resolves when a queue that had no room has some again.
    pub async fn room(&self) {
        self.0.room.notified().await;
    }

    fn has_room(&self) -> bool {
        let has_room = self.bytes() < self.0.bytes_max;
        if !has_room {
            self.0.missed.store(true, Ordering::Relaxed);
        }
        has_room
    }

    fn add(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove(&self, bytes: usize) {
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if !self.is_short() && self.0.missed.swap(false, Ordering::Relaxed) {
            self.0.room.notify_one();
        }
    }
}

/// The responses that wait to be sent. The hub writes, the stream of one client reads.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Queue>,
    written: Notify,
    read: Notify,
    unread: Unread,
}

#[derive(Debug, Default)]
struct Queue {
    responses: VecDeque<WatchResponse>,
    /// Of the responses that wait here, and of the one that was taken last: it counts until the next one is taken,
    /// because it may still be on its way.
    bytes: usize,
    taken: usize,
    /// How often something was taken.
    progress: u64,
    closed: bool,
    /// Why it was closed before its time.
    failure: Option<Error>,
    /// The hub found no room.
    missed: bool,
}

impl Outbox {
    pub fn new(unread: Unread) -> Outbox {
        Outbox { queue: Mutex::default(), written: Notify::new(), read: Notify::new(), unread }
    }

    /// Whether events may be pushed. When not, [`Unread::room`] resolves once there is room again.
    pub fn has_room(&self) -> bool {
        let mut queue = self.lock();
        queue.missed = queue.responses.len() >= RESPONSES_MAX || queue.bytes >= BYTES_MAX;
        !queue.missed && self.unread.has_room()
    }

    /// Answers to requests go in whether there is room or not: [`Outbox::drained`] holds back a client that asks too
    /// much.
    pub fn push(&self, response: WatchResponse) {
        let bytes = response::weight(&response);
        let mut queue = self.lock();
        if !queue.closed {
            queue.bytes += bytes;
            self.unread.add(bytes);
            queue.responses.push_back(response);
        }
        drop(queue);
        self.written.notify_one();
    }

    /// Nothing more will come: the reader gets what is there, and the end.
    pub fn close(&self) {
        self.lock().closed = true;
        self.written.notify_one();
        self.read.notify_one();
    }

    /// Nothing more will come, and the reader gets `failure` instead of what is there.
    pub fn fail(&self, failure: Error) {
        let mut queue = self.lock();
        let unread = queue.bytes - queue.taken;
        queue.bytes = queue.taken;
        queue.responses = VecDeque::new();
        queue.failure = Some(failure);
        drop(queue);
        self.unread.remove(unread);
        self.close();
    }

    /// The next response; `None` at the end.
    pub async fn next(&self) -> Option<Result<WatchResponse, Error>> {
        loop {
            let written = self.written.notified();
            match self.pop() {
                Some(response) => return Some(Ok(response)),
                None if self.lock().closed => return self.lock().failure.take().map(Err),
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

    /// How often something was taken, if anything waits to be.
    pub fn progress(&self) -> Option<u64> {
        let queue = self.lock();
        (queue.bytes > 0).then_some(queue.progress)
    }

    fn is_drained(&self) -> bool {
        let queue = self.lock();
        queue.closed || queue.responses.len() < 2 * RESPONSES_MAX
    }

    pub fn pop(&self) -> Option<WatchResponse> {
        let mut queue = self.lock();
        let arrived = std::mem::take(&mut queue.taken);
        queue.bytes -= arrived;
        queue.progress += 1;
        let response = queue.responses.pop_front();
        queue.taken = response.as_ref().map_or(0, response::weight);
        let length = queue.responses.len();
        let room_again = queue.missed && length <= RESPONSES_MAX / 2 && queue.bytes <= BYTES_MAX / 2;
        queue.missed &= !room_again;
        drop(queue);
        self.unread.remove(arrived);
        if room_again {
            self.unread.0.room.notify_one();
        }
        if length < 2 * RESPONSES_MAX {
            self.read.notify_one();
        }
        response
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.unread.remove(bytes);
    }
}

#[cfg(test)]
mod tests {
    use chorus_proto::mvccpb::{Event, KeyValue};
    use futures::FutureExt;

    use super::*;

    fn events(bytes: usize) -> WatchResponse {
        let kv = KeyValue { value: vec![0; bytes].into(), ..Default::default() };
        WatchResponse { events: vec![Event { kv: Some(kv), ..Default::default() }], ..Default::default() }
    }

    fn fill(outbox: &Outbox, bytes: usize) -> usize {
        std::iter::from_fn(|| outbox.has_room().then(|| outbox.push(events(bytes)))).count()
    }

    #[test]
    fn one_stream_is_bounded_in_responses_and_in_bytes() {
        let unread = Unread::new(usize::MAX);
        let (small, large) = (Outbox::new(unread.clone()), Outbox::new(unread.clone()));
        assert_eq!(fill(&small, 10), RESPONSES_MAX);
        assert_eq!(fill(&large, (1 << 20) - 128), 8);
        assert!((8 << 20..9 << 20).contains(&unread.bytes()), "{}", unread.bytes());
        assert!((0..4).all(|_| large.pop().is_some()) && unread.room().now_or_never().is_none());
        large.pop().unwrap();
        assert!(unread.room().now_or_never().is_some());
        drop((small, large));
        assert_eq!(unread.bytes(), 0);
    }

    #[test]
    fn all_streams_together_are_bounded_and_hear_when_there_is_room() {
        let unread = Unread::new(1 << 20);
        let outboxes: Vec<_> = (0..100).map(|_| Outbox::new(unread.clone())).collect();
        let pushed: usize = outboxes.iter().map(|outbox| fill(outbox, 100 << 10)).sum();
        assert_eq!(pushed, 11);
        assert!(unread.is_short() && !outboxes[99].has_room());
        let first = &outboxes[0];
        let taken = std::iter::from_fn(|| first.pop()).take_while(|_| unread.room().now_or_never().is_none());
        assert!((4..10).contains(&taken.count()));
        assert!(outboxes[99].has_room());
    }

    #[test]
    fn what_fails_lets_go_of_what_waits_but_for_what_is_on_its_way() {
        let unread = Unread::new(1 << 20);
        let outbox = Outbox::new(unread.clone());
        fill(&outbox, 100 << 10);
        outbox.pop().unwrap();
        let progress = outbox.progress();
        outbox.fail(Error::TooManyRequests);
        assert!((100 << 10..101 << 10).contains(&unread.bytes()) && outbox.progress() == progress);
        assert_eq!(outbox.next().now_or_never(), Some(Some(Err(Error::TooManyRequests))));
        assert_eq!((unread.bytes(), outbox.next().now_or_never()), (0, Some(None)));
    }
}
