//! What a panic ends: the process, or only the component in which it happens.
//!
//! ```text
//!   panic ─▶ hook ─┬─ inside of `run_component` or `catch_panics` ─▶ reported, and unwound up to there: the component,
//!                  │                                                or the one call, has failed
//!                  └─ anywhere else ─▶ reported, and the process is aborted
//! ```
//!
//! The mark stands on the thread while a future is polled, and what a future spawns with
//! [`Spawner::task`](super::Spawner::task) inherits it. Blocking work and actors that nobody supervises never have it.
//! Whoever catches a panic says what becomes of the work; the panic itself is reported once, by the hook.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::{FutureExt, Stream};
use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

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
        match LOCATION.take() {
            Some(location) => Panicked(format!("panicked at {location}: {}", message(payload))),
            None => Panicked(format!("panicked: {}", message(payload))),
        }
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// From here on a panic outside of [`run_component`] and [`catch_panics`] is given to `report` and ends the process,
/// whichever thread it is on. For the start of a process, and for when it begins to report elsewhere.
#[allow(clippy::disallowed_methods, reason = "the one hook: another one would let a broken member go on")]
pub fn install_hook(report: impl Fn(&PanicHookInfo<'_>) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |panic| {
        if ends_process() {
            report(panic);
            std::process::abort();
        }
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let (message, backtrace) = (message(panic.payload()), Backtrace::capture());
        if backtrace.status() == BacktraceStatus::Captured {
            tracing::error!(location, message, stacktrace = %backtrace, "a panic was caught");
        } else {
            tracing::error!(location, message, "a panic was caught");
        }
        let _ = LOCATION.try_with(|last| last.replace(Some(location)));
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

/// One run of a component.
#[derive(Default)]
pub(super) struct Component {
    state: Mutex<ComponentState>,
    panicked: Notify,
}

#[derive(Default)]
struct ComponentState {
    /// The tasks that it has started and that have not ended, by number; without a handle for as long as it takes to
    /// spawn one.
    tasks: BTreeMap<u64, Option<AbortHandle>>,
    /// How many it has started.
    started: u64,
    /// The panic of one of them.
    panic: Option<Panicked>,
    ended: bool,
}

impl Component {
    fn lock(&self) -> MutexGuard<'_, ComponentState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let tasks = std::mem::take(&mut state.tasks);
        // What ends leaves the component, which takes the lock.
        drop(state);
        tasks.into_values().flatten().for_each(|task| task.abort());
    }

    fn take_panic(&self) -> Option<Panicked> {
        self.lock().panic.take()
    }

    async fn panicked(&self) -> Panicked {
        loop {
            if let Some(panic) = self.take_panic() {
                return panic;
            }
            self.panicked.notified().await;
        }
    }
}

impl Scope {
    /// Makes a task that is about to be spawned one of the scope.
    pub(super) fn task(self) -> ScopedTask {
        let number = match &self {
            Scope::Component(component) => {
                let mut state = component.lock();
                state.started += 1;
                let number = state.started;
                state.tasks.insert(number, None);
                number
            }
            Scope::Work => 0,
        };
        ScopedTask { scope: self, number }
    }

    /// Has the task `number` end with the component.
    pub(super) fn adopt(&self, number: u64, task: AbortHandle) {
        let Scope::Component(component) = self else { return };
        let mut state = component.lock();
        if state.ended {
            drop(state);
            return task.abort();
        }
        if let Some(handle) = state.tasks.get_mut(&number) {
            *handle = Some(task);
        }
    }
}

/// A task's place in the scope in which it was started, until it ends.
pub(super) struct ScopedTask {
    scope: Scope,
    pub(super) number: u64,
}

impl ScopedTask {
    /// Runs the task. Whoever waits for it sees its panic, too.
    pub(super) fn run<F: Future>(self, task: F) -> impl Future<Output = F::Output> {
        Inside::new(self.scope.clone(), task)
            .map(move |outcome| outcome.unwrap_or_else(|payload| self.panicked(payload)))
    }

    fn panicked(&self, payload: Box<dyn Any + Send>) -> ! {
        if let Scope::Component(component) = &self.scope {
            component.lock().panic.get_or_insert(Panicked::of(&*payload));
            component.panicked.notify_one();
        }
        resume_unwind(payload)
    }
}

impl Drop for ScopedTask {
    fn drop(&mut self) {
        if let Scope::Component(component) = &self.scope {
            component.lock().tasks.remove(&self.number);
        }
    }
}

/// The scope that what is polled here is in.
pub(super) fn current() -> Option<Scope> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Runs `component` until it ends, or until it or a task that it has started panics, which ends all of them.
/// `leaves_tasks` says whether its tasks go on when it ended by itself.
pub async fn run_component<F>(component: F, leaves_tasks: impl FnOnce() -> bool) -> Result<(), Panicked>
where
    F: Future<Output = ()>,
{
    let run = Arc::new(Component::default());
    let inside = Inside::new(Scope::Component(run.clone()), component);
    let ended = tokio::select! {
        biased;
        ended = inside => ended.map_err(|payload| Panicked::of(&*payload)),
        panicked = run.panicked() => Err(panicked),
    };
    // It may have ended because a task that it waited for panicked.
    let ended = ended.and_then(|()| run.take_panic().map_or(Ok(()), Err));
    if ended.is_err() || !leaves_tasks() {
        run.end();
    }
    ended
}

/// Does `work`; should it panic, nothing else is harmed. What it shares with others must bear to be left half done.
pub fn catch_panics<F: Future>(work: F) -> impl Future<Output = Result<F::Output, Panicked>> {
    Inside::new(Scope::Work, work).map(|outcome| outcome.map_err(|payload| Panicked::of(&*payload)))
}

/// A future or a stream whose panics end the process, whoever asks for it.
pub fn abort_on_panics<F>(work: F) -> AbortOnPanics<F> {
    AbortOnPanics { work: Some(work) }
}

pin_project! {
    /// See [`abort_on_panics`].
    pub struct AbortOnPanics<F> {
        // There until it is dropped.
        #[pin]
        work: Option<F>,
    }

    impl<F> PinnedDrop for AbortOnPanics<F> {
        fn drop(this: Pin<&mut Self>) {
            let _outside = Entered::new(None);
            this.project().work.set(None);
        }
    }
}

impl<F> AbortOnPanics<F> {
    fn work(self: Pin<&mut Self>) -> Pin<&mut F> {
        self.project().work.as_pin_mut().expect("it is there until it is dropped")
    }
}

impl<F: Future> Future for AbortOnPanics<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _outside = Entered::new(None);
        self.work().poll(context)
    }
}

impl<S: Stream> Stream for AbortOnPanics<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let _outside = Entered::new(None);
        self.work().poll_next(context)
    }
}

pin_project! {
    /// A future that is polled, and dropped, inside of a scope.
    struct Inside<F> {
        scope: Scope,
        // There until it is dropped.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Inside<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _inside = Entered::new(Some(this.scope.clone()));
            // A panic was reported, and there is nothing left that could fail for it.
            let _ = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
        }
    }
}

impl<F> Inside<F> {
    fn new(scope: Scope, future: F) -> Inside<F> {
        Inside { scope, future: Some(future) }
    }
}

impl<F: Future> Future for Inside<F> {
    type Output = std::thread::Result<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let future = this.future.as_pin_mut().expect("it is there until it is dropped");
        let _inside = Entered::new(Some(this.scope.clone()));
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(payload)),
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
            abort_on_panics(async {
                assert!(ends_process());
                tokio::task::yield_now().await;
                assert!(ends_process());
            })
            .await;
            spawner.task(async { assert!(!ends_process(), "a task inherits") }).await.unwrap();
        };
        assert_eq!(catch_panics(work).await, Ok(()));
        assert!(ends_process());
        assert_eq!(run_component(async { assert!(!ends_process()) }, || true).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_the_outcome_of_the_work_that_it_ends() {
        let panic = catch_panics(async { panic!("no {}", "luck") }).await.map(|(): ()| ()).unwrap_err();
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
        let panic = run_component(component, || true).await.unwrap_err();
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
        assert_eq!(run_component(component, || true).await, Ok(()));
        heard.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_component_that_ends_because_its_task_panicked_has_panicked() {
        let world = World::simulated(1, MemoryDisk::default());
        let component = async {
            world.spawner.task(async { panic!("a task") }).await.map(|(): ()| ()).unwrap_or_default();
        };
        let panic = run_component(component, || true).await.unwrap_err();
        assert!(panic.to_string().ends_with(": a task"), "{panic}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_component_remembers_no_task_that_has_ended() {
        let world = World::simulated(1, MemoryDisk::default());
        let component = async {
            for _ in 0..100 {
                world.spawner.task(async {}).await.unwrap();
            }
            world.spawner.task(std::future::pending::<()>()).abort();
            tokio::task::yield_now().await;
            let Some(Scope::Component(this)) = current() else { panic!("it is inside of one") };
            assert_eq!(this.lock().tasks.len(), 0);
        };
        assert_eq!(run_component(component, || false).await, Ok(()));
    }

    /// Notes in what scope it is dropped.
    struct Scoped(Arc<Mutex<Vec<bool>>>);

    impl Drop for Scoped {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(ends_process());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn streams_and_what_is_dropped_are_marked_as_well() {
        let ends = Arc::new(Mutex::new(Vec::new()));
        let (inner, outer) = (Scoped(ends.clone()), Scoped(ends.clone()));
        let work = async move {
            let _outer = outer;
            let answers = futures::stream::poll_fn(move |_| {
                let _held = &inner;
                Poll::Ready(Some(ends_process()))
            });
            let mut answers = std::pin::pin!(abort_on_panics(answers));
            let told = futures::StreamExt::next(&mut answers).await;
            assert_eq!((told, ends_process()), (Some(true), false));
            std::future::pending::<()>().await;
        };
        assert!(catch_panics(work).now_or_never().is_none());
        assert_eq!(*ends.lock().unwrap(), [true, false]);
    }
}
