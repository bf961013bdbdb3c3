//! Where actors and tasks run: on threads of their own in production, all on one thread in a simulation.
//!
//! What [`panics`] says of a future holds for the tasks that it starts here, too.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, ArbiterHandle, Context};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::lane::{LANES, Lane};
use super::roster::{Measure, Roster};
use super::threads::SimThread;
use super::{Random, panics};

/// Starts actors and tasks, and knows those that last.
#[derive(Clone)]
pub struct Spawner {
    kind: Kind,
    roster: Roster,
}

#[derive(Clone)]
enum Kind {
    Threads {
        tasks: tokio::runtime::Handle,
        lanes: Arc<BTreeMap<Lane, ArbiterHandle>>,
    },
    /// What is drawn decides when blocking work has its turns.
    Local(Random),
}

impl std::fmt::Debug for Spawner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            Kind::Threads { .. } => "Spawner(threads)",
            Kind::Local(_) => "Spawner(local)",
        })
    }
}

/// Starts what outlives whoever asks for it, such as a client's connection that others use as well.
#[derive(Clone, Debug)]
pub struct DetachedExecutor(pub Spawner);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for DetachedExecutor {
    fn execute(&self, task: F) {
        self.0.detached(panics::catch_panics(task));
    }
}

/// What hyper starts runs where the world runs tasks.
impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, task: F) {
        self.task(task);
    }
}

impl Spawner {
    /// One thread a lane; tasks run on the runtime that is current at this call. The threads end with the
    /// `actix::System` in which this is called.
    #[allow(clippy::disallowed_methods, reason = "the one place that starts threads")]
    pub fn threads() -> Spawner {
        let lanes = LANES.into_iter().map(|lane| (lane, Arbiter::new().handle())).collect();
        Spawner::new(Kind::Threads { tasks: tokio::runtime::Handle::current(), lanes: Arc::new(lanes) })
    }

    /// Everything on the calling thread's `LocalSet`, in turns that `random` decides.
    pub fn local(random: Random) -> Spawner {
        Spawner::new(Kind::Local(random))
    }

    fn new(kind: Kind) -> Spawner {
        Spawner { kind, roster: Roster::default() }
    }

    /// The actors and tasks that last.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Starts the actor that `make` builds on `lane`, under the name `name` in the [`Roster`]. Should it panic, the
    /// process ends. Not inside a [`task`](Spawner::task): in a simulation only a node's own future and its actors can
    /// start actors.
    pub fn start<A, F>(&self, lane: Lane, name: impl Into<String>, make: F) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
        F: FnOnce(&mut Context<A>) -> A + Send + 'static,
    {
        self.start_measured(lane, name, None, make)
    }

    /// As [`start`](Spawner::start), for an actor that tells by `backlog` what waits for it.
    pub fn start_measured<A, F>(
        &self,
        lane: Lane,
        name: impl Into<String>,
        backlog: Option<Measure>,
        make: F,
    ) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
        F: FnOnce(&mut Context<A>) -> A + Send + 'static,
    {
        let address = match &self.kind {
            Kind::Threads { lanes, .. } => A::start_in_arbiter(&lanes[&lane], make),
            Kind::Local(_) => A::create(make),
        };
        let seen = address.downgrade();
        let alive = move || seen.upgrade().is_some_and(|address| address.connected());
        self.roster.enter(name.into(), Some(lane), backlog, Box::new(alive));
        address
    }

    /// Runs the future that `make` builds on `lane`, as an actor is run: it may be one, and may start others.
    pub fn run_on<F>(&self, lane: Lane, make: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        match &self.kind {
            Kind::Threads { lanes, .. } => {
                lanes[&lane].spawn_fn(move || drop(actix::spawn(make())));
            }
            Kind::Local(_) => drop(actix::spawn(make())),
        }
    }

    /// Runs `task`, which lasts, on the shared runtime under the name `name` in the [`Roster`].
    pub fn keep<F>(&self, name: impl Into<String>, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = self.task(task);
        let seen = task.abort_handle();
        self.roster.enter(name.into(), None, None, Box::new(move || !seen.is_finished()));
        task
    }

    /// Runs a short `task`, such as one request or one connection, on the shared runtime, as part of what starts it.
    pub fn task<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let Some(scope) = panics::current() else { return self.detached(task) };
        let scoped = scope.clone().task();
        let number = scoped.number;
        let task = self.detached(scoped.run(task));
        scope.adopt(number, task.abort_handle());
        task
    }

    /// Runs `task` on the shared runtime, whatever becomes of what starts it.
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns tasks")]
    pub fn detached<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match &self.kind {
            Kind::Threads { tasks, .. } => tasks.spawn(task),
            Kind::Local(_) => tokio::spawn(task),
        }
    }

    /// Runs blocking `work` away from the tasks; in a simulation, bit by bit between them. It goes on when nobody waits
    /// for it any more.
    #[allow(clippy::disallowed_methods, reason = "the one place that uses the blocking pool")]
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match &self.kind {
            Kind::Threads { tasks, .. } => {
                match tasks.spawn_blocking(work).await {
                    Ok(done) => done,
                    // The process is ending, and with it whoever waits here.
                    Err(error) if error.is_cancelled() => std::future::pending().await,
                    Err(error) => resume_unwind(error.into_panic()),
                }
            }
            Kind::Local(random) => in_turns(random.clone(), work).await,
        }
    }

    /// As [`blocking`](Spawner::blocking), but in production on the thread of `lane`, after whatever else it does.
    pub async fn blocking_on<T: Send + 'static>(&self, lane: Lane, work: impl FnOnce() -> T + Send + 'static) -> T {
        match &self.kind {
            Kind::Threads { lanes, .. } => {
                let (told, outcome) = oneshot::channel();
                lanes[&lane].spawn_fn(move || drop(told.send(catch_unwind(AssertUnwindSafe(work)))));
                outcome_of(outcome).await
            }
            Kind::Local(random) => in_turns(random.clone(), work).await,
        }
    }
}

async fn outcome_of<T>(outcome: oneshot::Receiver<std::thread::Result<T>>) -> T {
    match outcome.await {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => resume_unwind(panic),
        // The process is ending, and with it whoever waits here.
        Err(_) => std::future::pending().await,
    }
}

/// Yield points that simulated work passes in one turn, at most.
const YIELD_POINTS_LOG2: u64 = 6;

/// Runs `work` on a simulated thread, in turns with the tasks of its host. It ends with the host.
#[allow(clippy::disallowed_methods, reason = "the one place that spawns tasks")]
async fn in_turns<T: Send + 'static>(random: Random, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (told, outcome) = oneshot::channel();
    tokio::spawn(async move {
        let thread = SimThread::new(work);
        loop {
            let others_first = random.within(0..4);
            match others_first {
                0 => {}
                1 | 2 => tokio::task::yield_now().await,
                _ => tokio::time::sleep(Duration::from_millis(random.within(1..6))).await,
            }
            if !thread.run(1 << random.within(0..YIELD_POINTS_LOG2)) {
                break;
            }
        }
        if let Err(Err(panic)) = told.send(thread.outcome()) {
            resume_unwind(panic);
        }
    });
    outcome_of(outcome).await
}
