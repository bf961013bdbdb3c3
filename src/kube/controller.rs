//! What every controller is: an actor with informers, a work queue of keys, and `reconcile(key)`.
//!
//! ```text
//!   Changes of informers ──map──▶ WorkQueue ──▶ reconcile(key) in a task ──Finished──▶ done / again later / backoff
//!   Leadership ─────────────────▶ works only while it leads; goes through everything when it begins to
//! ```
//!
//! It owns the queue; informers and [`Leadership`] speak to it, and it speaks to the API through its [`Reconcile`].
//! Bounded by the queue's limits. A reconciliation that panics is one that failed. Level-triggered: a key only says where
//! to look, so nothing is lost when the actor dies; the next one goes through everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, StreamHandler,
    WrapFuture,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::task::AbortHandle;

use super::client::Kind;
use super::informer::{Cached, Change, Informer};
use super::leader_election::Leadership;
use super::object::Key;
use super::status::Status;
use super::work_queue::{Limits, Outcome, WorkQueue};
use crate::actor::{Shutdown, Supervisor};
use crate::world::roster::Meter;
use crate::world::{Instant, Lane, World, panics};

/// A reconciliation that takes longer is cut off and tried again.
const RECONCILE_MAX: Duration = Duration::from_secs(120);

/// Brings what a key names from what it is to what it should be.
#[async_trait::async_trait]
pub trait Reconcile: Send + Sync + 'static {
    /// Looks at the present state, not at what changed. It may be cut off and called again at any time; after an error
    /// it is called again after a growing pause.
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status>;
}

/// When to look again, if nothing changes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    No,
    After(Duration),
}

/// Where keys come from. Each actor opens it for itself: a stream that has panicked is of no more use.
#[derive(Clone)]
struct Source {
    open: Arc<dyn Fn() -> OpenSource + Send + Sync>,
    /// The keys for all objects there are.
    all: Arc<dyn Fn() -> Vec<Key> + Send + Sync>,
}

struct OpenSource {
    keys: BoxStream<'static, Vec<Key>>,
    synced: BoxFuture<'static, ()>,
}

/// A controller that is not yet started.
pub struct Builder<R> {
    name: &'static str,
    reconcile: Arc<R>,
    sources: Vec<Source>,
    limits: Limits,
    leadership: Leadership,
    prepare: Arc<dyn Fn() + Send + Sync>,
}

impl<R: Reconcile> Builder<R> {
    pub fn new(name: &'static str, reconcile: R) -> Builder<R> {
        Builder {
            name,
            reconcile: Arc::new(reconcile),
            sources: Vec::new(),
            limits: Limits::default(),
            leadership: Leadership::always(),
            prepare: Arc::new(|| ()),
        }
    }

    /// Does this before anything else whenever the controller is started or restarted: what it knew is forgotten.
    pub fn begins_with(mut self, prepare: impl Fn() + Send + Sync + 'static) -> Builder<R> {
        self.prepare = Arc::new(prepare);
        self
    }

    fn source(
        mut self,
        open: impl Fn() -> OpenSource + Send + Sync + 'static,
        all: impl Fn() -> Vec<Key> + Send + Sync + 'static,
    ) -> Builder<R> {
        self.sources.push(Source { open: Arc::new(open), all: Arc::new(all) });
        self
    }

    /// Reconciles each object of `informer` that changes.
    pub fn of<K: Kind>(self, informer: &Informer<K>) -> Builder<R> {
        self.watches(informer, |object| vec![Key::of(object.metadata())])
    }

    /// Reconciles the controlling owner, where it is of kind `owner`, of each object of `informer` that changes.
    pub fn owns<K: Kind>(self, informer: &Informer<K>, owner: &'static str) -> Builder<R> {
        self.watches(informer, move |object| controlling_owner(object, owner).into_iter().collect())
    }

    /// Reconciles what `keys` gives for an object as it was and as it is, of each object of `informer` that changes.
    pub fn watches<K: Cached>(
        self,
        informer: &Informer<K>,
        keys: impl Fn(&K) -> Vec<Key> + Send + Sync + 'static,
    ) -> Builder<R> {
        let keys = Arc::new(keys);
        let (informer, all, keys_of) = (informer.clone(), informer.clone(), keys.clone());
        let open = move || {
            let keys = keys_of.clone();
            let of_change = move |change: Change<K>| {
                let sides = [change.old(), change.new()];
                sides.into_iter().flatten().flat_map(|object| keys(object)).collect()
            };
            let synced = informer.clone();
            OpenSource {
                keys: informer.changes().map(of_change).boxed(),
                synced: async move { synced.synced().await }.boxed(),
            }
        };
        self.source(open, move || all.all().iter().flat_map(|object| keys(object)).collect())
    }

    /// Waits for `informer`, which `reconcile` reads, without reconciling anything for it.
    pub fn reads<K: Cached>(self, informer: &Informer<K>) -> Builder<R> {
        self.watches(informer, |_| Vec::new())
    }

    /// Shows `observe` each change of `informer`, in order; nothing is reconciled before it has seen what there is.
    /// Keys come from elsewhere.
    pub fn shows<K: Cached>(
        self,
        informer: &Informer<K>,
        observe: impl Fn(Change<K>) + Send + Sync + 'static,
    ) -> Builder<R> {
        let (informer, observe) = (informer.clone(), Arc::new(observe));
        let open = move || {
            let (changes, observe) = (informer.changes(), observe.clone());
            let synced = changes.synced().boxed();
            let seen = move |change| {
                observe(change);
                Vec::new()
            };
            OpenSource { keys: changes.map(seen).boxed(), synced }
        };
        self.source(open, Vec::new)
    }

    /// Reconciles the keys of a stream, too, which each life of the controller opens for itself, and `all` when everything has to be gone through.
    pub fn keys_from(
        self,
        keys: impl Fn() -> BoxStream<'static, Vec<Key>> + Send + Sync + 'static,
        all: impl Fn() -> Vec<Key> + Send + Sync + 'static,
    ) -> Builder<R> {
        self.source(move || OpenSource { keys: keys(), synced: std::future::ready(()).boxed() }, all)
    }

    /// How many keys at once, and how long to wait after failures.
    pub fn limits(mut self, limits: Limits) -> Builder<R> {
        self.limits = limits;
        self
    }

    /// Works only while this says so.
    pub fn leadership(mut self, leadership: &Leadership) -> Builder<R> {
        self.leadership = leadership.clone();
        self
    }

    /// Starts the actor; it ends with `shutdown`.
    pub fn start(self, world: &World, shutdown: &Shutdown) {
        let Builder { name, reconcile, sources, limits, leadership, prepare } = self;
        let (inner, end, meter) = (world.clone(), shutdown.clone(), Meter::new(limits.keys_max));
        let backlog = Some(meter.measure());
        Supervisor::new(world, shutdown).actor(Lane::Control, format!("controllers/{name}"), backlog, move |_| {
            prepare();
            Controller {
                world: inner.clone(),
                meter: meter.clone(),
                name,
                reconcile: reconcile.clone(),
                queue: WorkQueue::new(limits),
                missed: false,
                sources: sources.clone(),
                leadership: leadership.clone(),
                synced: false,
                leads: false,
                running: BTreeMap::new(),
                runs: 0,
                alarm: None,
                shutdown: end.clone(),
            }
        });
    }
}

/// The key of the owner that controls `object`, where it is of kind `owner`.
pub fn controlling_owner<K: Kind>(object: &K, owner: &str) -> Option<Key> {
    let meta = object.metadata();
    let controls = |o: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| o.controller == Some(true);
    let reference = meta.owner_references.as_ref()?.iter().find(controls)?;
    (reference.kind == owner).then(|| Key::new(meta.namespace.clone().unwrap_or_default(), reference.name.clone()))
}

struct Controller<R> {
    world: World,
    /// Shows what waits in the queue.
    meter: Meter,
    name: &'static str,
    reconcile: Arc<R>,
    queue: WorkQueue<Key>,
    /// A key did not fit into the queue: everything has to be gone through once there is room.
    missed: bool,
    sources: Vec<Source>,
    leadership: Leadership,
    synced: bool,
    leads: bool,
    running: BTreeMap<Key, Run>,
    /// The number of the last run.
    runs: u64,
    /// The timer that is set, and for when.
    alarm: Option<(Instant, SpawnHandle)>,
    shutdown: Shutdown,
}

struct Run {
    number: u64,
    task: AbortHandle,
}

struct Keys(Vec<Key>);

struct Leads(bool);

struct Finished {
    key: Key,
    run: u64,
    result: Result<Requeue, Status>,
}

impl Message for Finished {
    type Result = ();
}

impl<R: Reconcile> Actor for Controller<R> {
    type Context = Context<Controller<R>>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let mut synced = Vec::new();
        for source in &self.sources {
            let opened = (source.open)();
            ctx.add_stream(opened.keys.map(Keys));
            synced.push(opened.synced);
        }
        let all_synced = futures::future::join_all(synced).into_actor(self);
        ctx.spawn(all_synced.map(|_, controller, ctx| {
            controller.synced = true;
            controller.pump(ctx);
        }));
        ctx.add_stream(self.leadership.changes().map(Leads));
        let end = self.shutdown.wait().into_actor(self);
        ctx.spawn(end.map(|(), controller, ctx| {
            controller.cut_off();
            ctx.stop();
        }));
    }
}

impl<R: Reconcile> StreamHandler<Keys> for Controller<R> {
    fn handle(&mut self, Keys(keys): Keys, ctx: &mut Context<Self>) {
        self.add(keys);
        self.pump(ctx);
    }

    /// An informer ends with the node, and so does this actor by itself.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl<R: Reconcile> StreamHandler<Leads> for Controller<R> {
    fn handle(&mut self, Leads(leads): Leads, ctx: &mut Context<Self>) {
        if leads && !self.leads {
            self.add_all();
        }
        self.leads = leads;
        if leads {
            self.pump(ctx);
        } else {
            self.cut_off();
        }
    }

    /// The election has ended: the last state of leadership stays.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl<R: Reconcile> Handler<Finished> for Controller<R> {
    type Result = ();

    fn handle(&mut self, Finished { key, run, result }: Finished, ctx: &mut Context<Self>) {
        if self.running.get(&key).is_none_or(|running| running.number != run) {
            return; // It was cut off just as it ended.
        }
        self.running.remove(&key);
        let outcome = match result {
            Ok(Requeue::No) => Outcome::Done,
            Ok(Requeue::After(after)) => Outcome::Again(after),
            Err(status) => {
                if status.is_conflict() {
                    tracing::debug!(controller = self.name, %key, %status, "reconciliation met a conflict and is tried again");
                } else {
                    tracing::warn!(controller = self.name, %key, %status, "reconciliation failed and is tried again");
                }
                Outcome::Failed
            }
        };
        self.queue.done(&key, self.world.clock.now(), outcome);
        self.pump(ctx);
    }
}

impl<R: Reconcile> Controller<R> {
    fn add(&mut self, keys: Vec<Key>) {
        let now = self.world.clock.now();
        for key in keys {
            self.missed |= self.queue.add(key, now).is_err();
        }
    }

    fn add_all(&mut self) {
        self.missed = false;
        let keys = self.sources.iter().flat_map(|source| (source.all)()).collect();
        self.add(keys);
    }

    /// Starts as much as may be started now.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        self.begin_all(ctx);
        self.meter.set(self.queue.ready(), self.queue.oldest());
    }

    fn begin_all(&mut self, ctx: &mut Context<Self>) {
        if !self.synced || !self.leads {
            return;
        }
        if self.missed && self.queue.ready() == 0 {
            self.add_all();
        }
        while let Some(key) = self.queue.pop(self.world.clock.now()) {
            self.begin(key, ctx);
        }
        self.set_alarm(ctx);
    }

    fn begin(&mut self, key: Key, ctx: &Context<Self>) {
        let (reconcile, clock, address) = (self.reconcile.clone(), self.world.clock.clone(), ctx.address());
        let subject = key.clone();
        self.runs += 1;
        let run = self.runs;
        let task = self.world.spawner.task(async move {
            let reconciled = panics::catch_panics(reconcile.reconcile(&subject));
            let result = match clock.timeout(RECONCILE_MAX, reconciled).await {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => Err(Status::internal_error(panic)),
                Err(_) => Err(Status::new(504, "Timeout", format!("gave up after {RECONCILE_MAX:?}"))),
            };
            // At most one message a running key: the queue's limit bounds the mailbox.
            address.do_send(Finished { key: subject, run, result });
        });
        self.running.insert(key, Run { number: run, task: task.abort_handle() });
    }

    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let due = self.queue.next_due();
        if self.alarm.as_ref().map(|(at, _)| *at) == due {
            return;
        }
        if let Some((_, handle)) = self.alarm.take() {
            ctx.cancel_future(handle);
        }
        if let Some(at) = due {
            let pause = at.saturating_duration_since(self.world.clock.now());
            let handle = ctx.run_later(pause, |controller, ctx| {
                controller.alarm = None;
                controller.pump(ctx);
            });
            self.alarm = Some((at, handle));
        }
    }

    /// Stops what runs; it comes first when this actor leads again.
    fn cut_off(&mut self) {
        for (key, run) in std::mem::take(&mut self.running) {
            run.task.abort();
            self.queue.give_back(&key, self.world.clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;
    use tokio::sync::watch;
    use tokio::task::LocalSet;

    use super::*;
    use crate::kube::client::fake::Fake;
    use crate::world::MemoryDisk;

    /// Plays `story` in a world with an empty API.
    async fn on_stage(story: impl AsyncFnOnce(World, Fake, Shutdown)) {
        let world = World::simulated(1, MemoryDisk::default());
        LocalSet::new().run_until(story(world, Fake::default(), Shutdown::new())).await;
    }

    /// Records the keys that it is called with; fails as often as the test says.
    #[derive(Clone, Default)]
    struct Notes {
        seen: Arc<watch::Sender<Vec<String>>>,
        failures: Arc<Mutex<u32>>,
    }

    #[async_trait::async_trait]
    impl Reconcile for Notes {
        async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
            self.seen.send_modify(|seen| seen.push(key.to_string()));
            let mut failures = self.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err(Status::service_unavailable("away"));
            }
            Ok(if key.name == "again" { Requeue::After(Duration::from_secs(60)) } else { Requeue::No })
        }
    }

    impl Notes {
        async fn count(&self, count: usize) -> Vec<String> {
            let mut seen = self.seen.subscribe();
            let enough = seen.wait_for(|seen| seen.len() >= count);
            let limit = Duration::from_secs(600);
            tokio::time::timeout(limit, enough).await.expect("it was to be reconciled").unwrap().clone()
        }
    }

    fn map(name: &str, data: &str) -> serde_json::Value {
        let owner = json!({"apiVersion": "v1", "kind": "Thing", "name": "owner", "uid": "u", "controller": true});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"v": data},
               "metadata": {"namespace": "default", "name": name, "ownerReferences": [owner]}})
    }

    fn start(world: &World, fake: &Fake, leadership: &Leadership, shutdown: &Shutdown) -> Notes {
        let notes = Notes::default();
        let maps = Informer::of(&fake.client().api::<ConfigMap>()).start(world, shutdown);
        Builder::new("notes", notes.clone()).of(&maps).leadership(leadership).start(world, shutdown);
        notes
    }

    #[tokio::test(start_paused = true)]
    async fn each_change_is_reconciled_and_failures_again() {
        on_stage(async |world, fake, shutdown| {
            fake.put("configmaps", map("a", "1"));
            let notes = start(&world, &fake, &Leadership::always(), &shutdown);
            *notes.failures.lock().unwrap() = 3;
            assert_eq!(notes.count(4).await, ["default/a"; 4]);
            fake.put("configmaps", map("again", "1"));
            let begun = world.clock.now();
            notes.count(6).await;
            assert!(world.clock.now() - begun >= Duration::from_secs(60), "it asked to be called again then");
            shutdown.begin();
            world.clock.sleep(Duration::from_secs(300)).await;
            let seen = notes.seen.borrow().len();
            assert!(seen <= 7, "it ended: {seen}");
        })
        .await;
    }

    /// Panics for one object; the others are reconciled.
    #[derive(Clone, Default)]
    struct Fragile(Notes);

    #[async_trait::async_trait]
    impl Reconcile for Fragile {
        async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
            let reconciled = self.0.reconcile(key).await;
            assert!(key.name != "bad", "a bug");
            reconciled
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_whose_reconciliation_panics_is_tried_again_and_keeps_nobody_else_up() {
        on_stage(async |world, fake, shutdown| {
            let (fragile, leadership) = (Fragile::default(), Leadership::always());
            let maps = Informer::of(&fake.client().api::<ConfigMap>()).start(&world, &shutdown);
            Builder::new("fragile", fragile.clone()).of(&maps).leadership(&leadership).start(&world, &shutdown);
            fake.put("configmaps", map("bad", "1"));
            let seen = fragile.0.count(3).await;
            assert_eq!(seen, ["default/bad"; 3]);
            fake.put("configmaps", map("good", "1"));
            world.clock.sleep(Duration::from_secs(1)).await;
            assert!(fragile.0.seen.borrow().contains(&"default/good".to_owned()));
            let mut components = world.spawner.roster().components().into_iter();
            let controller = components.find(|component| component.name == "controllers/fragile").unwrap();
            assert_eq!((controller.running, controller.restarts), (true, 0));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_controller_that_panics_comes_back_and_goes_through_everything() {
        on_stage(async |world, fake, shutdown| {
            let notes = Notes::default();
            let maps = Informer::of(&fake.client().api::<ConfigMap>()).start(&world, &shutdown);
            let keys = |map: &ConfigMap| {
                let key = Key::of(&map.metadata);
                assert!(key.name != "bad" || map.data.is_none(), "a bug");
                vec![key]
            };
            Builder::new("notes", notes.clone()).watches(&maps, keys).start(&world, &shutdown);
            fake.put("configmaps", map("a", "1"));
            notes.count(1).await;
            fake.put("configmaps", map("bad", "1"));
            world.clock.sleep(Duration::from_millis(100)).await;
            fake.edit("configmaps", &Key::new("default", "bad"), |map| map["data"] = serde_json::Value::Null);
            let seen = notes.count(3).await;
            assert!(seen[1..].contains(&"default/a".to_owned()), "{seen:?}");
            let mut components = world.spawner.roster().components().into_iter();
            let controller = components.find(|component| component.name == "controllers/notes").unwrap();
            assert!(controller.running && controller.restarts > 0, "{controller:?}");
            assert!(controller.last_exit.unwrap().ends_with(": a bug"));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_controller_that_is_restarted_opens_its_streams_again() {
        on_stage(async |world, fake, shutdown| {
            let (notes, seen) = (Notes::default(), Arc::new(Mutex::new(Vec::new())));
            let maps = Informer::of(&fake.client().api::<ConfigMap>()).start(&world, &shutdown);
            let (forgotten, shown, lives) = (seen.clone(), seen.clone(), Mutex::new(0));
            let keys = move || {
                let mut lives = lives.lock().unwrap();
                *lives += 1;
                let life = *lives;
                // A stream of async code that panicked would panic for ever.
                futures::stream::once(async move {
                    assert!(life > 1, "a bug");
                    vec![Key::new("default", "listed")]
                })
                .boxed()
            };
            Builder::new("notes", notes.clone())
                .begins_with(move || forgotten.lock().unwrap().clear())
                .shows(&maps, move |change| shown.lock().unwrap().push(change.object().metadata.name.clone()))
                .keys_from(keys, Vec::new)
                .start(&world, &shutdown);
            fake.put("configmaps", map("a", "1"));
            assert_eq!(notes.count(1).await, ["default/listed"]);
            world.clock.sleep(Duration::from_secs(10)).await;
            assert_eq!(*seen.lock().unwrap(), [Some("a".to_owned())]);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn owners_are_reconciled_for_what_they_own() {
        on_stage(async |world, fake, shutdown| {
            let notes = Notes::default();
            let maps = Informer::of(&fake.client().api::<ConfigMap>()).start(&world, &shutdown);
            let controller = Builder::new("notes", notes.clone()).owns(&maps, "Thing");
            controller.owns(&maps, "Other").start(&world, &shutdown);
            fake.put("configmaps", map("a", "1"));
            assert_eq!(notes.count(1).await, ["default/owner"]);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_standby_waits_and_then_goes_through_everything() {
        on_stage(async |world, fake, shutdown| {
            let (sender, leadership) = Leadership::settable();
            let notes = start(&world, &fake, &leadership, &shutdown);
            fake.put("configmaps", map("a", "1"));
            world.clock.sleep(Duration::from_secs(60)).await;
            assert!(notes.seen.borrow().is_empty());
            sender.send_replace(true);
            notes.count(1).await;
            sender.send_replace(false);
            world.clock.sleep(Duration::from_secs(1)).await;
            sender.send_replace(true);
            assert_eq!(notes.count(2).await, ["default/a", "default/a"]);
        })
        .await;
    }
}
