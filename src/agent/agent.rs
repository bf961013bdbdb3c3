//! The actor of the node's pods as a whole.
//!
//! It owns the map from uid to pod actor. The watch of pods bound to the node, the engine's events and pod actors that
//! finished speak to it; it speaks to pod actors only. Once the API has listed the node's pods, it also removes
//! containers whose pod is not among them; until then it leaves everything as it is, so an agent that starts while no
//! frontend answers keeps its pods running. When it dies, the next one finds the pods through the API or the notebook,
//! and their containers by their labels. A pod's actor that dies is followed by another one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context as Ctx, Handler, Message, StreamHandler,
    WrapFuture,
};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;

use super::context::Context;
use super::error::Error;
use super::pod::actor::{Detach, PodActor, PodFinished, PodGone, PodUpdate, SyncPod};
use super::pod::sources::Sources;
use super::pod::sync::PodState;
use super::pod::volumes::{self, PodDir};
use super::runtime::{PodId, PodLifecycleEvent, Signal};
use crate::actor::{Shutdown, Supervisor};
use crate::kube::informer::{Change, Informer};
use crate::kube::object::Key;
use crate::world::Lane;

/// How often the agent looks for containers and files that belong to no pod.
const SWEEP: Duration = Duration::from_secs(60);
/// The stream of the engine's events is opened again this long after it broke.
const REOPEN: Duration = Duration::from_secs(2);
/// How long containers without a pod may take to end.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);
const ORPHAN_POLL: Duration = Duration::from_millis(250);

pub struct Agent {
    context: Arc<Context>,
    pods: Informer<Pod>,
    /// The pods that the notebook held at start, until an agent has seen what the API lists.
    noted_pods: Arc<Mutex<Vec<(Pod, Sources)>>>,
    shutdown: Shutdown,
    actors: BTreeMap<String, PodAddress>,
    /// Begins when this agent ends, and ends its pod actors.
    end: Shutdown,
    is_sweeping: bool,
}

/// Where the actor of a pod is reached. While a new one is being started, messages reach nobody; it begins with a sync.
#[derive(Clone, Default)]
struct PodAddress(Arc<Mutex<Option<Addr<PodActor>>>>);

impl PodAddress {
    fn set(&self, address: Addr<PodActor>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    fn do_send<M>(&self, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        PodActor: Handler<M>,
    {
        if let Some(address) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            address.do_send(message);
        }
    }
}

/// Something happened to the containers of a pod; `None` when the stream of events has just begun, and anything may
/// have happened before.
struct RuntimeEvent(Option<PodLifecycleEvent>);

/// The API has listed the node's pods.
struct Synced;

impl Message for RuntimeEvent {
    type Result = ();
}

impl Message for Synced {
    type Result = ();
}

impl Agent {
    pub fn new(
        context: Arc<Context>,
        pods: Informer<Pod>,
        noted_pods: Arc<Mutex<Vec<(Pod, Sources)>>>,
        shutdown: Shutdown,
    ) -> Agent {
        let end = shutdown.below();
        Agent { context, pods, noted_pods, shutdown, actors: BTreeMap::new(), end, is_sweeping: false }
    }

    /// Gives a new version of a pod to its actor, or starts one, with the `sources` that are known.
    fn start_or_update(&mut self, pod: Arc<Pod>, sources: Sources, ctx: &Ctx<Agent>) {
        let Some(uid) = pod.metadata.uid.clone().filter(|_| pod.spec.is_some()) else { return };
        if let Some(actor) = self.actors.get(&uid) {
            return actor.do_send(PodUpdate(pod));
        }
        let (context, agent, pods) = (self.context.clone(), ctx.address().recipient(), self.pods.clone());
        let (address, key) = (PodAddress::default(), Key::of(&pod.metadata));
        self.actors.insert(uid, address.clone());
        let supervisor = Supervisor::new(&self.context.world, &self.end).restart_on_panic_only();
        supervisor.actor(Lane::Agent, format!("agent/pod/{key}"), None, move |ctx| {
            address.set(ctx.address());
            // Messages to the previous actor are lost with it.
            let latest = pods.get(&key).filter(|latest| latest.metadata.uid == pod.metadata.uid);
            if latest.is_none() && pods.has_synced() {
                ctx.notify(PodGone);
            }
            let state = PodState { sources: sources.clone(), ..PodState::default() };
            PodActor::new(context.clone(), agent.clone(), latest.unwrap_or_else(|| pod.clone()), state)
        });
    }

    fn watch_engine(&mut self, ctx: &Ctx<Agent>) {
        let (context, agent, end) = (self.context.clone(), ctx.address(), self.shutdown.wait());
        self.context.world.spawner.keep("agent/engine_events", async move {
            let relay = async {
                if let Ok(mut changes) = context.runtime.events().await {
                    // A sync of every pod finds what happened before the stream was open.
                    agent.do_send(RuntimeEvent(None));
                    while let Some(Ok(change)) = changes.next().await {
                        agent.do_send(RuntimeEvent(Some(change)));
                    }
                }
                context.world.clock.sleep(REOPEN).await;
            };
            tokio::select! {
                () = end => {}
                () = relay => agent.do_send(Reopen),
            }
        });
    }

    /// Looks for containers and files that belong to no pod: only after the API has listed the node's pods.
    fn sweep(&mut self, ctx: &mut Ctx<Agent>) {
        if self.is_sweeping || !self.pods.has_synced() {
            return;
        }
        self.is_sweeping = true;
        let leftovers = self.context.world.spawner.task(Leftovers::list(self.context.clone()));
        ctx.spawn(leftovers.into_actor(self).map(|leftovers, agent, ctx| match leftovers {
            Ok(Ok(leftovers)) => agent.remove_leftovers(leftovers, ctx),
            Ok(Err(error)) => {
                agent.is_sweeping = false;
                tracing::warn!(%error, "cannot look for containers without a pod");
            }
            Err(_) => {}
        }));
    }

    /// A pod's actor starts before its first container, so what was found and has no actor now belongs to no pod.
    fn remove_leftovers(&mut self, mut leftovers: Leftovers, ctx: &mut Ctx<Agent>) {
        leftovers.pods.retain(|pod| !self.actors.contains_key(&pod.uid));
        leftovers.dirs.retain(|uid| !self.actors.contains_key(uid));
        let cleared = self.context.world.spawner.task(leftovers.remove(self.context.clone()));
        ctx.spawn(cleared.into_actor(self).map(|result, agent, _| {
            agent.is_sweeping = false;
            if let Ok(Err(error)) = result {
                tracing::warn!(%error, "cannot remove containers without a pod");
            }
        }));
    }
}

/// The next agent starts actors of its own.
impl Drop for Agent {
    fn drop(&mut self) {
        self.end.begin();
        self.actors.values().for_each(|actor| actor.do_send(Detach));
    }
}

/// What the node holds of pods, whether or not these still exist.
struct Leftovers {
    pods: Vec<PodId>,
    /// The uids that have directories.
    dirs: Vec<String>,
}

impl Leftovers {
    async fn list(context: Arc<Context>) -> Result<Leftovers, Error> {
        let pods = context.runtime.pods().await?;
        let dir = volumes::pods_dir(&context.data_dir);
        let dirs = if context.world.disk.exists(&dir) { context.world.disk.list(&dir)? } else { Vec::new() };
        Ok(Leftovers { pods, dirs })
    }

    async fn remove(self, context: Arc<Context>) -> Result<(), Error> {
        for orphan in &self.pods {
            tracing::info!(pod = orphan.name, namespace = orphan.namespace, "removing containers without a pod");
            remove_orphan(&context, orphan).await?;
        }
        for uid in &self.dirs {
            PodDir::new(context.world.disk.clone(), &context.data_dir, uid).remove()?;
        }
        Ok(())
    }
}

async fn remove_orphan(context: &Context, pod: &PodId) -> Result<(), Error> {
    let deadline = context.world.clock.now() + ORPHAN_GRACE;
    for container in context.runtime.view(&pod.uid).await?.containers.iter().filter(|c| c.is_running()) {
        context.runtime.signal(&container.id, Signal::Stop).await?;
    }
    loop {
        let view = context.runtime.view(&pod.uid).await?;
        let runs = view.containers.iter().any(|container| container.is_running());
        if !runs || context.world.clock.now() >= deadline {
            for id in view.containers.iter().map(|c| &c.id).chain(view.sandboxes.iter().map(|s| &s.id)) {
                context.runtime.remove(id).await?;
            }
            return Ok(());
        }
        context.world.clock.sleep(ORPHAN_POLL).await;
    }
}

/// Opens the stream of the engine's events again.
struct Reopen;

impl Message for Reopen {
    type Result = ();
}

impl Actor for Agent {
    type Context = Ctx<Agent>;

    fn started(&mut self, ctx: &mut Ctx<Agent>) {
        let noted_pods = self.noted_pods.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (pod, sources) in noted_pods {
            self.start_or_update(Arc::new(pod), sources, ctx);
        }
        ctx.add_stream(self.pods.changes());
        self.watch_engine(ctx);
        ctx.run_interval(SWEEP, Agent::sweep);
        let (pods, agent) = (self.pods.clone(), ctx.address());
        let shutdown = self.shutdown.clone();
        self.context.world.spawner.keep("agent/shutdown", async move {
            tokio::select! {
                () = shutdown.wait() => {}
                () = pods.synced() => agent.do_send(Synced),
            }
            shutdown.wait().await;
            agent.do_send(Detach);
        });
    }
}

impl StreamHandler<Change<Pod>> for Agent {
    fn handle(&mut self, change: Change<Pod>, ctx: &mut Ctx<Agent>) {
        match change.new() {
            Some(pod) => self.start_or_update(pod.clone(), Sources::default(), ctx),
            None => {
                let uid = change.object().metadata.uid.as_deref().unwrap_or_default();
                if let Some(actor) = self.actors.get(uid) {
                    actor.do_send(PodGone);
                }
            }
        }
    }

    /// The informer ends with the node.
    fn finished(&mut self, _: &mut Ctx<Agent>) {}
}

impl Handler<RuntimeEvent> for Agent {
    type Result = ();

    fn handle(&mut self, RuntimeEvent(change): RuntimeEvent, _: &mut Ctx<Agent>) {
        match change {
            Some(PodLifecycleEvent { uid }) => {
                if let Some(actor) = self.actors.get(&uid) {
                    actor.do_send(SyncPod);
                }
            }
            None => self.actors.values().for_each(|actor| actor.do_send(SyncPod)),
        }
    }
}

impl Handler<Reopen> for Agent {
    type Result = ();

    fn handle(&mut self, _: Reopen, ctx: &mut Ctx<Agent>) {
        self.watch_engine(ctx);
    }
}

impl Handler<Synced> for Agent {
    type Result = ();

    fn handle(&mut self, _: Synced, ctx: &mut Ctx<Agent>) {
        let listed: Vec<_> = self.pods.all().iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        for (uid, actor) in &self.actors {
            if !listed.contains(uid) {
                actor.do_send(PodGone);
            }
        }
        self.pods.all().into_iter().for_each(|pod| self.start_or_update(pod, Sources::default(), ctx));
        // From now on an agent that is restarted finds its pods in the informer.
        self.noted_pods.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.sweep(ctx);
    }
}

impl Handler<PodFinished> for Agent {
    type Result = ();

    fn handle(&mut self, PodFinished { uid }: PodFinished, _: &mut Ctx<Agent>) {
        self.actors.remove(&uid);
    }
}

impl Handler<Detach> for Agent {
    type Result = ();

    fn handle(&mut self, _: Detach, ctx: &mut Ctx<Agent>) {
        self.actors.values().for_each(|actor| actor.do_send(Detach));
        ctx.stop();
    }
}
