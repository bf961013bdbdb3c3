//! Namespaces whose quotas must be recounted: a set, so that many deletions cost one count.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// The names that wait; adding one again changes nothing.
#[derive(Debug, Default)]
pub struct Recounts {
    waiting: Mutex<BTreeSet<String>>,
    added: Notify,
}

impl Recounts {
    pub fn add(&self, namespace: String) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace);
        self.added.notify_one();
    }

    /// All that wait, once there are any.
    pub async fn next(&self) -> BTreeSet<String> {
        loop {
            let taken = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.added.notified().await;
        }
    }
}
