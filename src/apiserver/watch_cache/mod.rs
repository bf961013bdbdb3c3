//! The watch cache: one watch of the store a resource, shared by all readers of this frontend.
//!
//! ```text
//!   store ──list once, then one watch──▶ Feed ──publishes──▶ View (objects, ring of changes; immutable)
//!     ▲                                   ▲                    │           │
//!     │ history before the ring           │ how far are you?   ▼           ▼
//!     └────────────────── Watcher ────────┴──────────────── lists      Watchers
//! ```
//!
//! - [`view`]: the objects at one revision and the last changes; pure
//! - [`history`]: the store's list and watch of one prefix, decoded
//! - [`feed`]: the task that keeps the view
//! - [`stream`]: one watcher

mod feed;
pub mod history;
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

use self::feed::Feed;
use self::history::{History, Source};
use self::view::View;

/// How often a reader that waits asks the store for its progress again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// One resource's cache.
pub struct WatchCache {
    clock: Clock,
    source: Source,
    views: watch::Receiver<Option<Arc<View>>>,
    asked: Arc<Notify>,
}

/// The view did not reach the wanted revision in time. Nothing was changed: try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// How far it is.
    pub revision: Revision,
}

impl WatchCache {
    /// Begins to follow `source`.
    pub fn start(world: &World, source: Source, shutdown: Shutdown) -> WatchCache {
        let (sender, views) = watch::channel(None);
        let asked = Arc::new(Notify::new());
        let name =
            format!("apiserver/watch_cache{}", source.prefix.trim_end_matches('/').trim_start_matches("/registry"));
        let supervisor = Supervisor::new(world, &shutdown);
        let feed = Feed { world: world.clone(), source: source.clone(), views: sender, asked: asked.clone(), shutdown };
        let feed = Arc::new(feed);
        supervisor.task(name, move || {
            let feed = feed.clone();
            async move { feed.run().await }
        });
        WatchCache { clock: world.clock.clone(), source, views, asked }
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

    /// Told of every new view.
    pub fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.views.clone()
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn ask_progress(&self) {
        self.asked.notify_one();
    }

    async fn history(&self, after: Revision) -> Result<History, Error> {
        History::after(&self.source, after).await
    }
}

impl From<Behind> for Status {
    fn from(behind: Behind) -> Status {
        let message = format!("the frontend has seen the store up to revision {} only", behind.revision);
        Status::new(503, "ServiceUnavailable", message)
    }
}
