//! The watch cache, upstream's Cacher: one watch of the store a resource, shared by all readers of this frontend.
//!
//! ```text
//!   store ──list once, then one watch──▶ Reflector ──publishes──▶ View (objects, ring of changes; immutable)
//!     ▲                                   ▲                         │           │
//!     │ history before the ring           │ ask for progress        ▼           ▼
//!     └────────────────── Watcher ────────┴───────────────────── lists      Watchers
//! ```
//!
//! - [`view`]: the objects at one revision and the last changes; pure
//! - [`lister_watcher`]: the store's list and watch of one prefix, decoded
//! - [`reflector`]: the task that keeps the view up to date
//! - [`stream`]: one watcher, upstream's cacheWatcher

pub mod lister_watcher;
mod reflector;
pub mod stream;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::actor::{Shutdown, Supervisor};
use crate::kube::status::Status;
use crate::store::error::Error;
use crate::world::planted::planted;
use crate::world::{Clock, Instant, Revision, World};

use self::lister_watcher::{ListerWatcher, StoreWatch};
use self::reflector::Reflector;
use self::view::View;

/// How often a waiting reader asks the store for its progress again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// One resource's cache.
pub struct WatchCache {
    clock: Clock,
    lister_watcher: ListerWatcher,
    views: watch::Receiver<Option<Arc<View>>>,
    progress_wanted: Arc<Notify>,
}

/// The view did not reach the wanted revision in time. Nothing was changed: try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The revision that the view has reached.
    pub revision: Revision,
}

impl WatchCache {
    /// Begins to list and watch the store.
    pub fn start(world: &World, lister_watcher: ListerWatcher, shutdown: Shutdown) -> WatchCache {
        let (sender, views) = watch::channel(None);
        let progress_wanted = Arc::new(Notify::new());
        let name = format!(
            "apiserver/watch_cache{}",
            lister_watcher.prefix.trim_end_matches('/').trim_start_matches("/registry")
        );
        let supervisor = Supervisor::new(world, &shutdown);
        let reflector = Arc::new(Reflector {
            world: world.clone(),
            lister_watcher: lister_watcher.clone(),
            views: sender,
            progress_wanted: progress_wanted.clone(),
            shutdown,
        });
        supervisor.task(name, move || {
            let reflector = reflector.clone();
            async move { reflector.run().await }
        });
        WatchCache { clock: world.clock.clone(), lister_watcher, views, progress_wanted }
    }

    /// The newest view there is, once there is one.
    pub async fn any(&self, deadline: Instant) -> Result<Arc<View>, Behind> {
        self.at_least(Revision(0), deadline).await
    }

    /// A view that holds everything up to `revision`.
    pub async fn at_least(&self, revision: Revision, deadline: Instant) -> Result<Arc<View>, Behind> {
        let mut views = self.views.clone();
        loop {
            let view = views.borrow_and_update().clone();
            let reached = view.as_ref().map_or(Revision(0), |view| view.revision);
            if let Some(view) = view.filter(|view| view.revision >= revision || planted!("stale-cache")) {
                return Ok(view);
            }
            self.ask_progress();
            let now = self.clock.now();
            if now >= deadline {
                return Err(Behind { revision: reached });
            }
            let changed = self.clock.timeout_at(deadline.min(now + ASK_AGAIN), views.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return Err(Behind { revision: reached });
            }
        }
    }

    /// The newest view now, without waiting.
    pub fn now(&self) -> Option<Arc<View>> {
        self.views.borrow().clone()
    }

    /// A receiver that is notified of every new view.
    pub fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.views.clone()
    }

    pub fn lister_watcher(&self) -> &ListerWatcher {
        &self.lister_watcher
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn ask_progress(&self) {
        self.progress_wanted.notify_one();
    }

    async fn watch_store(&self, after: Revision) -> Result<StoreWatch, Error> {
        StoreWatch::after(&self.lister_watcher, after).await
    }
}

impl From<Behind> for Status {
    fn from(behind: Behind) -> Status {
        let message = format!("the frontend has seen the store up to revision {} only", behind.revision);
        Status::new(503, "ServiceUnavailable", message)
    }
}
