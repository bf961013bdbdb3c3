//! One watcher: a cursor on the cache's ring, or on the store's history where the ring no longer reaches.
//!
//! A watcher buffers nothing but the changes between two views, so a slow one costs no more than a fast one: it falls
//! back to the store's history, and ends as expired once that is compacted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::sync::watch;

use crate::actor::Shutdown;
use crate::kube::object::Object;
use crate::kube::status::Status;
use crate::store::error::Error;
use crate::world::{Instant, Revision};

use super::WatchCache;
use super::lister_watcher::{StoreEvent, StoreWatch};
use super::view::{Change, EventType, Item, View};

/// Which objects a watcher sees.
pub type Filter = Arc<dyn Fn(&Item) -> bool + Send + Sync>;

/// What a watcher sends.
#[derive(Clone, Debug)]
pub enum Event {
    /// An object that was there before the watch began: sent as ADDED.
    Initial(Arc<Object>),
    Change(EventType, Arc<Change>),
    Bookmark {
        revision: Revision,
        initial_events_end: bool,
    },
}

/// How a watch is opened.
pub struct WatcherOptions {
    pub filter: Filter,
    pub namespace: Option<String>,
    /// Objects to send first, as of `from`.
    pub initial: Option<Arc<View>>,
    pub from: Revision,
    /// Send a bookmark after the initial objects.
    pub mark_initial_end: bool,
    /// The time between two bookmarks.
    pub bookmarks: Option<Duration>,
    pub ends_at: Instant,
    pub shutdown: Shutdown,
}

pub struct Watcher {
    cache: Arc<WatchCache>,
    views: watch::Receiver<Option<Arc<View>>>,
    filter: Filter,
    namespace: Option<String>,
    cursor: Revision,
    pending: VecDeque<Event>,
    store_watch: Option<StoreWatch>,
    bookmarks: Option<Duration>,
    bookmark_at: Option<Instant>,
    ends_at: Instant,
    shutdown: Shutdown,
    ended: bool,
}

impl Watcher {
    pub fn open(cache: Arc<WatchCache>, options: WatcherOptions) -> Watcher {
        let mut pending = VecDeque::new();
        if let Some(view) = &options.initial {
            let shown = view.select(options.namespace.as_deref()).filter(|(_, item)| (options.filter)(item));
            pending.extend(shown.map(|(_, item)| Event::Initial(item.object.clone())));
        }
        if options.mark_initial_end {
            pending.push_back(Event::Bookmark { revision: options.from, initial_events_end: true });
        }
        Watcher {
            views: cache.views(),
            bookmark_at: options.bookmarks.map(|period| cache.clock().now() + period),
            cache,
            filter: options.filter,
            namespace: options.namespace,
            cursor: options.from,
            pending,
            store_watch: None,
            bookmarks: options.bookmarks,
            ends_at: options.ends_at,
            shutdown: options.shutdown,
            ended: false,
        }
    }

    /// The events in order. The stream ends at its time or with the node; an error is its last item.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, Status>> + Send + 'static {
        futures::stream::unfold(self, |mut watcher| async move {
            let item = watcher.next().await?;
            watcher.ended |= item.is_err();
            Some((item, watcher))
        })
    }

    async fn next(&mut self) -> Option<Result<Event, Status>> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(event) = self.pending.pop_front() {
                return Some(Ok(event));
            }
            if self.read_ring() {
                if self.pending.is_empty() {
                    self.wait().await;
                }
            } else if let Err(status) = self.read_history().await {
                return Some(Err(status));
            }
        }
    }

    /// Takes what is new in the ring; false if the ring does not reach back to the cursor.
    fn read_ring(&mut self) -> bool {
        let Some(view) = self.views.borrow_and_update().clone() else { return true };
        let Some(changes) = view.since(self.cursor) else { return false };
        for change in changes {
            self.pending.extend(classify(&self.filter, self.namespace.as_deref(), change));
        }
        self.cursor = self.cursor.max(view.revision);
        self.store_watch = None;
        true
    }

    /// Takes the next batch of the store's history.
    async fn read_history(&mut self) -> Result<(), Status> {
        let store_watch = match &mut self.store_watch {
            Some(store_watch) => store_watch,
            None => {
                let opened = self.cache.watch_store(self.cursor).await.map_err(|error| gone(&error, self.cursor))?;
                self.store_watch.insert(opened)
            }
        };
        let batch = tokio::select! {
            biased;
            () = self.shutdown.wait() => { self.ended = true; return Ok(()) }
            () = tokio::time::sleep_until(self.ends_at) => { self.ended = true; return Ok(()) }
            batch = store_watch.next() => batch.map_err(|error| gone(&error, self.cursor))?,
        };
        for event in batch.events {
            let StoreEvent::Change(change) = event else { return Err(gone(&Error::Compacted, self.cursor)) };
            let change = Arc::new(change);
            self.pending.extend(classify(&self.filter, self.namespace.as_deref(), &change));
        }
        self.cursor = self.cursor.max(batch.revision.unwrap_or(self.cursor));
        Ok(())
    }

    /// Waits for a new view, the time of a bookmark, or the end.
    async fn wait(&mut self) {
        let wake_at = self.bookmark_at.map_or(self.ends_at, |at| at.min(self.ends_at));
        tokio::select! {
            biased;
            () = self.shutdown.wait() => self.ended = true,
            changed = self.views.changed() => self.ended |= changed.is_err(),
            () = tokio::time::sleep_until(wake_at) => self.on_time(),
        }
    }

    fn on_time(&mut self) {
        let now = self.cache.clock().now();
        if now >= self.ends_at {
            self.ended = true;
        } else if let Some(period) = self.bookmarks {
            self.bookmark_at = Some(now + period);
            self.cache.ask_progress();
            self.pending.push_back(Event::Bookmark { revision: self.cursor, initial_events_end: false });
        }
    }
}

fn gone(error: &Error, cursor: Revision) -> Status {
    match error {
        Error::Compacted => Status::new(410, "Expired", format!("too old resource version: {cursor}")),
        other => crate::apiserver::storage::refusal(other),
    }
}

/// How a change looks through a filter: an object that begins to match is added, one that ceases to is deleted.
fn classify(filter: &Filter, namespace: Option<&str>, change: &Arc<Change>) -> Option<Event> {
    let inside = namespace.is_none_or(|ns| change.key.strip_prefix(ns).is_some_and(|rest| rest.starts_with('/')));
    if !inside {
        return None;
    }
    let before = change.previous.as_ref().is_some_and(|item| filter(item));
    let after = !change.deleted && filter(&change.item);
    let event_type = match (before, after) {
        (false, false) => return None,
        (false, true) => EventType::Added,
        (true, true) => EventType::Modified,
        (true, false) => EventType::Deleted,
    };
    Some(Event::Change(event_type, change.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(stage: &str) -> Arc<Item> {
        let json =
            format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"x","labels":{{"stage":"{stage}"}}}}}}"#);
        let object = Arc::new(Object::from_json(json.into()).unwrap());
        Arc::new(Item { object, fields: Vec::new() })
    }

    #[test]
    fn a_filter_turns_transitions_into_additions_and_deletions() {
        let filter: Filter = Arc::new(|item| item.object.meta.labels["stage"] == "in");
        let table = [
            (None, "in", false, Some(EventType::Added)),
            (None, "out", false, None),
            (Some("in"), "in", false, Some(EventType::Modified)),
            (Some("in"), "out", false, Some(EventType::Deleted)),
            (Some("out"), "in", false, Some(EventType::Added)),
            (Some("in"), "in", true, Some(EventType::Deleted)),
            (Some("out"), "out", true, None),
        ];
        for (before, after, deleted, expected) in table {
            let previous = before.map(item);
            let change = Change::new("ns/x".to_owned(), Revision(5), item(after), previous, deleted);
            let told = classify(&filter, Some("ns"), &Arc::new(change)).map(|event| match event {
                Event::Change(kind, _) => kind,
                other => panic!("{other:?}"),
            });
            assert_eq!(told, expected, "{before:?} -> {after} {deleted}");
        }
    }

    #[test]
    fn other_namespaces_are_not_told() {
        let filter: Filter = Arc::new(|_| true);
        let change = Arc::new(Change::new("ns2/x".to_owned(), Revision(5), item("in"), None, false));
        assert!(classify(&filter, Some("ns"), &change).is_none());
        assert!(classify(&filter, None, &change).is_some());
    }
}
