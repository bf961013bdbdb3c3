//! Supervision: components that are restarted when they panic, or end before their node does.
//!
//! ```text
//!   make() ─▶ one life ── the node shuts down ──────▶ done
//!     ▲         └─ panicked, or ended by itself ──▶ noted in the roster, logged
//!     └──────────── a pause that doubles ◀──────────────┘
//! ```
//!
//! Under it is what keeps nothing that the store does not have: controllers, informers, the scheduler, the agent, a
//! frontend of the API. What `make` gives begins with nothing but what it was given; tasks of the life before are ended.
//! Everything else is started with [`Spawner`](crate::world::Spawner) alone, and its panic ends the process: nobody
//! else could say what the store's members agreed on, or what is on the disk.

use std::future::Future;
use std::time::Duration;

use actix::{Actor, Context};

use super::Shutdown;
use crate::world::roster::{Measure, Registration};
use crate::world::{Instant, Lane, World, panics};

/// Pauses before a component is restarted.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A component that ran for so long is well again: its next pause is the shortest one.
const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(600);

/// Starts components of one node, and restarts them until it shuts down.
#[derive(Clone)]
pub struct Supervisor {
    world: World,
    shutdown: Shutdown,
    restart_on_panic_only: bool,
}

impl Supervisor {
    pub fn new(world: &World, shutdown: &Shutdown) -> Supervisor {
        Supervisor { world: world.clone(), shutdown: shutdown.clone(), restart_on_panic_only: false }
    }

    /// For components that are done when they end by themselves; only a panic has them restarted.
    pub fn restart_on_panic_only(self) -> Supervisor {
        Supervisor { restart_on_panic_only: true, ..self }
    }

    /// Runs the task that `make` gives on the shared runtime.
    pub fn task<F>(&self, name: impl Into<String>, mut make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let registration = self.world.spawner.roster().register(name.into(), None, None);
        let supervisor = self.clone();
        self.world.spawner.detached(async move {
            let mut restarts = supervisor.restarts(registration);
            while restarts.begin() {
                let ended = panics::run_component(async { make().await }, || restarts.leaves_tasks()).await;
                restarts.pause(ended).await;
            }
        });
    }

    /// Runs the actor that `make` gives on `lane`; it tells by `backlog` what waits for it. The address in the context
    /// is that of one life. Where actors can be started, see [`Spawner::start`](crate::world::Spawner::start).
    pub fn actor<A>(
        &self,
        lane: Lane,
        name: impl Into<String>,
        backlog: Option<Measure>,
        mut make: impl FnMut(&mut Context<A>) -> A + Send + 'static,
    ) where
        A: Actor<Context = Context<A>>,
    {
        let registration = self.world.spawner.roster().register(name.into(), Some(lane), backlog);
        let supervisor = self.clone();
        self.world.spawner.run_on(lane, move || async move {
            let mut restarts = supervisor.restarts(registration);
            while restarts.begin() {
                let life = async {
                    let mut context = Context::new();
                    let actor = make(&mut context);
                    context.into_future(actor).await;
                };
                let ended = panics::run_component(life, || restarts.leaves_tasks()).await;
                restarts.pause(ended).await;
            }
        });
    }

    fn restarts(self, registration: Registration) -> Restarts {
        Restarts { supervisor: self, registration, begun: None, pause: BACKOFF_MIN, done: false }
    }
}

/// The lives of one component, one after the other.
struct Restarts {
    supervisor: Supervisor,
    registration: Registration,
    /// When the present one began, or the last one did.
    begun: Option<Instant>,
    pause: Duration,
    done: bool,
}

impl Restarts {
    /// Whether there is to be another one, which begins now.
    fn begin(&mut self) -> bool {
        if self.done || self.supervisor.shutdown.begun() {
            return false;
        }
        if self.begun.is_some() {
            self.registration.restarted();
        }
        self.begun = Some(self.supervisor.world.clock.now());
        true
    }

    /// Whether the tasks of a life that ended by itself go on: only where the component is done. Where its shutdown has
    /// begun, another component may soon do the same.
    fn leaves_tasks(&self) -> bool {
        self.supervisor.restart_on_panic_only && !self.supervisor.shutdown.begun()
    }

    /// After the end of one: waits for as long as the component is to rest.
    async fn pause(&mut self, ended: Result<(), panics::Panicked>) {
        let Supervisor { world, shutdown, restart_on_panic_only } = &self.supervisor;
        self.done = ended.is_ok() && *restart_on_panic_only;
        if self.done || (ended.is_ok() && shutdown.begun()) {
            return;
        }
        let component = self.registration.name();
        if let (Err(panic), true) = (&ended, shutdown.begun()) {
            tracing::error!(component, %panic, "a component panicked while the node shut down");
            return;
        }
        let why = ended.map_or_else(|panic| panic.to_string(), |()| "ended by itself".to_owned());
        if self.begun.is_some_and(|begun| world.clock.now() - begun >= BACKOFF_RESET_AFTER) {
            self.pause = BACKOFF_MIN;
        }
        let pause = self.pause;
        tracing::error!(component, why, ?pause, "a component is restarted after a pause");
        self.registration.ended(&why);
        self.pause = (self.pause * 2).min(BACKOFF_MAX);
        tokio::select! {
            biased;
            () = shutdown.wait() => {}
            () = world.clock.sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use actix::{ActorContext, AsyncContext};
    use tokio::task::LocalSet;

    use super::*;
    use crate::world::MemoryDisk;
    use crate::world::roster::Component;

    fn component(world: &World) -> Component {
        let mut components = world.spawner.roster().components();
        assert_eq!(components.len(), 1);
        components.remove(0)
    }

    async fn seconds(world: &World, seconds: f64) {
        world.clock.sleep(Duration::from_secs_f64(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_comes_back_after_growing_pauses() {
        let (world, shutdown) = (World::simulated(1, MemoryDisk::default()), Shutdown::new());
        let lives = Arc::new(AtomicUsize::new(0));
        let (counted, clock) = (lives.clone(), world.clock.clone());
        Supervisor::new(&world, &shutdown).task("test/task", move || {
            let (life, clock) = (counted.fetch_add(1, Ordering::Relaxed), clock.clone());
            async move {
                if life == 3 {
                    clock.sleep(BACKOFF_RESET_AFTER).await;
                }
                panic!("life {life}");
            }
        });
        for (after, begun) in [(0.1, 1), (0.3, 1), (0.2, 2), (0.8, 2), (0.2, 3), (1.8, 3), (0.2, 4)] {
            seconds(&world, after).await;
            assert_eq!(lives.load(Ordering::Relaxed), begun, "{after}");
        }
        let seen = component(&world);
        assert_eq!((seen.running, seen.restarts), (true, 3));
        assert!(seen.last_exit.unwrap().ends_with(": life 2"));
        seconds(&world, 600.6).await;
        assert_eq!(lives.load(Ordering::Relaxed), 5, "it ran long enough for a short pause");
        seconds(&world, 300.0).await;
        let before = lives.load(Ordering::Relaxed);
        seconds(&world, 300.0).await;
        assert_eq!(lives.load(Ordering::Relaxed) - before, 5, "a minute is the longest pause");
        assert!(!component(&world).running);
        shutdown.begin();
        seconds(&world, 600.0).await;
        assert_eq!(lives.load(Ordering::Relaxed) - before, 5, "it ended with its node");
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_with_its_node_is_not_started_anew() {
        let (world, shutdown) = (World::simulated(1, MemoryDisk::default()), Shutdown::new());
        let until = shutdown.clone();
        Supervisor::new(&world, &shutdown).task("test/task", move || until.wait());
        seconds(&world, 1.0).await;
        assert!(component(&world).running);
        shutdown.begin();
        seconds(&world, 100.0).await;
        let seen = component(&world);
        assert_eq!((seen.running, seen.restarts, seen.last_exit), (false, 0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_go_on_only_after_a_component_that_is_done() {
        for (restart_on_panic_only, shuts_down, go_on) in
            [(true, false, true), (true, true, false), (false, true, false), (false, false, false)]
        {
            let (world, shutdown) = (World::simulated(1, MemoryDisk::default()), Shutdown::new());
            let supervisor = Supervisor { restart_on_panic_only, ..Supervisor::new(&world, &shutdown) };
            let (held, inner) = (Arc::new(()), world.clone());
            let mut first = Some(held.clone());
            supervisor.task("test/task", move || {
                let (world, held) = (inner.clone(), first.take());
                async move {
                    let Some(held) = held else { return std::future::pending().await };
                    world.spawner.task(async move {
                        let _held = held;
                        std::future::pending::<()>().await;
                    });
                    world.clock.sleep(Duration::from_secs(1)).await;
                }
            });
            seconds(&world, 0.5).await;
            if shuts_down {
                shutdown.begin();
            }
            seconds(&world, 2.0).await;
            assert_eq!(Arc::strong_count(&held) > 1, go_on, "{restart_on_panic_only} {shuts_down}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_by_itself_is_started_anew_unless_it_may() {
        for (restart_on_panic_only, restarts) in [(false, 1), (true, 0)] {
            let (world, shutdown) = (World::simulated(1, MemoryDisk::default()), Shutdown::new());
            let supervisor = Supervisor { restart_on_panic_only, ..Supervisor::new(&world, &shutdown) };
            supervisor.task("test/task", || std::future::ready(()));
            seconds(&world, 1.0).await;
            assert_eq!(component(&world).restarts, restarts);
        }
    }

    /// Panics after a second of its first life.
    struct Fragile {
        life: usize,
        shutdown: Shutdown,
    }

    impl Actor for Fragile {
        type Context = Context<Fragile>;

        fn started(&mut self, context: &mut Context<Fragile>) {
            context.run_later(Duration::from_secs(1), |actor, _| assert!(actor.life > 0, "too young"));
            context.run_interval(Duration::from_secs(10), |actor, context| {
                if actor.shutdown.begun() {
                    context.stop();
                }
            });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_actor_that_panics_comes_back() {
        let test = async {
            let (world, shutdown) = (World::simulated(1, MemoryDisk::default()), Shutdown::new());
            let (mut life, until) = (0, shutdown.clone());
            Supervisor::new(&world, &shutdown).actor(Lane::Control, "test/actor", None, move |_| {
                life += 1;
                Fragile { life: life - 1, shutdown: until.clone() }
            });
            seconds(&world, 1.1).await;
            assert!(!component(&world).running);
            seconds(&world, 5.0).await;
            let seen = component(&world);
            assert_eq!((seen.running, seen.restarts, seen.lane), (true, 1, Some(Lane::Control)));
            assert!(seen.last_exit.unwrap().ends_with(": too young"));
            shutdown.begin();
            seconds(&world, 100.0).await;
            assert!(!component(&world).running);
        };
        LocalSet::new().run_until(test).await;
    }
}
