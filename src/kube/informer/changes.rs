//! One subscriber's share of an informer's changes: in order, bounded, because the changes of one object that was not
//! yet read merge into one.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::Stream;
use futures::task::AtomicWaker;
use tokio::sync::watch;

use super::cache::{Change, Step};

/// The changes of an informer's objects, from the ones there are when it was taken, as additions. Reading late costs no
/// more than one merged change an object.
pub struct Changes<K> {
    mailbox: Arc<Mailbox<K>>,
    /// Whether everything of the first list was read.
    read: watch::Sender<bool>,
}

pub(super) struct Mailbox<K> {
    pending: Mutex<Pending<K>>,
    waker: AtomicWaker,
}

struct Pending<K> {
    /// Uids, each once, in the order of their first unread change.
    order: VecDeque<String>,
    changes: BTreeMap<String, Change<K>>,
    /// The first list was delivered.
    synced: bool,
    closed: bool,
}

impl<K> Mailbox<K> {
    pub fn new() -> Arc<Mailbox<K>> {
        let pending = Pending { order: VecDeque::new(), changes: BTreeMap::new(), synced: false, closed: false };
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

    /// What the reader has to hear first was delivered.
    pub fn synced(&self) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).synced = true;
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
        Changes { mailbox, read: watch::Sender::new(false) }
    }

    /// Resolves once the reader of this stream has taken in all objects of the first list; never where the stream is
    /// dropped before.
    pub fn synced(&self) -> impl Future<Output = ()> + Send + use<K> {
        let mut read = self.read.subscribe();
        async move {
            if read.wait_for(|read| *read).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl<K> Stream for Changes<K> {
    type Item = Change<K>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Change<K>>> {
        self.mailbox.waker.register(context.waker());
        let mut pending = self.mailbox.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match pending.pop() {
            Some(change) => Poll::Ready(Some(change)),
            None if pending.closed => Poll::Ready(None),
            None => {
                if pending.synced {
                    self.read.send_if_modified(|read| !std::mem::replace(read, true));
                }
                Poll::Pending
            }
        }
    }
}
