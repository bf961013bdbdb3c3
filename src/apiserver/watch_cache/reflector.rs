//! The task that keeps one cache: it lists a prefix once and follows it, and publishes a new view for each batch.
//!
//! It alone writes the view. When the store goes away it keeps the last view and follows on from its revision; when
//! the store compacted what it missed, it lists again, and watchers that need what is missing end as expired.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{Notify, watch};

use crate::actor::Shutdown;
use crate::apiserver::codec;
use crate::kube::object::Object;
use crate::store::error::Error;
use crate::world::{Revision, World};

use super::lister_watcher::{Batch, ListerWatcher, StoreEvent, StoreWatch};
use super::view::{Change, View};

/// Pauses between attempts to reach the store.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// When a progress request is unanswered for this long, the watch is taken for lost.
const PROGRESS_WAIT_MAX: Duration = Duration::from_secs(5);

pub struct Reflector {
    pub world: World,
    pub lister_watcher: ListerWatcher,
    pub views: watch::Sender<Option<Arc<View>>>,
    /// A reader waits for a revision: ask the store for its progress.
    pub progress_wanted: Arc<Notify>,
    pub shutdown: Shutdown,
}

impl Reflector {
    pub async fn run(&self) {
        let mut view = None;
        let mut pause = RETRY_MIN;
        while !self.shutdown.begun() {
            let before = self.views.borrow().as_ref().map(|view| view.revision);
            tokio::select! {
                biased;
                () = self.shutdown.wait() => return,
                error = self.follow(&mut view) => {
                    tracing::debug!(prefix = self.lister_watcher.prefix, %error, "watch of the store ended");
                    if error == Error::Compacted {
                        view = None;
                    }
                }
            }
            let moved = self.views.borrow().as_ref().map(|view| view.revision) != before;
            pause = if moved { RETRY_MIN } else { (pause * 2).min(RETRY_MAX) };
            self.world.clock.sleep(pause).await;
        }
    }

    /// Follows the store until it fails.
    async fn follow(&self, view: &mut Option<View>) -> Error {
        let view = match self.listed(view).await {
            Ok(view) => view,
            Err(error) => return error,
        };
        let mut store_watch = match StoreWatch::after(&self.lister_watcher, view.revision).await {
            Ok(store_watch) => store_watch,
            Err(error) => return error,
        };
        let mut answer_by = None;
        loop {
            tokio::select! {
                biased;
                batch = store_watch.next() => {
                    answer_by = None;
                    if let Err(error) = self.take(view, batch, &mut store_watch) {
                        return error;
                    }
                }
                () = self.progress_wanted.notified() => {
                    store_watch.ask_progress();
                    answer_by.get_or_insert(self.world.clock.now() + PROGRESS_WAIT_MAX);
                }
                () = tokio::time::sleep_until(answer_by.unwrap_or_else(|| self.world.clock.now())), if answer_by.is_some() => {
                    return Error::TimeoutConnectionLost;
                }
            }
        }
    }

    async fn listed<'a>(&self, view: &'a mut Option<View>) -> Result<&'a mut View, Error> {
        if view.is_none() {
            let listed = self.lister_watcher.list().await?;
            self.views.send_replace(Some(Arc::new(listed.clone())));
            *view = Some(listed);
        }
        Ok(view.as_mut().expect("it was just listed"))
    }

    /// Takes in a batch and all others that are already there, then publishes once.
    fn take(&self, view: &mut View, first: Result<Batch, Error>, store_watch: &mut StoreWatch) -> Result<(), Error> {
        let mut outcome = first;
        loop {
            match outcome {
                Ok(batch) => apply(view, batch, &self.lister_watcher),
                Err(error) => {
                    self.views.send_replace(Some(Arc::new(view.clone())));
                    return Err(error);
                }
            }
            match store_watch.next().now_or_never() {
                Some(next) => outcome = next,
                None => break,
            }
        }
        self.views.send_replace(Some(Arc::new(view.clone())));
        Ok(())
    }
}

fn apply(view: &mut View, batch: Batch, lister_watcher: &ListerWatcher) {
    for event in batch.events {
        match event {
            StoreEvent::Change(change) => view.apply(change),
            StoreEvent::Removed { key, revision } => {
                if let Some(change) = removal(view, key, revision, lister_watcher) {
                    view.apply(change);
                }
            }
        }
    }
    if let Some(revision) = batch.revision {
        view.progress(revision);
    }
}

/// A deletion, with the last state that the view knows.
fn removal(view: &View, key: String, revision: Revision, lister_watcher: &ListerWatcher) -> Option<Change> {
    let previous = view.objects.get(&key)?.clone();
    let mut last = previous.object.value();
    codec::set_resource_version(&mut last, revision);
    let last = Object::from_value(&last).expect("it was an object before");
    Some(Change::new(key, revision, lister_watcher.item(last), Some(previous), true))
}
