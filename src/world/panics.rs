//! What a panic ends: the process, or only the component in which it happens.
//!
//! ```text
//!   panic ─▶ hook ─┬─ inside of `live` or `caught` ─▶ unwound up to there: the component, or the one call, has failed
//!                  └─ anywhere else ───────────────▶ reported, and the process is aborted
//! ```
//!
//! The mark stands on the thread while a future is polled, and what a future spawns with
//! [`Spawner::task`](super::Spawner::task) inherits it. Blocking work and actors that nobody supervises never have it.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// A component's list of tasks is not gone through for fewer.
const TASKS_MIN: usize = 16;

thread_local! {
    /// Where a panic of what is being polled is caught.
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
    /// Where in the code the last panic was that is caught.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Work that panicked, and where and why it did. The next piece of work may be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Panicked(String);

impl Panicked {
    fn of(payload: &(dyn Any + Send)) -> Panicked {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Panicked(match LOCATION.take() {
            Some(location) => format!("panicked at {location}: {text}"),
            None => format!("panicked: {text}"),
        })
    }
}

/// From here on a panic outside of [`live`] and [`caught`] is reported and ends the process, whichever thread it is on.
/// For the start of a process, and for when it begins to report elsewhere.
pub fn abort_on_panic(report: impl Fn(&PanicHookInfo<'_>) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |panic| {
        if ends_process() {
            report(panic);
            std::process::abort();
        }
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            tracing::error!(stacktrace = %backtrace, "{panic}");
        }
        let location = panic.location().map(ToString::to_string);
        let _ = LOCATION.try_with(|last| last.replace(location));
    }));
}

/// Whether a panic here and now ends the process.
fn ends_process() -> bool {
    current().is_none()
}

/// Where panics are caught.
#[derive(Clone)]
pub(super) enum Scope {
    /// They end a component, with every task that it has started.
    Component(Arc<Component>),
    /// They end the one piece of work that is done, or a task that it has started.
    Work,
}

/// One life of a component.
#[derive(Default)]
pub(super) struct Component {
    parts: Mutex<Parts>,
    panicked: Notify,
}

#[derive(Default)]
struct Parts {
    /// The tasks that it has started; some of them have ended.
    tasks: Vec<AbortHandle>,
    /// The panic of one of them.
    panic: Option<Panicked>,
    ended: bool,
}

impl Component {
    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn adopt(&self, task: AbortHandle) {
        let mut parts = self.lock();
        if parts.ended {
            return task.abort();
        }
        // Once each time that their number has doubled, so that one more costs the same however many there are.
        if parts.tasks.len() == parts.tasks.capacity() {
            parts.tasks.retain(|task| !task.is_finished());
            let room = parts.tasks.len().max(TASKS_MIN);
            parts.tasks.reserve(room);
        }
        parts.tasks.push(task);
    }

    fn end(&self) {
        let mut parts = self.lock();
        parts.ended = true;
        parts.tasks.drain(..).for_each(|task| task.abort());
    }

    async fn panicked(&self) -> Panicked {
        loop {
            if let Some(panic) = self.lock().panic.take() {
                return panic;
            }
            self.panicked.notified().await;
        }
    }
}

impl Scope {
    /// Runs a task that was started in this scope. Whoever waits for it sees its panic, too.
    pub(super) async fn run<F: Future>(self, task: F) -> F::Output {
        let payload = match Inside::new(self.clone(), task).await {
            Ok(done) => return done,
            Err(payload) => payload,
        };
        let panic = Panicked::of(&*payload);
        match self {
            Scope::Component(component) => {
                component.lock().panic.get_or_insert(panic);
                component.panicked.notify_one();
            }
            Scope::Work => tracing::error!(%panic, "a task has ended"),
        }
        resume_unwind(payload)
    }

    /// Has `task` end with the component.
    pub(super) fn adopt(&self, task: AbortHandle) {
        match self {
            Scope::Component(component) => component.adopt(task),
            Scope::Work => {}
        }
    }
}

/// The scope that what is polled here is in.
pub(super) fn current() -> Option<Scope> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Lives one life of `component`: until it ends, or until it or a task that it has started panics, which ends all of
/// them. `leaves_tasks` says whether its tasks go on when it ended by itself.
pub async fn live<F: Future<Output = ()>>(component: F, leaves_tasks: impl FnOnce() -> bool) -> Result<(), Panicked> {
    let life = Arc::new(Component::default());
    let running = Inside::new(Scope::Component(life.clone()), component);
    let ended = tokio::select! {
        biased;
        ended = running => ended.map_err(|payload| Panicked::of(&*payload)),
        panicked = life.panicked() => Err(panicked),
    };
    if ended.is_err() || !leaves_tasks() {
        life.end();
    }
    ended
}

/// Does `work`; should it panic, nothing else is harmed. What it shares with others must bear to be left half done.
pub async fn caught<F: Future>(work: F) -> Result<F::Output, Panicked> {
    Inside::new(Scope::Work, work).await.map_err(|payload| Panicked::of(&*payload))
}

/// Does `work` whose panics end the process, whoever asks for it.
pub fn uncaught<F: Future>(work: F) -> Uncaught<F> {
    Uncaught { work }
}

pin_project! {
    /// See [`uncaught`].
    pub struct Uncaught<F> {
        #[pin]
        work: F,
    }
}

impl<F: Future> Future for Uncaught<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _outside = Entered::new(None);
        self.project().work.poll(context)
    }
}

/// A future that is polled, and dropped, inside of a scope.
struct Inside<F> {
    scope: Scope,
    future: Option<Pin<Box<F>>>,
}

impl<F> Inside<F> {
    fn new(scope: Scope, future: F) -> Inside<F> {
        Inside { scope, future: Some(Box::pin(future)) }
    }
}

impl<F: Future> Future for Inside<F> {
    type Output = std::thread::Result<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let future = this.future.as_mut().expect("it is there until it is dropped");
        let _inside = Entered::new(Some(this.scope.clone()));
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    }
}

impl<F> Drop for Inside<F> {
    fn drop(&mut self) {
        let _inside = Entered::new(Some(self.scope.clone()));
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(self.future.take()))) {
            tracing::error!(panic = %Panicked::of(&*payload), "what had ended could not be cleared away");
        }
    }
}

/// Restores the scope that was there before.
struct Entered(Option<Scope>);

impl Entered {
    fn new(scope: Option<Scope>) -> Entered {
        Entered(CURRENT.try_with(|current| current.replace(scope)).ok().flatten())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.0.take();
        let _ = CURRENT.try_with(|current| current.replace(before));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::world::{MemoryDisk, World};

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_the_process_unless_it_is_caught() {
        let world = World::simulated(1, MemoryDisk::default());
        assert!(ends_process());
        let spawner = world.spawner.clone();
        let work = async {
            assert!(!ends_process());
            // Another task has its turn meanwhile, on this very thread.
            world.spawner.detached(async { assert!(ends_process()) }).await.unwrap();
            assert!(!ends_process());
            uncaught(async {
                assert!(ends_process());
                tokio::task::yield_now().await;
                assert!(ends_process());
            })
            .await;
            spawner.task(async { assert!(!ends_process(), "a task inherits") }).await.unwrap();
        };
        assert_eq!(caught(work).await, Ok(()));
        assert!(ends_process());
        assert_eq!(live(async { assert!(!ends_process()) }, || true).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_the_outcome_of_the_work_that_it_ends() {
        let panic = caught(async { panic!("no {}", "luck") }).await.map(|(): ()| ()).unwrap_err();
        assert!(panic.to_string().ends_with(": no luck"), "{panic}");
        assert!(ends_process());
    }

    #[tokio::test(start_paused = true)]
    async fn a_component_ends_with_its_tasks() {
        let world = World::simulated(1, MemoryDisk::default());
        let (lasting, spawner) = (Arc::new(()), world.spawner.clone());
        let held = lasting.clone();
        let component = async {
            spawner.task(async move {
                let _held = held;
                std::future::pending::<()>().await;
            });
            spawner.task(async {
                if !ends_process() {
                    panic!("a task");
                }
            });
            std::future::pending::<()>().await;
        };
        let panic = live(component, || true).await.unwrap_err();
        assert!(panic.to_string().ends_with(": a task"), "{panic}");
        world.clock.sleep(Duration::from_millis(1)).await;
        assert_eq!(Arc::strong_count(&lasting), 1, "the other task has ended as well");
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_after_a_component_ended_by_itself_is_left_alone_where_it_may() {
        let world = World::simulated(1, MemoryDisk::default());
        let (told, heard) = tokio::sync::oneshot::channel();
        let (clock, spawner) = (world.clock.clone(), world.spawner.clone());
        let component = async {
            spawner.task(async move {
                clock.sleep(Duration::from_secs(1)).await;
                told.send(()).unwrap();
            });
        };
        assert_eq!(live(component, || true).await, Ok(()));
        heard.await.unwrap();
    }
}
