//! The actor of one pod.
//!
//! It owns the pod's memory. The agent (the pod changed, is gone, has to be synced), its background tasks (a pull, a
//! hook) and its probers speak to it. It runs one sync at a time, writes the status that a sync found to the API, and
//! confirms the pod's deletion. The next sync takes up what arrives during one. When it dies, the next one starts over
//! from what the engine shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context as Ctx, Handler, Message, Recipient, SpawnHandle,
    WrapFuture,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodStatus};
use tokio::task::AbortHandle;

use super::lifecycle::{self, PodSnapshot};
use super::memory::{Failure, ImageState, Memory, PostStart, PreStop};
use super::page::Page;
use super::probe::{self, ProbeKind, Prober};
use super::status;
use super::sync::{BackgroundTask, PodState, PodSync, SyncOutcome, SyncResult, container_reference};
use crate::agent::context::Context;
use crate::agent::error::Error;
use crate::agent::runtime::{Container, PodView};
use crate::kube::client::{DeleteOptions, PatchType};
use crate::kube::events::Severity;
use crate::kube::status::Status;
use crate::kube::time;

/// A write to the API that failed is tried again after this, doubled each time up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long a write to the API may take.
const WRITE_MAX: Duration = Duration::from_secs(15);
/// A pod removed without a grace period still gets this long.
const GRACE_MIN: SignedDuration = SignedDuration::from_secs(1);
/// A postStart hook may take as long as its container runs.
const POST_START_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// A pod is synced this often even if nothing is known to have happened.
const SYNC_FREQUENCY: Duration = Duration::from_secs(60);

/// The pod's version in the API now.
pub struct PodUpdate(pub Arc<Pod>);

/// The API has no such pod any more.
pub struct PodGone;

/// Sync the pod: something may have happened to its containers.
pub struct SyncPod;

/// Stop, since the agent ends; the containers run on.
pub struct Detach;

/// Nothing is left of a pod; its actor has ended.
pub struct PodFinished {
    pub uid: String,
}

/// What background tasks and probers report.
enum Report {
    Pulled {
        container: String,
        result: Result<String, Error>,
    },
    /// A preStop hook is over, however it ended.
    Stopping {
        container_id: String,
    },
    /// A postStart hook is over. If it failed, its container is restarted.
    Started {
        container_id: String,
        success: bool,
    },
    Verdict {
        container_id: String,
        kind: ProbeKind,
        success: bool,
    },
}

macro_rules! message {
    ($($name:ty),*) => {
        $(impl Message for $name {
            type Result = ();
        })*
    };
}
message!(PodUpdate, PodGone, SyncPod, Detach, PodFinished, Report);

pub struct PodActor {
    context: Arc<Context>,
    agent: Recipient<PodFinished>,
    pod: Arc<Pod>,
    gone: bool,
    delete_by: Option<Timestamp>,
    /// `None` while a sync has it.
    state: Option<PodState>,
    sync_again: bool,
    reports: Vec<Report>,
    wake: Option<SpawnHandle>,
    /// The status that was written to the API last.
    written_status: Option<PodStatus>,
    /// The agent's part of the pod's status in the API after that write, and the version of the pod.
    api_status: Option<(u64, PodStatus)>,
    is_writing: bool,
    /// The status that the last sync found.
    status: Option<PodStatus>,
    retry: Duration,
    probers: BTreeMap<(String, ProbeKind), AbortHandle>,
    /// postStart hooks under way, by container ID.
    hooks: BTreeMap<String, AbortHandle>,
    /// The pod's page in the notebook, and whether a new one is being written.
    page_written: Option<Page>,
    is_writing_page: bool,
    /// Nothing is left to do but to remove the pod from the notebook.
    done: bool,
}

impl PodActor {
    pub fn new(context: Arc<Context>, agent: Recipient<PodFinished>, pod: Arc<Pod>, state: PodState) -> PodActor {
        PodActor {
            context,
            agent,
            pod,
            gone: false,
            delete_by: None,
            state: Some(state),
            sync_again: false,
            reports: Vec::new(),
            wake: None,
            written_status: None,
            api_status: None,
            is_writing: false,
            status: None,
            retry: RETRY_MIN,
            probers: BTreeMap::new(),
            hooks: BTreeMap::new(),
            page_written: None,
            is_writing_page: false,
            done: false,
        }
    }

    fn now(&self) -> Timestamp {
        time::timestamp(&self.context.world.clock)
    }

    /// Sets the time by which the pod's processes must have ended: never later than it was.
    fn note_deletion(&mut self) {
        let meta = &self.pod.metadata;
        let grace = match (self.gone, &meta.deletion_timestamp) {
            (true, _) => GRACE_MIN,
            (false, None) => return,
            (false, Some(_)) => {
                SignedDuration::from_secs(meta.deletion_grace_period_seconds.unwrap_or(30)).max(GRACE_MIN)
            }
        };
        let by = self.now() + grace;
        self.delete_by = Some(self.delete_by.map_or(by, |before| before.min(by)));
    }

    /// If another writer changed the agent's part of the status, as the node controller does when a node is silent, the
    /// status is written again.
    fn note_foreign_writes(&mut self) {
        let overruled =
            |(at, api_status): &(u64, PodStatus)| version(&self.pod) > *at && status::own(&self.pod) != *api_status;
        if self.api_status.as_ref().is_some_and(overruled) {
            self.written_status = None;
        }
    }

    fn sync(&mut self, ctx: &mut Ctx<PodActor>) {
        let Some(mut state) = self.state.take() else {
            self.sync_again = true;
            return;
        };
        if let Some(wake) = self.wake.take() {
            ctx.cancel_future(wake);
        }
        let now = self.now();
        for report in self.reports.drain(..) {
            record(&mut state.memory, report, now);
        }
        let sync = PodSync {
            context: self.context.clone(),
            pod: match &self.status {
                // The status found last counts, whether or not it has been to the API and back.
                Some(found) => Arc::new(status::with_found(&self.pod, found)),
                None => self.pod.clone(),
            },
            state,
            delete_by: self.delete_by,
            gone: self.gone,
            written_status: self.written_status.clone(),
            tasks: Vec::new(),
        };
        let sync = self.context.world.spawner.task(sync.run());
        ctx.spawn(sync.into_actor(self).map(|result, actor, ctx| {
            // A sync that panicked ends this actor as well; it is cancelled only when the runtime ends.
            if let Ok(result) = result {
                actor.after(result, ctx);
            }
        }));
    }

    fn after(&mut self, result: SyncResult, ctx: &mut Ctx<PodActor>) {
        for task in result.tasks {
            self.start_task(task, ctx);
        }
        let wake = match result.outcome {
            SyncOutcome::Removed => return self.removed(ctx),
            SyncOutcome::Incomplete { wake } => Some(wake),
            SyncOutcome::UpToDate { view, status, wake } => {
                self.adjust_probers(&view, &result.state.memory, ctx);
                self.status = Some(*status);
                wake
            }
        };
        self.write_page(&result.state, ctx);
        self.state = Some(result.state);
        self.write_status(ctx);
        if std::mem::take(&mut self.sync_again) || !self.reports.is_empty() {
            return self.sync(ctx);
        }
        let wait = wake.map(|wake| Duration::try_from(wake.duration_since(self.now())).unwrap_or_default());
        let wait = wait.map_or(SYNC_FREQUENCY, |wait| wait.min(SYNC_FREQUENCY)).max(Duration::from_millis(10));
        self.wake = Some(ctx.run_later(wait, |actor, ctx| {
            actor.wake = None;
            actor.sync(ctx);
        }));
    }

    /// Writes the status to the API, unless it is there or another write is under way.
    fn write_status(&mut self, ctx: &mut Ctx<PodActor>) {
        let Some(status) = self.status.clone().filter(|status| self.written_status.as_ref() != Some(status)) else {
            return;
        };
        if self.is_writing || self.gone {
            return;
        }
        self.is_writing = true;
        let meta = &self.pod.metadata;
        let patch = status::patch(meta.uid.as_deref().unwrap_or_default(), &status);
        let pods = self.context.client.api::<Pod>().namespaced(meta.namespace.as_deref().unwrap_or_default());
        let (name, clock) = (meta.name.clone().unwrap_or_default(), self.context.world.clock.clone());
        let write = self.context.world.spawner.task(async move {
            let patched = pods.patch_status(&name, PatchType::Strategic, &patch);
            clock.timeout(WRITE_MAX, patched).await.unwrap_or_else(|_| Err(no_answer()))
        });
        ctx.spawn(write.into_actor(self).map(move |result, actor, ctx| {
            actor.is_writing = false;
            match result {
                Ok(Ok(written)) => {
                    actor.written_status = Some(status);
                    actor.api_status = Some((version(&written), status::own(&written)));
                    actor.note_foreign_writes();
                    actor.retry = RETRY_MIN;
                    // A deletion waits until the last status is written.
                    if actor.delete_by.is_some() { actor.sync(ctx) } else { actor.write_status(ctx) }
                }
                // No pod has the name, or another one.
                Ok(Err(error)) if error.is_not_found() => actor.pod_gone(ctx),
                Ok(Err(error)) => {
                    tracing::debug!(pod = actor.pod.metadata.name, %error, "a pod's status is not written yet");
                    actor.retry_later(ctx, PodActor::write_status);
                }
                Err(_) => {}
            }
        }));
    }

    fn retry_later(&mut self, ctx: &mut Ctx<PodActor>, then: fn(&mut PodActor, &mut Ctx<PodActor>)) {
        ctx.run_later(self.retry, then);
        self.retry = (self.retry * 2).min(RETRY_MAX);
    }

    fn pod_gone(&mut self, ctx: &mut Ctx<PodActor>) {
        self.gone = true;
        self.note_deletion();
        self.sync(ctx);
    }

    /// Nothing is left on the node: confirms the deletion to the API.
    fn removed(&mut self, ctx: &mut Ctx<PodActor>) {
        self.stop_tasks();
        if self.gone {
            return self.finish(ctx);
        }
        let meta = &self.pod.metadata;
        let pods = self.context.client.api::<Pod>().namespaced(meta.namespace.as_deref().unwrap_or_default());
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            precondition_uid: meta.uid.clone(),
            ..DeleteOptions::default()
        };
        let (name, clock) = (meta.name.clone().unwrap_or_default(), self.context.world.clock.clone());
        let deleted = self.context.world.spawner.task(async move {
            let deleted = pods.delete(&name, options);
            clock.timeout(WRITE_MAX, deleted).await.unwrap_or_else(|_| Err(no_answer())).map(|_| ())
        });
        ctx.spawn(deleted.into_actor(self).map(|result, actor, ctx| match result {
            Ok(Ok(())) => actor.finish(ctx),
            Ok(Err(error)) if error.is_not_found() || error.is_conflict() => actor.finish(ctx),
            Ok(Err(_)) => actor.retry_later(ctx, PodActor::removed),
            Err(_) => {}
        }));
    }

    /// Keeps the notebook's page of the pod up to date. One write at a time; the next sync makes up for a skipped one.
    fn write_page(&mut self, state: &PodState, ctx: &mut Ctx<PodActor>) {
        let Some(notebook) = self.context.notebook.clone() else { return };
        let page = Page::of(&self.pod, &state.sources);
        if self.is_writing_page || self.page_written.as_ref() == Some(&page) {
            return;
        }
        self.is_writing_page = true;
        let (uid, written) = (self.pod.metadata.uid.clone().unwrap_or_default(), page.clone());
        let world = self.context.world.clone();
        let write = self
            .context
            .world
            .spawner
            .task(async move { world.spawner.blocking(move || notebook.put(&uid, &written)).await });
        ctx.spawn(write.into_actor(self).map(move |result, actor, ctx| {
            actor.is_writing_page = false;
            match result {
                Ok(Ok(())) => actor.page_written = Some(page),
                Ok(Err(error)) => tracing::warn!(%error, "a pod cannot be written to the notebook"),
                Err(_) => {}
            }
            if actor.done {
                actor.finish(ctx);
            }
        }));
    }

    /// Ends the actor, after the pod is removed from the notebook.
    fn finish(&mut self, ctx: &mut Ctx<PodActor>) {
        self.done = true;
        if self.is_writing_page {
            return;
        }
        let Some(notebook) = self.context.notebook.clone() else {
            return self.leave(ctx);
        };
        let (uid, world) = (self.pod.metadata.uid.clone().unwrap_or_default(), self.context.world.clone());
        let remove =
            self.context.world.spawner.task(async move { world.spawner.blocking(move || notebook.remove(&uid)).await });
        ctx.spawn(remove.into_actor(self).map(|result, actor, ctx| {
            if let Ok(Err(error)) = result {
                tracing::warn!(%error, "a pod cannot be removed from the notebook");
            }
            actor.leave(ctx);
        }));
    }

    fn leave(&mut self, ctx: &mut Ctx<PodActor>) {
        self.agent.do_send(PodFinished { uid: self.pod.metadata.uid.clone().unwrap_or_default() });
        ctx.stop();
    }

    fn start_task(&mut self, task: BackgroundTask, ctx: &Ctx<PodActor>) {
        let (context, pod, address) = (self.context.clone(), self.pod.clone(), ctx.address());
        match task {
            BackgroundTask::Pull { container, image, credentials } => {
                self.context.world.spawner.task(async move {
                    let _turn = context.pulls.acquire().await;
                    let result = context.runtime.pull_image(&image, credentials.as_ref()).await;
                    address.do_send(Report::Pulled { container, result });
                });
            }
            BackgroundTask::PreStop { container_id, container, is_init, limit } => {
                self.context.world.spawner.task(async move {
                    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
                    let run = run_hook(&context, &container_id, &container, hook, limit, &pod);
                    let result = context.world.clock.timeout(limit, run).await;
                    if let Ok(Err(why)) = result {
                        let about = container_reference(&pod, &container.name, is_init);
                        let message = format!("PreStopHook failed: {why}");
                        context.events.event_about(&about, Severity::Warning, "FailedPreStopHook", message);
                    }
                    address.do_send(Report::Stopping { container_id });
                });
            }
            BackgroundTask::PostStart { container_id, container, is_init } => {
                let id = container_id.clone();
                let task = self.context.world.spawner.task(async move {
                    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
                    let result = run_hook(&context, &container_id, &container, hook, POST_START_MAX, &pod).await;
                    let success = result.is_ok();
                    if let Err(why) = result {
                        let about = container_reference(&pod, &container.name, is_init);
                        let message = format!("PostStartHook failed: {why}");
                        context.events.event_about(&about, Severity::Warning, "FailedPostStartHook", message);
                    }
                    address.do_send(Report::Started { container_id, success });
                });
                self.hooks.insert(id, task.abort_handle());
            }
        }
    }

    /// Starts and ends probers, so that each running container has the right ones.
    fn adjust_probers(&mut self, view: &PodView, memory: &Memory, ctx: &Ctx<PodActor>) {
        if !self.context.runtime.has_processes() {
            return;
        }
        self.hooks.retain(|id, hook| {
            let runs = view.containers.iter().any(|container| container.id == *id && container.is_running());
            if !runs {
                hook.abort();
            }
            runs
        });
        let snapshot = PodSnapshot { pod: &self.pod, view, memory, now: self.now(), probed: true };
        let mut wanted: BTreeMap<(String, ProbeKind), (Container, Spec)> = BTreeMap::new();
        let sidecars = lifecycle::init_containers(&self.pod).iter().filter(|init| lifecycle::is_sidecar(init));
        for spec in lifecycle::spec(&self.pod).containers.iter().chain(sidecars) {
            let Some(running) = snapshot.running(&spec.name) else { continue };
            for kind in probe::wanted(snapshot, spec, running, self.delete_by.is_some()) {
                if kind.of(spec).is_some() {
                    wanted.insert((running.id.clone(), *kind), (running.clone(), spec.clone()));
                }
            }
        }
        self.probers.retain(|key, prober| {
            let keep = wanted.contains_key(key);
            if !keep {
                prober.abort();
            }
            keep
        });
        let on_host = lifecycle::spec(&self.pod).host_network == Some(true);
        let own = view.active_sandbox().and_then(|sandbox| sandbox.ip);
        let Some(address) = (if on_host { Some(self.context.address) } else { own }) else { return };
        for (key, (container, spec)) in wanted {
            if !self.probers.contains_key(&key) {
                let prober = self.start_prober(key.1, container, spec, address, ctx);
                self.probers.insert(key, prober);
            }
        }
    }

    fn start_prober(
        &self,
        kind: ProbeKind,
        container: Container,
        spec: Spec,
        address: std::net::IpAddr,
        ctx: &Ctx<PodActor>,
    ) -> AbortHandle {
        let prober = Prober {
            world: self.context.world.clone(),
            tls: self.context.any_server.clone(),
            runtime: self.context.runtime.clone(),
            container_id: container.id.clone(),
            kind,
            probe: kind.of(&spec).cloned().unwrap_or_default(),
            address,
            spec,
        };
        let (actor, container_id) = (ctx.address(), container.id);
        let verdict = move |success| {
            actor.do_send(Report::Verdict { container_id: container_id.clone(), kind, success });
        };
        let about = container_reference(&self.pod, &container.name, false);
        let events = self.context.events.clone();
        let failure = move |why: &str| {
            let message = format!("{} probe {why}", kind.title());
            events.event_about(&about, Severity::Warning, "Unhealthy", message);
        };
        self.context.world.spawner.task(prober.run(verdict, failure)).abort_handle()
    }

    fn stop_tasks(&mut self) {
        let probers = std::mem::take(&mut self.probers).into_values();
        probers.chain(std::mem::take(&mut self.hooks).into_values()).for_each(|task| task.abort());
    }
}

/// The version of a pod, in the order in which the API wrote it.
fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Writes a report into the pod's memory.
fn record(memory: &mut Memory, report: Report, now: Timestamp) {
    match report {
        Report::Pulled { container, result } => {
            let memory = memory.container(&container);
            memory.image = match result {
                Ok(id) => ImageState::Ready(id),
                Err(error) => {
                    ImageState::Failed(Failure::after("ErrImagePull", error.to_string(), &mut memory.pulls, now))
                }
            };
        }
        Report::Stopping { container_id } => {
            if let Some(kill) = memory.kills.get_mut(&container_id) {
                kill.pre_stop = PreStop::Done;
            }
        }
        Report::Started { container_id, success: true } => {
            memory.post_start.remove(&container_id);
        }
        Report::Started { container_id, success: false } => {
            memory.post_start.insert(container_id, PostStart::Failed);
        }
        Report::Verdict { container_id, kind, success } => {
            let health = memory.health.entry(container_id).or_default();
            match kind {
                ProbeKind::Startup => health.started = Some(success),
                ProbeKind::Readiness => health.ready = Some(success),
                ProbeKind::Liveness => health.alive = Some(success),
            }
        }
    }
}

/// Runs a hook; an error says how it failed.
async fn run_hook(
    context: &Context,
    container_id: &str,
    spec: &Spec,
    hook: Option<&k8s_openapi::api::core::v1::LifecycleHandler>,
    limit: Duration,
    pod: &Pod,
) -> Result<(), String> {
    let Some(hook) = hook else { return Ok(()) };
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let outcome = context.runtime.exec(container_id, &command, limit).await.map_err(|error| error.to_string())?;
        return if outcome.exit_code == 0 {
            Ok(())
        } else {
            Err(format!("the command ended with {}: {}", outcome.exit_code, outcome.output))
        };
    }
    if let Some(sleep) = &hook.sleep {
        context.world.clock.sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default())).await;
    }
    if let Some(http) = &hook.http_get {
        let view = context.runtime.view(pod.metadata.uid.as_deref().unwrap_or_default()).await;
        let own = view.ok().and_then(|view| view.active_sandbox().and_then(|sandbox| sandbox.ip));
        let target = probe::Target { world: &context.world, tls: &context.any_server, spec };
        return target.http_get(http, own.unwrap_or(context.address)).await.into_result();
    }
    if hook.sleep.is_none() {
        return Err("invalid handler: a hook is one of exec, httpGet and sleep".to_owned());
    }
    Ok(())
}

fn no_answer() -> Status {
    Status::new(504, "Timeout", format!("no answer within {WRITE_MAX:?}"))
}

impl Actor for PodActor {
    type Context = Ctx<PodActor>;

    fn started(&mut self, ctx: &mut Ctx<PodActor>) {
        self.note_deletion();
        self.sync(ctx);
    }

    fn stopped(&mut self, _: &mut Ctx<PodActor>) {
        self.stop_tasks();
    }
}

impl Handler<PodUpdate> for PodActor {
    type Result = ();

    fn handle(&mut self, PodUpdate(pod): PodUpdate, ctx: &mut Ctx<PodActor>) {
        // The agent's own writes of the status come back as updates; they need no sync.
        let same = self.pod.spec == pod.spec
            && self.pod.metadata.deletion_grace_period_seconds == pod.metadata.deletion_grace_period_seconds
            && self.pod.metadata.deletion_timestamp == pod.metadata.deletion_timestamp
            && self.pod.metadata.labels == pod.metadata.labels
            && self.pod.metadata.annotations == pod.metadata.annotations
            && foreign_conditions(&self.pod) == foreign_conditions(&pod);
        self.pod = pod;
        self.note_foreign_writes();
        self.write_status(ctx);
        if !same {
            self.note_deletion();
            self.sync(ctx);
        }
    }
}

/// The conditions that readiness gates may wait for.
fn foreign_conditions(pod: &Pod) -> Vec<(&str, &str)> {
    let gates = lifecycle::spec(pod).readiness_gates.iter().flatten().map(|gate| &gate.condition_type);
    let gates: Vec<_> = gates.collect();
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .filter(|condition| gates.contains(&&condition.type_))
        .map(|condition| (condition.type_.as_str(), condition.status.as_str()))
        .collect()
}

impl Handler<PodGone> for PodActor {
    type Result = ();

    fn handle(&mut self, _: PodGone, ctx: &mut Ctx<PodActor>) {
        self.pod_gone(ctx);
    }
}

impl Handler<SyncPod> for PodActor {
    type Result = ();

    fn handle(&mut self, _: SyncPod, ctx: &mut Ctx<PodActor>) {
        self.sync(ctx);
    }
}

impl Handler<Detach> for PodActor {
    type Result = ();

    fn handle(&mut self, _: Detach, ctx: &mut Ctx<PodActor>) {
        ctx.stop();
    }
}

impl Handler<Report> for PodActor {
    type Result = ();

    fn handle(&mut self, report: Report, ctx: &mut Ctx<PodActor>) {
        // The failure names one container ID, so it cannot affect the container that comes next.
        if let Report::Verdict { kind: ProbeKind::Liveness, success: false, container_id } = &report {
            tracing::info!(container_id, "a container failed its liveness probe");
        }
        self.reports.push(report);
        self.sync(ctx);
    }
}
