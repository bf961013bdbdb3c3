//! The actor of the node's pods as a whole.
//!
//! It owns the map from uid to pod actor. It hears from the watch of pods bound to the node, from the engine's changes
//! and from pod actors that finished, and speaks to pod actors only. Once the API has listed the node's pods it also
//! clears the engine of containers whose pod is not among them; until then it leaves everything as it is, so an agent
//! that starts while no frontend answers keeps its pods running. When it dies, the next one finds the pods through the
//! API or the notebook, and their containers by their labels. A pod's actor that dies is followed by another one.

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
use super::pod::actor::{Finished, Gone, Leave, Look, PodActor, Update};
use super::pod::pass::State;
use super::pod::sources::Sources;
use super::pod::volumes::{self, PodDir};
use super::runtime::{PodChanged, PodId, Signal};
use crate::actor::{Shutdown, Supervisor};
use crate::kube::informer::{Change, Informer};
use crate::kube::object::Key;
use crate::world::Lane;

/// How often the engine is searched for what no pod accounts for.
const SWEEP: Duration = Duration::from_secs(60);
/// A stream of the engine's changes that broke is opened again after this.
const REOPEN: Duration = Duration::from_secs(2);
/// How long containers without a pod may take to end.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);
const ORPHAN_LOOK: Duration = Duration::from_millis(250);

pub struct Agent {
    context: Arc<Context>,
    pods: Informer<Pod>,
    /// What the notebook told at start.
    remembered: Vec<(Pod, Sources)>,
    shutdown: Shutdown,
    actors: BTreeMap<String, PodAddress>,
    /// The end of their actors.
    end: Shutdown,
    sweeping: bool,
}

/// Where the actor of a pod is reached. While it is being started anew nobody is: then it looks for itself.
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

/// The engine says that something happened to a pod, or that its stream of changes ended.
struct Changed(Option<PodChanged>);

/// The API has listed the node's pods.
struct Synced;

impl Message for Changed {
    type Result = ();
}

impl Message for Synced {
    type Result = ();
}

impl Agent {
    pub fn new(
        context: Arc<Context>,
        pods: Informer<Pod>,
        remembered: Vec<(Pod, Sources)>,
        shutdown: Shutdown,
    ) -> Agent {
        let end = shutdown.below();
        Agent { context, pods, remembered, shutdown, actors: BTreeMap::new(), end, sweeping: false }
    }

    /// Sees that the pod has an actor, which begins with what is known of its `sources`.
    fn take(&mut self, pod: Arc<Pod>, sources: Sources, ctx: &Ctx<Agent>) {
        let Some(uid) = pod.metadata.uid.clone().filter(|_| pod.spec.is_some()) else { return };
        if let Some(actor) = self.actors.get(&uid) {
            return actor.do_send(Update(pod));
        }
        let (context, agent, pods) = (self.context.clone(), ctx.address().recipient(), self.pods.clone());
        let (address, key) = (PodAddress::default(), Key::of(&pod.metadata));
        self.actors.insert(uid, address.clone());
        let supervisor = Supervisor::new(&self.context.world, &self.end).may_end();
        supervisor.actor(Lane::Agent, format!("agent/pod/{key}"), None, move |ctx| {
            address.set(ctx.address());
            // Messages from before are lost.
            let latest = pods.get(&key).filter(|latest| latest.metadata.uid == pod.metadata.uid);
            if latest.is_none() && pods.has_synced() {
                ctx.notify(Gone);
            }
            let state = State { sources: sources.clone(), ..State::default() };
            PodActor::new(context.clone(), agent.clone(), latest.unwrap_or_else(|| pod.clone()), state)
        });
    }

    fn watch_engine(&mut self, ctx: &Ctx<Agent>) {
        let (context, agent, end) = (self.context.clone(), ctx.address(), self.shutdown.wait());
        self.context.world.spawner.keep("agent/engine_events", async move {
            let relay = async {
                if let Ok(mut changes) = context.runtime.changes().await {
                    // Whatever happened before the stream was open is found by looking.
                    agent.do_send(Changed(None));
                    while let Some(Ok(change)) = changes.next().await {
                        agent.do_send(Changed(Some(change)));
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

    /// Looks for what no pod accounts for. Only once the API has listed the node's pods is it known which those are.
    fn sweep(&mut self, ctx: &mut Ctx<Agent>) {
        if self.sweeping || !self.pods.has_synced() {
            return;
        }
        self.sweeping = true;
        let found = self.context.world.spawner.task(Found::look(self.context.clone()));
        ctx.spawn(found.into_actor(self).map(|found, agent, ctx| match found {
            Ok(Ok(found)) => agent.clear_away(found, ctx),
            Ok(Err(error)) => {
                agent.sweeping = false;
                tracing::warn!(%error, "cannot look for containers without a pod");
            }
            Err(_) => {}
        }));
    }

    /// A pod's actor is there before its first container, so what was found and has no actor now is nobody's.
    fn clear_away(&mut self, mut found: Found, ctx: &mut Ctx<Agent>) {
        found.pods.retain(|pod| !self.actors.contains_key(&pod.uid));
        found.dirs.retain(|uid| !self.actors.contains_key(uid));
        let cleared = self.context.world.spawner.task(found.remove(self.context.clone()));
        ctx.spawn(cleared.into_actor(self).map(|result, agent, _| {
            agent.sweeping = false;
            if let Ok(Err(error)) = result {
                tracing::warn!(%error, "cannot clear away containers without a pod");
            }
        }));
    }
}

/// The next agent starts actors of its own.
impl Drop for Agent {
    fn drop(&mut self) {
        self.end.begin();
        self.actors.values().for_each(|actor| actor.do_send(Leave));
    }
}

/// What the node holds of pods, whether or not they still exist.
struct Found {
    pods: Vec<PodId>,
    /// Uids that volumes are kept of.
    dirs: Vec<String>,
}

impl Found {
    async fn look(context: Arc<Context>) -> Result<Found, Error> {
        let pods = context.runtime.pods().await?;
        let dir = volumes::pods_dir(&context.data_dir);
        let dirs = if context.world.disk.exists(&dir) { context.world.disk.list(&dir)? } else { Vec::new() };
        Ok(Found { pods, dirs })
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
        context.world.clock.sleep(ORPHAN_LOOK).await;
    }
}

/// The engine's changes are to be listened to again.
struct Reopen;

impl Message for Reopen {
    type Result = ();
}

impl Actor for Agent {
    type Context = Ctx<Agent>;

    fn started(&mut self, ctx: &mut Ctx<Agent>) {
        for (pod, sources) in std::mem::take(&mut self.remembered) {
            self.take(Arc::new(pod), sources, ctx);
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
            agent.do_send(Leave);
        });
    }
}

impl StreamHandler<Change<Pod>> for Agent {
    fn handle(&mut self, change: Change<Pod>, ctx: &mut Ctx<Agent>) {
        match change.new() {
            Some(pod) => self.take(pod.clone(), Sources::default(), ctx),
            None => {
                let uid = change.object().metadata.uid.as_deref().unwrap_or_default();
                if let Some(actor) = self.actors.get(uid) {
                    actor.do_send(Gone);
                }
            }
        }
    }

    /// The informer ends with the node.
    fn finished(&mut self, _: &mut Ctx<Agent>) {}
}

impl Handler<Changed> for Agent {
    type Result = ();

    fn handle(&mut self, Changed(change): Changed, _: &mut Ctx<Agent>) {
        match change {
            Some(PodChanged { uid }) => {
                if let Some(actor) = self.actors.get(&uid) {
                    actor.do_send(Look);
                }
            }
            None => self.actors.values().for_each(|actor| actor.do_send(Look)),
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
                actor.do_send(Gone);
            }
        }
        self.pods.all().into_iter().for_each(|pod| self.take(pod, Sources::default(), ctx));
        self.sweep(ctx);
    }
}

impl Handler<Finished> for Agent {
    type Result = ();

    fn handle(&mut self, Finished { uid }: Finished, _: &mut Ctx<Agent>) {
        self.actors.remove(&uid);
    }
}

impl Handler<Leave> for Agent {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Ctx<Agent>) {
        self.actors.values().for_each(|actor| actor.do_send(Leave));
        ctx.stop();
    }
}
