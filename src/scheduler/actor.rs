//! The `Scheduler` actor: owns the [`Core`], with its cache of the cluster and the pods that wait for a node.
//!
//! Informers and [`Leadership`] speak to it; it speaks to the API: bindings, the condition `PodScheduled`, events, the
//! deletion of victims. It decides nothing more while [`WRITES_MAX`] of these are under way. When it dies, nothing is
//! lost: another one reads the same objects.

use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, StreamHandler,
    WrapFuture,
};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, PodCondition};
use serde_json::{Value, json};

use super::config::Config;
use super::core::{Core, Decision};
use super::pod::PodInfo;
use super::preemption::Victims;
use crate::actor::{Shutdown, Supervisor};
use crate::kube::client::{Api, Client, DeleteOptions, PatchType};
use crate::kube::events::{Recorder, Severity};
use crate::kube::informer::{Change, Informer};
use crate::kube::leader_election::Leadership;
use crate::kube::object::Key;
use crate::kube::status::Status;
use crate::kube::time;
use crate::world::{Clock, Instant, Lane, World};

/// Bindings and reports under way.
const WRITES_MAX: usize = 128;
/// Decisions in one go, before other actors on the thread get their turn.
const DECISIONS_MAX: usize = 64;
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// Starts the actor with its informers.
pub fn start(world: &World, client: Client, config: Config, leadership: Leadership, shutdown: Shutdown) {
    let Config { scheduler_name, election } = config;
    let recorder = Recorder::start(world, &client, &scheduler_name, &election.identity, &shutdown);
    let nodes = Informer::of(&client.api::<Node>()).start(world, &shutdown);
    let pods = Informer::of(&client.api::<Pod>()).start(world, &shutdown);
    let namespaces = Informer::of(&client.api::<Namespace>()).start(world, &shutdown);
    let writer = Writer { clock: world.clock.clone(), client, scheduler_name };
    let inner = world.clone();
    Supervisor::new(world, &shutdown.clone()).actor(Lane::Control, "scheduler", None, move |_| Scheduler {
        world: inner.clone(),
        core: Core::new(&writer.scheduler_name),
        nodes: nodes.clone(),
        pods: pods.clone(),
        namespaces: namespaces.clone(),
        writer: writer.clone(),
        recorder: recorder.clone(),
        leadership: leadership.clone(),
        synced: false,
        leads: false,
        writes: 0,
        is_scheduling_queued: false,
        timer: None,
        shutdown: shutdown.clone(),
    });
}

struct Scheduler {
    world: World,
    core: Core,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    namespaces: Informer<Namespace>,
    writer: Writer,
    recorder: Recorder,
    leadership: Leadership,
    synced: bool,
    leads: bool,
    /// Bindings and reports under way.
    writes: usize,
    /// A [`ScheduleMore`] is in the mailbox.
    is_scheduling_queued: bool,
    /// The timer, and when it fires.
    timer: Option<(Instant, SpawnHandle)>,
    shutdown: Shutdown,
}

/// Decides on more pods, after other actors had their turn.
struct ScheduleMore;

impl Message for ScheduleMore {
    type Result = ();
}

/// A write has ended.
enum WriteDone {
    Bound { pod: Arc<PodInfo>, node: String, result: Result<(), Status> },
    Reported { pod: Arc<PodInfo>, preempts: bool, result: Result<(), Status> },
}

impl Message for WriteDone {
    type Result = ();
}

struct LeadershipChanged(bool);

impl Actor for Scheduler {
    type Context = Context<Scheduler>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.add_stream(self.namespaces.changes());
        ctx.add_stream(self.nodes.changes());
        ctx.add_stream(self.pods.changes());
        let (nodes, pods, namespaces) = (self.nodes.clone(), self.pods.clone(), self.namespaces.clone());
        let synced = async move { tokio::join!(nodes.synced(), pods.synced(), namespaces.synced()) };
        ctx.spawn(synced.into_actor(self).map(|_, scheduler, ctx| {
            scheduler.synced = true;
            scheduler.schedule_soon(ctx);
        }));
        ctx.add_stream(futures::StreamExt::map(self.leadership.changes(), LeadershipChanged));
        ctx.spawn(self.shutdown.wait().into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

impl StreamHandler<Change<Namespace>> for Scheduler {
    fn handle(&mut self, change: Change<Namespace>, ctx: &mut Context<Self>) {
        self.core.namespace_changed(&change, self.world.clock.now());
        self.schedule_soon(ctx);
    }

    /// The informer ends with the node, and so does this actor by itself.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl StreamHandler<Change<Node>> for Scheduler {
    fn handle(&mut self, change: Change<Node>, ctx: &mut Context<Self>) {
        self.core.node_changed(&change, self.world.clock.now());
        self.schedule_soon(ctx);
    }

    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl StreamHandler<Change<Pod>> for Scheduler {
    fn handle(&mut self, change: Change<Pod>, ctx: &mut Context<Self>) {
        self.core.pod_changed(&change, self.world.clock.now());
        self.schedule_soon(ctx);
    }

    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl StreamHandler<LeadershipChanged> for Scheduler {
    fn handle(&mut self, LeadershipChanged(leads): LeadershipChanged, ctx: &mut Context<Self>) {
        self.leads = leads;
        self.schedule_soon(ctx);
    }

    /// Leadership ends with the node; until then its last state holds.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<ScheduleMore> for Scheduler {
    type Result = ();

    fn handle(&mut self, ScheduleMore: ScheduleMore, ctx: &mut Context<Self>) {
        self.is_scheduling_queued = false;
        if !self.synced || !self.leads {
            return;
        }
        for _ in 0..DECISIONS_MAX {
            if self.writes >= WRITES_MAX {
                return; // The end of a write continues.
            }
            let random = &self.world.random;
            let pick = |below: usize| random.within(0..below as u64) as usize;
            match self.core.schedule_one(self.world.clock.now(), pick) {
                Some(decision) => self.carry_out(decision, ctx),
                None => return self.set_timer(ctx),
            }
        }
        self.schedule_soon(ctx);
    }
}

impl Handler<WriteDone> for Scheduler {
    type Result = ();

    fn handle(&mut self, done: WriteDone, ctx: &mut Context<Self>) {
        self.writes -= 1;
        match done {
            WriteDone::Bound { pod, node, result } => self.bound(&pod, &node, result),
            WriteDone::Reported { pod, preempts, result } => self.reported(&pod, preempts, result),
        }
        self.schedule_soon(ctx);
    }
}

impl Scheduler {
    fn schedule_soon(&mut self, ctx: &mut Context<Self>) {
        if !self.is_scheduling_queued {
            self.is_scheduling_queued = true;
            ctx.notify(ScheduleMore);
        }
    }

    fn carry_out(&mut self, decision: Decision, ctx: &Context<Self>) {
        let (writer, address) = (self.writer.clone(), ctx.address());
        self.writes += 1;
        match decision {
            Decision::Bind { pod, node } => {
                self.world.spawner.task(async move {
                    let result = writer.bind(&pod, &node).await;
                    // The writes under way bound the number of these messages.
                    address.do_send(WriteDone::Bound { pod, node, result });
                });
            }
            Decision::Reject { pod, diagnosis, victims } => {
                let message = diagnosis.to_string();
                self.record(&pod.key, Severity::Warning, "FailedScheduling", message.clone());
                victims.iter().flat_map(|victims| &victims.pods).for_each(|victim| self.record_preempted(victim, &pod));
                let known = self.pods.get(&pod.key);
                self.world.spawner.task(async move {
                    let result = writer.report(&pod, known.as_deref(), message, victims.as_ref()).await;
                    address.do_send(WriteDone::Reported { pod, preempts: victims.is_some(), result });
                });
            }
        }
    }

    fn bound(&mut self, pod: &PodInfo, node: &str, result: Result<(), Status>) {
        let Key { namespace, name } = &pod.key;
        match result {
            Ok(()) => {
                self.core.bound(pod);
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                self.record(&pod.key, Severity::Normal, "Scheduled", message);
            }
            Err(status) => {
                tracing::debug!(pod = %pod.key, node, %status, "not bound");
                self.core.bind_failed(pod, self.world.clock.now());
                // The pod is bound or gone already; the watch will show it.
                if !status.is_conflict() && !status.is_not_found() {
                    self.record(&pod.key, Severity::Warning, "FailedScheduling", format!("binding rejected: {status}"));
                }
            }
        }
    }

    /// Decides on the pod again where the report began a preemption and failed.
    fn reported(&mut self, pod: &PodInfo, preempts: bool, result: Result<(), Status>) {
        if let Err(status) = result.or_else(unless_gone) {
            tracing::debug!(pod = %pod.key, %status, "not reported");
            if preempts {
                self.core.report_failed(pod, self.world.clock.now());
            }
        }
    }

    fn record_preempted(&self, victim: &PodInfo, pod: &PodInfo) {
        let node = victim_node(&self.pods, &victim.key);
        let message = format!("Preempted by pod {} on node {node}", pod.uid);
        self.record(&victim.key, Severity::Normal, "Preempted", message);
    }

    fn record(&self, about: &Key, severity: Severity, reason: &str, message: String) {
        if let Some(pod) = self.pods.get(about) {
            self.recorder.event(&*pod, severity, reason, message);
        }
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let due = self.core.next_due();
        if self.timer.as_ref().map(|(at, _)| *at) == due {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        if let Some(at) = due {
            let pause = at.saturating_duration_since(self.world.clock.now());
            let handle = ctx.run_later(pause, |scheduler, ctx| {
                scheduler.timer = None;
                scheduler.schedule_soon(ctx);
            });
            self.timer = Some((at, handle));
        }
    }
}

fn victim_node(pods: &Informer<Pod>, victim: &Key) -> String {
    let pod = pods.get(victim);
    pod.and_then(|pod| pod.spec.as_ref()?.node_name.clone()).unwrap_or_default()
}

/// Writes decisions to the API, each within a deadline.
#[derive(Clone)]
struct Writer {
    clock: Clock,
    client: Client,
    scheduler_name: String,
}

impl Writer {
    fn pods(&self, namespace: &str) -> Api<Pod> {
        self.client.api::<Pod>().namespaced(namespace).field_manager(&self.scheduler_name)
    }

    async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), Status> {
        let pods = self.pods(&pod.key.namespace);
        match self.clock.timeout(WRITE_DEADLINE, pods.bind(&pod.key.name, &pod.uid, node)).await {
            Ok(result) => result,
            Err(_) => Err(Status::new(504, "Timeout", "the API did not answer the binding in time")),
        }
    }

    /// Writes into the pod's status why it has no node, and evicts its victims, if there are any.
    async fn report(
        &self,
        pod: &PodInfo,
        known: Option<&Pod>,
        message: String,
        victims: Option<&Victims>,
    ) -> Result<(), Status> {
        let report = async {
            if let Some(status) = self.status(known, message, victims) {
                let pods = self.pods(&pod.key.namespace);
                // Another pod may have the name by now: the patch names the uid.
                let patch = json!({ "metadata": { "uid": &*pod.uid }, "status": status });
                pods.patch_status(&pod.key.name, PatchType::Strategic, &patch).await?;
            }
            for victim in victims.iter().flat_map(|victims| &victims.pods).filter(|victim| !victim.terminating) {
                self.evict(victim).await.or_else(unless_gone)?;
            }
            Ok(())
        };
        let reported = self.clock.timeout(WRITE_DEADLINE, report).await;
        reported.unwrap_or_else(|_| Err(Status::new(504, "Timeout", "the API did not answer in time")))
    }

    /// What has to change in a pod's status; `None` if nothing has.
    fn status(&self, known: Option<&Pod>, message: String, victims: Option<&Victims>) -> Option<Value> {
        let reason = "Unschedulable";
        let conditions = known.and_then(|pod| pod.status.as_ref()).and_then(|status| status.conditions.as_ref());
        let before = conditions.into_iter().flatten().find(|condition| condition.type_ == "PodScheduled");
        let unscheduled = before.filter(|condition| condition.status == "False");
        let says_so = |c: &PodCondition| c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(&message);
        let mut status = json!({});
        if !unscheduled.is_some_and(says_so) {
            let since = unscheduled.and_then(|condition| condition.last_transition_time.clone());
            status["conditions"] = json!([{
                "type": "PodScheduled",
                "status": "False",
                "reason": reason,
                "message": message,
                "lastTransitionTime": since.unwrap_or_else(|| time::now(&self.clock)),
            }]);
        }
        if let Some(victims) = victims {
            status["nominatedNodeName"] = json!(victims.node);
        }
        status.as_object().is_some_and(|fields| !fields.is_empty()).then_some(status)
    }

    /// Writes into a pod's status that it is preempted, and deletes it.
    async fn evict(&self, victim: &PodInfo) -> Result<(), Status> {
        let pods = self.pods(&victim.key.namespace);
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": format!("{}: preempting to accommodate a higher priority pod", self.scheduler_name),
            "lastTransitionTime": time::now(&self.clock),
        });
        let patch = json!({ "metadata": { "uid": &*victim.uid }, "status": { "conditions": [condition] } });
        pods.patch_status(&victim.key.name, PatchType::Strategic, &patch).await?;
        let options = DeleteOptions { precondition_uid: Some(victim.uid.to_string()), ..DeleteOptions::default() };
        pods.delete(&victim.key.name, options).await.map(|_| ())
    }
}

/// A pod that is gone, or replaced by another one, needs nothing more.
fn unless_gone(status: Status) -> Result<(), Status> {
    if status.is_not_found() || status.is_conflict() { Ok(()) } else { Err(status) }
}
