//! Informers: a list and a watch of one kind, kept as a cache that the whole process may read, and sent to subscribers
//! as changes.
//!
//! ```text
//!   list ─▶ watch ─▶ cache ─▶ Changes (merged by object) ─▶ an actor's stream
//!    ▲        │ lost: again from the last resource version, after a growing pause
//!    └────────┘ expired (410): list again, and send what differs
//! ```
//!
//! - [`cache`]: what is known, and its indexes; pure
//! - [`cached`]: what is kept of an object
//! - [`changes`]: a subscriber's unread changes

mod cache;
mod cached;
mod changes;

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::watch;

use super::client::{Api, Client, Kind, ListOptions, Request, Response, Target, Verb, WatchOptions, WriteOptions};
use super::object::{Key, Object, WatchEvent};
use super::selector::Selector;
use super::status::Status;
use crate::actor::{Shutdown, Supervisor};
use crate::world::World;
use cache::{Cache, Index, Step};
use changes::Mailbox;

pub use cache::Change;
pub use cached::Cached;
pub use changes::Changes;

const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A server sends a bookmark about once a minute: a watch silent for longer than this is taken for lost.
const SILENCE_MAX: Duration = Duration::from_secs(150);
/// Watches end by themselves after a time drawn from this range, so that load spreads over frontends again.
const WATCH_SECONDS: std::ops::Range<u64> = 300..600;

/// The objects of one kind, as known here. Cheap to clone; the cache is shared.
pub struct Informer<K>(Arc<SharedInformer<K>>);

struct SharedInformer<K> {
    cache: RwLock<Cache<K>>,
    subscribers: Mutex<Vec<Weak<Mailbox<K>>>>,
    /// The resource version that the cache has reached; `None` before the first list.
    version: watch::Sender<Option<u64>>,
}

/// An informer that is not yet started.
pub struct Builder<K> {
    client: Client,
    target: Target,
    label_selector: Option<String>,
    field_selector: Option<String>,
    indexes: Vec<Index<K>>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Informer<K> {
    /// Of the objects that `api` reaches.
    pub fn of(api: &Api<K>) -> Builder<K> {
        Builder::new(api.client().clone(), api.target())
    }
}

impl Informer<Object> {
    /// Of any kind, undecoded.
    pub fn at(client: &Client, target: Target) -> Builder<Object> {
        Builder::new(client.clone(), target)
    }
}

impl<K: Cached> Builder<K> {
    fn new(client: Client, target: Target) -> Builder<K> {
        Builder { client, target, label_selector: None, field_selector: None, indexes: Vec::new(), kind: PhantomData }
    }

    /// Only objects whose labels match.
    pub fn labels(mut self, selector: &str) -> Builder<K> {
        self.label_selector = Some(selector.to_owned());
        self
    }

    /// Only objects whose fields match: `spec.nodeName=n1`.
    pub fn fields(mut self, selector: &str) -> Builder<K> {
        self.field_selector = Some(selector.to_owned());
        self
    }

    /// Makes objects findable by the values that `values` gives, through [`Informer::by_index`].
    pub fn index(
        mut self,
        name: &'static str,
        values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) -> Builder<K> {
        self.indexes.push(Index::new(name, values));
        self
    }

    /// Begins to list and watch, until `shutdown`.
    pub fn start(self, world: &World, shutdown: &Shutdown) -> Informer<K> {
        let shared = Arc::new(SharedInformer {
            cache: RwLock::new(Cache::new(self.indexes)),
            subscribers: Mutex::default(),
            version: watch::Sender::new(None),
        });
        let name = format!("kube/informer/{}", self.target.resource);
        let reflector = Arc::new(Reflector {
            world: world.clone(),
            client: self.client,
            target: self.target,
            label_selector: self.label_selector,
            field_selector: self.field_selector,
            shared: shared.clone(),
        });
        let end = shutdown.clone();
        Supervisor::new(world, shutdown).task(name, move || {
            let (reflector, end) = (reflector.clone(), end.wait());
            async move {
                tokio::select! {
                    () = end => {}
                    () = reflector.run() => {}
                }
            }
        });
        Informer(shared)
    }
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Informer<K> {
        Informer(self.0.clone())
    }
}

impl<K: Cached> Informer<K> {
    /// Whether the first list has arrived.
    pub fn has_synced(&self) -> bool {
        self.0.version.borrow().is_some()
    }

    /// Resolves once the first list has arrived; never where the informer ends before.
    pub async fn synced(&self) {
        self.reaches(|version| version.is_some()).await;
    }

    /// Resolves once the cache holds the state `written`, or a newer one. A writer that decides by the cache waits for
    /// this; otherwise it decides as if it had not written.
    pub async fn reached(&self, written: &ObjectMeta) {
        let version = written.resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0);
        self.reaches(|reached| reached.is_some_and(|reached| reached >= version)).await;
    }

    async fn reaches(&self, enough: impl FnMut(&Option<u64>) -> bool) {
        if self.0.version.subscribe().wait_for(enough).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Every change from here on, after the objects there are now as additions. Ends with the informer.
    pub fn changes(&self) -> Changes<K> {
        let cache = self.read();
        let mailbox = Mailbox::new();
        let known: Vec<Step<K>> = cache.as_additions();
        mailbox.deliver(known.iter());
        self.0.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&mailbox));
        if self.has_synced() {
            mailbox.synced();
        }
        Changes::new(mailbox)
    }

    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().get(key).cloned()
    }

    pub fn len(&self) -> usize {
        self.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All objects, in the order of their keys.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().all().map(|(_, object)| object.clone()).collect()
    }

    pub fn keys(&self) -> Vec<Key> {
        self.read().all().map(|(key, _)| key.clone()).collect()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read().in_namespace(namespace).map(|(_, object)| object.clone()).collect()
    }

    /// The objects that name `uid` among their owners.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.read().owned_by(uid)
    }

    /// The objects found under `value` in an index given to [`Builder::index`]; panics for a name that was not given.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        self.read().by_index(name, value)
    }

    fn read(&self) -> RwLockReadGuard<'_, Cache<K>> {
        self.0.cache.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Kind> Informer<K> {
    /// The objects of a namespace whose labels match.
    pub fn select(&self, namespace: &str, selector: &Selector) -> Vec<Arc<K>> {
        let none = Default::default();
        let matches = |object: &Arc<K>| selector.matches(object.metadata().labels.as_ref().unwrap_or(&none));
        self.in_namespace(namespace).into_iter().filter(matches).collect()
    }
}

impl<K: Cached> SharedInformer<K> {
    /// Changes the cache and notifies every subscriber. The cache stays locked until that is done, so that a new
    /// subscriber misses nothing and receives nothing twice.
    fn change(&self, change: impl FnOnce(&mut Cache<K>) -> Vec<Step<K>>) {
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        let steps = change(&mut cache);
        if steps.is_empty() {
            return;
        }
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).retain(|subscriber| {
            let subscriber = subscriber.upgrade();
            subscriber.iter().for_each(|mailbox| mailbox.deliver(steps.iter()));
            subscriber.is_some()
        });
    }

    fn good_up_to(&self, version: &str) {
        // To clients of other servers versions are opaque; one that is no number keeps no reader waiting.
        let before = self.version.send_replace(Some(version.parse().unwrap_or(u64::MAX)));
        if before.is_none() {
            self.each_subscriber(Mailbox::synced);
        }
    }
}

impl<K> SharedInformer<K> {
    fn close(&self) {
        self.each_subscriber(Mailbox::close);
    }

    fn each_subscriber(&self, tell: impl Fn(&Mailbox<K>)) {
        let subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.iter().filter_map(Weak::upgrade).for_each(|mailbox| tell(&mailbox));
    }
}

/// The task that lists and watches.
struct Reflector<K> {
    world: World,
    client: Client,
    target: Target,
    label_selector: Option<String>,
    field_selector: Option<String>,
    shared: Arc<SharedInformer<K>>,
}

/// Nobody watches any more.
impl<K> Drop for Reflector<K> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl<K: Cached> Reflector<K> {
    async fn run(&self) {
        let mut pause = PAUSE_MIN;
        let mut version = None;
        loop {
            match self.follow(&mut version, &mut pause).await {
                Ok(()) => {}
                Err(status) if status.is_expired() => version = None,
                Err(status) => tracing::debug!(resource = self.target.resource, %status, "watch lost"),
            }
            let jittered = pause / 2 + self.world.random.duration(Duration::ZERO..pause);
            self.world.clock.sleep(jittered).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Lists where needed, then watches until the watch ends by itself.
    async fn follow(&self, version: &mut Option<String>, pause: &mut Duration) -> Result<(), Status> {
        let from = match version {
            Some(version) => version.clone(),
            None => version.insert(self.list().await?).clone(),
        };
        let mut events = self.client.watch(self.target.clone(), self.watch_options(from)).await?;
        while let Ok(Some(event)) = self.world.clock.timeout(SILENCE_MAX, events.next()).await {
            let now = self.take_in(event?);
            self.shared.good_up_to(&now);
            *version = Some(now);
            *pause = PAUSE_MIN;
        }
        Ok(())
    }

    async fn list(&self) -> Result<String, Status> {
        let options = ListOptions {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            ..ListOptions::default()
        };
        let request =
            Request { target: self.target.clone(), verb: Verb::List(options), write: WriteOptions::default() };
        let Response::List(list) = self.client.call(request).await? else {
            return Err(Status::new(500, "InternalError", "the server answered a list with something else"));
        };
        self.shared.change(|cache| cache.replace(&list.items, complain));
        self.shared.good_up_to(&list.resource_version);
        Ok(list.resource_version)
    }

    fn watch_options(&self, from: String) -> WatchOptions {
        WatchOptions {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            resource_version: Some(from),
            allow_bookmarks: true,
            timeout_seconds: Some(self.world.random.within(WATCH_SECONDS)),
            ..WatchOptions::default()
        }
    }

    /// Returns the version that the cache has reached now.
    fn take_in(&self, event: WatchEvent) -> String {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.shared.change(|cache| {
                    cache.put(&object).unwrap_or_else(|status| {
                        complain(&object, status);
                        Vec::new()
                    })
                });
                object.meta.resource_version.clone()
            }
            WatchEvent::Deleted(object) => {
                self.shared.change(|cache| cache.delete(&object).into_iter().collect());
                object.meta.resource_version.clone()
            }
            WatchEvent::Bookmark { resource_version, .. } => resource_version,
        }
    }
}

fn complain(object: &Object, status: Status) {
    tracing::warn!(kind = object.meta.kind, key = %object.meta.key(), %status, "an object does not decode and is left out of the cache");
}

#[cfg(test)]
mod tests;
