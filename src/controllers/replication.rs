//! The replication controllers, one for ReplicationControllers and one for ReplicaSets: they keep as many pods as these
//! ask for.
//!
//! Owns nothing but its caches; speaks to the API. Pods are adopted and released by their controller reference. It
//! never decides by a cache older than its own last write, so it creates nothing twice.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;

use super::context::ControllerContext;
use super::not_found::ignore_not_found;
use super::ownership;
use super::pods;
use super::replicas::{self, Counts, Plan};
use super::workload::{Failure, Workload, template_labels};
use crate::kube::client::{Client, DeleteOptions};
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::events::{Recorder, Severity};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::status::Status;
use crate::kube::time;
use crate::world::World;

struct Replication<W> {
    world: World,
    client: Client,
    workloads: Informer<W>,
    pods: Informer<Pod>,
    events: Recorder,
}

/// Starts the controller of `W`, with the `informer` of its objects if another controller has one.
pub fn start<W: Workload>(context: &ControllerContext, informer: Option<Informer<W>>) {
    let workloads =
        informer.unwrap_or_else(|| Informer::of(&context.client.api::<W>()).start(&context.world, &context.shutdown));
    let (for_orphans, pods) = (workloads.clone(), context.pods.clone());
    let replication = Replication {
        world: context.world.clone(),
        client: context.client.clone(),
        workloads: workloads.clone(),
        pods: pods.clone(),
        events: context.recorder("replication-controller"),
    };
    Builder::new(W::NAME, replication)
        .of(&workloads)
        .owns(&pods, W::NAME)
        .watches(&pods, move |pod: &Pod| adopters(&for_orphans, pod))
        .leadership(&context.leadership)
        .start(&context.world, &context.shutdown);
}

/// The workloads that may adopt a pod that nobody controls.
fn adopters<W: Workload>(workloads: &Informer<W>, pod: &Pod) -> Vec<Key> {
    if ownership::controller_of(&pod.metadata).is_some() {
        return Vec::new();
    }
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let selects = |workload: &Arc<W>| workload.selector().is_some_and(|selector| selector.matches(&labels));
    let adopters = workloads.in_namespace(namespace).into_iter().filter(selects);
    adopters.map(|workload| Key::of(workload.metadata())).collect()
}

#[async_trait::async_trait]
impl<W: Workload> Reconcile for Replication<W> {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let Some(workload) = self.workloads.get(key) else { return Ok(Requeue::No) };
        let mine = self.claim(&workload, key).await?;
        let terminating = mine.iter().filter(|pod| pods::is_terminating(pod)).count();
        let active: Vec<Arc<Pod>> = mine.into_iter().filter(|pod| pods::is_active(pod)).collect();
        let mut failure = None;
        let mut outcome = Ok(());
        if workload.metadata().deletion_timestamp.is_none() {
            let plan = replicas::plan(workload.wanted(), &active);
            let reason = if plan.delete.is_empty() { "FailedCreate" } else { "FailedDelete" };
            outcome = self.carry_out(&workload, key, plan, &active).await;
            failure = outcome.as_ref().err().map(|status| Failure { reason, message: status.message.clone() });
        }
        let now = time::timestamp(&self.world.clock);
        let labels = workload.template().map(template_labels).unwrap_or_default();
        let counts = Counts {
            terminating: i32::try_from(terminating).unwrap_or(i32::MAX),
            ..replicas::count(&active, &labels, workload.min_ready_seconds(), now)
        };
        self.report(&workload, key, counts, failure.as_ref()).await?;
        // No event comes when a pod has been ready for long enough: the key is reconciled again then.
        let next = replicas::next_available(&active, workload.min_ready_seconds(), now);
        outcome.map(|()| next.map_or(Requeue::No, Requeue::After))
    }
}

impl<W: Workload> Replication<W> {
    async fn claim(&self, workload: &W, key: &Key) -> Result<Vec<Arc<Pod>>, Status> {
        let Some(selector) = workload.selector() else { return Ok(Vec::new()) };
        let candidates = self.pods.in_namespace(&key.namespace);
        ownership::claim(&self.client, workload, &selector, candidates, pods::is_active).await
    }

    async fn carry_out(&self, workload: &W, key: &Key, plan: Plan, active: &[Arc<Pod>]) -> Result<(), Status> {
        if plan.create > 0 {
            self.create(workload, key, plan.create).await?;
        }
        if !plan.delete.is_empty() {
            self.delete(workload, key, &plan.delete, active).await?;
        }
        Ok(())
    }

    /// Creates pods in batches that double, so that a refusal (by a full quota, for example) costs one request and not
    /// hundreds.
    async fn create(&self, workload: &W, key: &Key, count: usize) -> Result<(), Status> {
        let Some(template) = workload.template() else { return Ok(()) };
        let owner = ownership::controlled_by(<W as Workload>::API_VERSION, W::NAME, workload.metadata());
        let pod = pods::from_template(template, owner);
        let api = self.client.api::<Pod>().namespaced(&key.namespace);
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let results = join_all((0..batch.min(left)).map(|_| api.create(&pod))).await;
            let mut failure = None;
            for result in results {
                match result {
                    Ok(created) => {
                        let name = created.metadata.name.as_deref().unwrap_or_default();
                        self.events.event(
                            workload,
                            Severity::Normal,
                            "SuccessfulCreate",
                            format!("Created pod: {name}"),
                        );
                        self.pods.reached(&created.metadata).await;
                    }
                    Err(status) => failure = Some(status),
                }
            }
            if let Some(status) = failure {
                // A namespace that is being deleted needs no pods: another attempt would fail, too.
                if status.message.contains("because it is being terminated") {
                    return Ok(());
                }
                self.events.event(workload, Severity::Warning, "FailedCreate", format!("Error creating: {status}"));
                return Err(status);
            }
            left -= batch.min(left);
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(&self, workload: &W, key: &Key, names: &[String], active: &[Arc<Pod>]) -> Result<(), Status> {
        let api = self.client.api::<Pod>().namespaced(&key.namespace);
        let uid_of = |name: &String| {
            active.iter().find(|pod| pod.metadata.name.as_ref() == Some(name)).and_then(|pod| pod.metadata.uid.clone())
        };
        for name in names {
            let options = DeleteOptions { precondition_uid: uid_of(name), ..DeleteOptions::default() };
            if let Some(deleted) = ignore_not_found(api.delete(name, options).await)? {
                self.events.event(workload, Severity::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"));
                if let Some(leaving) = deleted {
                    self.pods.reached(&leaving.metadata).await;
                }
            }
        }
        Ok(())
    }

    async fn report(&self, workload: &W, key: &Key, counts: Counts, failure: Option<&Failure>) -> Result<(), Status> {
        let reported = workload.with_status(counts, failure, time::now(&self.world.clock));
        if reported == *workload {
            return Ok(());
        }
        let written = self.client.api::<W>().namespaced(&key.namespace).update_status(&reported).await;
        if let Some(written) = ignore_not_found(written)? {
            self.workloads.reached(written.metadata()).await;
        }
        Ok(())
    }
}
