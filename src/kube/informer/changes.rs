//! One subscriber's share of an informer's changes: in order, bounded, because the changes of one object that was not
//! yet read merge into one.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::Stream;
use futures::task::AtomicWaker;

use super::cache::{Change, Step};

/// The changes of an informer's objects, from the ones there are when it was taken, as additions. Reading late costs no
/// more than one merged change an object.
pub struct Changes<K>(Arc<Mailbox<K>>);

pub(super) struct Mailbox<K> {
    pending: Mutex<Pending<K>>,
    waker: AtomicWaker,
}

struct Pending<K> {
    /// Uids, each once, in the order of their first unread change.
    order: VecDeque<String>,
    changes: BTreeMap<String, Change<K>>,
    closed: bool,
}

impl<K> Mailbox<K> {
    pub fn new() -> Arc<Mailbox<K>> {
        let pending = Pending { order: VecDeque::new(), changes: BTreeMap::new(), closed: false };
        Arc::new(Mailbox { pending: Mutex::new(pending), waker: AtomicWaker::new() })
    }

    pub fn deliver<'a>(&self, steps: impl Iterator<Item = &'a Step<K>>)
    where
        K: 'a,
    {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        steps.for_each(|Step { uid, change }| pending.push(uid, change.clone()));
        drop(pending);
        self.waker.wake();
    }

    pub fn close(&self) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.waker.wake();
    }
}

impl<K> Pending<K> {
    fn push(&mut self, uid: &str, next: Change<K>) {
        match self.changes.remove(uid) {
            None => {
                self.order.push_back(uid.to_owned());
                self.changes.insert(uid.to_owned(), next);
            }
            Some(unread) => match unread.then(next) {
                Some(merged) => drop(self.changes.insert(uid.to_owned(), merged)),
                None => self.order.retain(|ordered| ordered != uid),
            },
        }
    }

    fn pop(&mut self) -> Option<Change<K>> {
        let uid = self.order.pop_front()?;
        Some(self.changes.remove(&uid).expect("every ordered uid has an unread change"))
    }
}

impl<K> Changes<K> {
    pub(super) fn new(mailbox: Arc<Mailbox<K>>) -> Changes<K> {
        Changes(mailbox)
    }
}

impl<K> Stream for Changes<K> {
    type Item = Change<K>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Change<K>>> {
        self.0.waker.register(context.waker());
        let mut pending = self.0.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match pending.pop() {
            Some(change) => Poll::Ready(Some(change)),
            None if pending.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}
