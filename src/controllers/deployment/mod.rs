//! The deployment controller: a replica set for each template, and rollouts from one to the next.
//!
//! ```text
//!   Deployment, its ReplicaSets, their Pods ─▶ claim ─▶ scaled or paused? ─▶ proportion ─┐
//!                                                        └ else ─▶ rollout ──────────────┴▶ sizes ─▶ status
//! ```
//!
//! Owns nothing but its caches; speaks to the API. It writes a deployment through its status alone, so that only its
//! users make new generations of it.
//!
//! - [`rollout`]: the next step from the old replica sets to the new one
//! - [`proportion`]: how a change of size is shared out among several
//! - [`replica_sets`]: which of its replica sets is the new one
//! - [`revision`]: annotations and revisions of replica sets, and which are kept
//! - [`status`]: counts and conditions

mod proportion;
mod replica_sets;
mod revision;
mod rollout;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::context::ControllerContext;
use super::not_found::ignore_not_found;
use super::ownership;
use super::pods;
use crate::kube::client::{Api, Client, DeleteOptions, PatchType};
use crate::kube::controller::{Builder, Reconcile, Requeue, controlling_owner};
use crate::kube::events::{Recorder, Severity};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::selector::Selector;
use crate::kube::status::Status;
use crate::kube::time;
use crate::world::World;
use proportion::{Member, Scale};
use replica_sets::ReplicaSets;
use revision::{Annotations, REVISION};
use rollout::{ReplicaCounts, RollingLimits};

struct Deployments {
    world: World,
    client: Client,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    events: Recorder,
}

pub fn start(context: &ControllerContext) {
    let deployments = Informer::of(&context.client.api::<Deployment>()).start(&context.world, &context.shutdown);
    let controller = Deployments {
        world: context.world.clone(),
        client: context.client.clone(),
        deployments: deployments.clone(),
        replica_sets: context.replica_sets.clone(),
        pods: context.pods.clone(),
        events: context.recorder("deployment-controller"),
    };
    let (for_orphans, for_pods, sets) = (deployments.clone(), deployments.clone(), context.replica_sets.clone());
    Builder::new("Deployment", controller)
        .of(&deployments)
        .owns(&context.replica_sets, "Deployment")
        .watches(&context.replica_sets, move |set: &ReplicaSet| adopters(&for_orphans, set))
        .watches(&context.pods, move |pod: &Pod| recreating(&for_pods, &sets, pod).into_iter().collect())
        .leadership(&context.leadership)
        .start(&context.world, &context.shutdown);
}

fn selector_of(deployment: &Deployment) -> Option<Selector> {
    let selector = Selector::from_label_selector(Some(&deployment.spec.as_ref()?.selector)).ok()?;
    Some(selector).filter(|selector| !selector.is_everything())
}

/// The deployments that may adopt a replica set that nobody controls.
fn adopters(deployments: &Informer<Deployment>, set: &ReplicaSet) -> Vec<Key> {
    if ownership::controller_of(&set.metadata).is_some() {
        return Vec::new();
    }
    let labels = set.metadata.labels.clone().unwrap_or_default();
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let selects = |deployment: &Arc<Deployment>| selector_of(deployment).is_some_and(|s| s.matches(&labels));
    let adopters = deployments.in_namespace(namespace).into_iter().filter(selects);
    adopters.map(|deployment| Key::of(&deployment.metadata)).collect()
}

/// The deployment that waits for the end of `pod` before it creates new ones.
fn recreating(deployments: &Informer<Deployment>, sets: &Informer<ReplicaSet>, pod: &Pod) -> Option<Key> {
    let set = sets.get(&controlling_owner(pod, "ReplicaSet")?)?;
    let key = controlling_owner(&*set, "Deployment")?;
    let deployment = deployments.get(&key)?;
    RollingLimits::of_rolling(deployment.spec.as_ref()?).is_none().then_some(key)
}

/// One reconciliation of a deployment.
struct Reconciliation {
    key: Key,
    /// The deployment with its new status, but for counts and progress.
    deployment: Deployment,
    spec: DeploymentSpec,
    sets: ReplicaSets,
    now: Timestamp,
}

impl Reconciliation {
    fn wanted(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// Sets a condition in the status.
    fn set_condition(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let condition = status::condition(kind, status, reason, message, self.now);
        status::set(self.deployment.status.get_or_insert_default(), condition);
    }

    /// Sets the condition `Progressing`, if the deployment has a progress deadline.
    fn set_progress(&mut self, status: &str, reason: &str, message: String) {
        if status::has_deadline(&self.deployment) {
            self.set_condition(status::PROGRESSING, status, reason, message);
        }
    }

    fn show_revision(&mut self, set: &ReplicaSet) {
        let revision = revision::revision(&set.metadata).to_string();
        self.deployment.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision);
    }
}

#[async_trait::async_trait]
impl Reconcile for Deployments {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(Requeue::No) };
        let Some(spec) = deployment.spec.clone() else { return Ok(Requeue::No) };
        let now = time::timestamp(&self.world.clock);
        let sets = ReplicaSets::of(&deployment, self.claim(&deployment, key).await?);
        let mut this = Reconciliation { key: key.clone(), deployment: (*deployment).clone(), spec, sets, now };
        if deployment.metadata.deletion_timestamp.is_some() {
            this.deployment.status = Some(status::calculate(&this.deployment, &this.sets, now));
            return self.write_status(&deployment, &this).await.map(|()| Requeue::No);
        }
        let done = self.sync(&mut this).await;
        // The status is written even if the rest failed.
        let told = self.write_status(&deployment, &this).await;
        let requeue = done?;
        told.map(|()| requeue)
    }
}

impl Deployments {
    fn sets_api(&self, key: &Key) -> Api<ReplicaSet> {
        self.client.api::<ReplicaSet>().namespaced(&key.namespace)
    }

    async fn claim(&self, deployment: &Deployment, key: &Key) -> Result<Vec<Arc<ReplicaSet>>, Status> {
        let Some(selector) = selector_of(deployment) else { return Ok(Vec::new()) };
        let candidates = self.replica_sets.in_namespace(&key.namespace);
        ownership::claim(&self.client, deployment, &selector, candidates, |_| true).await
    }

    /// Takes the next step, and finds the new status.
    async fn sync(&self, this: &mut Reconciliation) -> Result<Requeue, Status> {
        if let Some(said) = status::pause_condition(&this.deployment, this.now) {
            status::set(this.deployment.status.get_or_insert_default(), said);
        }
        if let Some(new) = this.sets.new.clone() {
            self.sync_revision(this, &new).await?;
        }
        let paused = this.spec.paused == Some(true);
        let (all, new) = this.sets.all();
        let members: Vec<Member> = all.iter().map(|set| Member::of(set)).collect();
        if paused || proportion::was_scaled(this.wanted(), &members) {
            let scale = Scale {
                wanted: this.wanted(),
                limits: RollingLimits::of_rolling(&this.spec),
                replicas: this.deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0),
            };
            let sizes = proportion::sizes(scale, &members, new);
            for ((set, size), member) in all.iter().zip(sizes).zip(&members) {
                if size > 0 || member.set.wanted > 0 {
                    self.resize(this, set, size).await?;
                }
            }
            if paused {
                self.clean_up(this).await?;
            }
            self.refresh(this);
            this.deployment.status = Some(status::calculate(&this.deployment, &this.sets, this.now));
            return Ok(Requeue::No);
        }
        match RollingLimits::of_rolling(&this.spec) {
            Some(_) => self.roll(this).await?,
            None => self.recreate(this).await?,
        }
        self.refresh(this);
        let status = status::calculate_after_rollout(&this.deployment, &this.sets, this.now);
        if status::is_complete(&this.deployment, &status) {
            self.clean_up(this).await?;
        }
        let next = status::next_check(&this.deployment, &status, this.now);
        this.deployment.status = Some(status);
        Ok(next.map_or(Requeue::No, Requeue::After))
    }

    /// Reads the replica sets again after writes.
    fn refresh(&self, this: &mut Reconciliation) {
        let uid = this.deployment.metadata.uid.as_deref().unwrap_or_default();
        let mut owned = self.replica_sets.owned_by(uid);
        owned.retain(|set| ownership::controller_of(&set.metadata).is_some_and(|owner| owner.uid == uid));
        this.sets = ReplicaSets::of(&this.deployment, owned);
    }

    /// Rolling update: scales the new replica set up and the old ones down as far as the limits allow.
    async fn roll(&self, this: &mut Reconciliation) -> Result<(), Status> {
        let (limits, old) = (RollingLimits::of(&this.spec), this.sets.old_sizes());
        let Some(new) = this.sets.new.clone() else {
            let size = rollout::first_size(this.wanted(), limits, &old);
            return self.create_set(this, size).await;
        };
        let step = rollout::rolling(this.wanted(), limits, ReplicaCounts::of(&new), &old);
        self.resize_to(this, &new, step.new).await?;
        for (set, size) in this.sets.old.iter().zip(step.old) {
            self.resize_to(this, set, size).await?;
        }
        Ok(())
    }

    /// Recreate: every old pod is gone before the first new one is created.
    async fn recreate(&self, this: &mut Reconciliation) -> Result<(), Status> {
        for set in &this.sets.old {
            self.resize_to(this, set, 0).await?;
        }
        if this.sets.old.iter().any(|set| ReplicaCounts::of(set).wanted > 0 || self.has_pods(set)) {
            return Ok(());
        }
        let wanted = this.wanted();
        match this.sets.new.clone() {
            Some(new) => self.resize_to(this, &new, wanted).await,
            None => self.create_set(this, wanted).await,
        }
    }

    /// Whether pods of the replica set may still run, those being deleted included.
    fn has_pods(&self, set: &ReplicaSet) -> bool {
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let counted = set.status.as_ref().is_some_and(|status| status.replicas > 0);
        counted || self.pods.owned_by(uid).iter().any(|pod| !pods::is_finished(pod))
    }

    async fn create_set(&self, this: &mut Reconciliation, size: i32) -> Result<(), Status> {
        let set = revision::new_set(&this.deployment, revision::next_revision(&this.sets.old), size);
        let name = set.metadata.name.clone().unwrap_or_default();
        match self.sets_api(&this.key).create(&set).await {
            Ok(created) => {
                if size > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {size}");
                    self.events.event(&this.deployment, Severity::Normal, "ScalingReplicaSet", message);
                }
                this.show_revision(&created);
                this.set_progress("True", "NewReplicaSetCreated", format!("Created new replica set {name:?}"));
                self.replica_sets.reached(&created.metadata).await;
                Ok(())
            }
            Err(status) if status.is_already_exists() => self.after_collision(this, &name, status).await,
            // A namespace that is being deleted needs no replica sets: another attempt would fail, too.
            Err(status) if status.message.contains("because it is being terminated") => Ok(()),
            Err(status) => {
                let message = format!("Failed to create new replica set {name:?}: {status}");
                this.set_progress("False", "ReplicaSetCreateError", message.clone());
                self.events.event(&this.deployment, Severity::Warning, "ReplicaSetCreateError", message);
                Err(status)
            }
        }
    }

    /// A replica set has the name already: it is the wanted one, and not yet in the cache, or the hash of its template
    /// collides. The collision count changes the next hash.
    async fn after_collision(&self, this: &mut Reconciliation, name: &str, refusal: Status) -> Result<(), Status> {
        let Some(there) = self.sets_api(&this.key).get_opt(name).await? else { return Err(refusal) };
        let uid = this.deployment.metadata.uid.as_deref();
        let is_ours = ownership::controller_of(&there.metadata).is_some_and(|owner| Some(owner.uid.as_str()) == uid);
        let held = there.spec.as_ref().and_then(|spec| spec.template.as_ref());
        if is_ours && held.is_some_and(|held| revision::same_template(held, &this.spec.template)) {
            self.replica_sets.reached(&there.metadata).await;
            this.show_revision(&there);
            return Ok(());
        }
        let status = this.deployment.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        Err(refusal)
    }

    /// Gives the new replica set the deployment's annotations and the highest revision, and shows that revision in the
    /// deployment.
    async fn sync_revision(&self, this: &mut Reconciliation, new: &ReplicaSet) -> Result<(), Status> {
        let held: Annotations = new.metadata.annotations.clone().unwrap_or_default();
        let annotations = revision::annotations(&this.deployment, &held, revision::next_revision(&this.sets.old));
        let min_ready = |seconds: Option<i32>| seconds.unwrap_or(0);
        let held_seconds = new.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let mut shown = new.clone();
        if annotations != held || min_ready(held_seconds) != min_ready(this.spec.min_ready_seconds) {
            let patch = json!({
                "metadata": {"resourceVersion": new.metadata.resource_version, "annotations": annotations},
                "spec": {"minReadySeconds": this.spec.min_ready_seconds},
            });
            let name = new.metadata.name.as_deref().unwrap_or_default();
            shown = self.sets_api(&this.key).patch(name, PatchType::Merge, &patch).await?;
            self.replica_sets.reached(&shown.metadata).await;
            self.refresh(this);
        }
        this.show_revision(&shown);
        let known = this.deployment.status.as_ref().and_then(|status| status::find(status, status::PROGRESSING));
        if known.is_none() {
            let name = new.metadata.name.as_deref().unwrap_or_default();
            this.set_progress("True", "FoundNewReplicaSet", format!("Found new replica set {name:?}"));
        }
        Ok(())
    }

    /// Resizes a replica set, unless it has that size.
    async fn resize_to(&self, this: &Reconciliation, set: &ReplicaSet, size: i32) -> Result<(), Status> {
        if ReplicaCounts::of(set).wanted == size { Ok(()) } else { self.resize(this, set, size).await }
    }

    /// Sets a replica set's size, and the annotations by which the next scaling is shared out.
    async fn resize(&self, this: &Reconciliation, set: &ReplicaSet, size: i32) -> Result<(), Status> {
        let from = ReplicaCounts::of(set).wanted;
        let annotations = revision::size_annotations(&this.deployment);
        let held = set.metadata.annotations.clone().unwrap_or_default();
        if from == size && annotations.iter().all(|(name, value)| held.get(name) == Some(value)) {
            return Ok(());
        }
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({
            "metadata": {"resourceVersion": set.metadata.resource_version, "annotations": annotations},
            "spec": {"replicas": size},
        });
        let written = self.sets_api(&this.key).patch(name, PatchType::Merge, &patch).await?;
        if from != size {
            let direction = if size > from { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {name} from {from} to {size}");
            self.events.event(&this.deployment, Severity::Normal, "ScalingReplicaSet", message);
        }
        self.replica_sets.reached(&written.metadata).await;
        Ok(())
    }

    /// Deletes old replica sets beyond the revision history limit.
    async fn clean_up(&self, this: &Reconciliation) -> Result<(), Status> {
        for set in revision::beyond_history(&this.deployment, &this.sets.old) {
            let options = DeleteOptions { precondition_uid: set.metadata.uid.clone(), ..DeleteOptions::default() };
            let name = set.metadata.name.as_deref().unwrap_or_default();
            ignore_not_found(self.sets_api(&this.key).delete(name, options).await)?;
        }
        Ok(())
    }

    /// Writes the status, unless it has not changed.
    async fn write_status(&self, before: &Deployment, this: &Reconciliation) -> Result<(), Status> {
        if this.deployment == *before {
            return Ok(());
        }
        let api = self.client.api::<Deployment>().namespaced(&this.key.namespace);
        if let Some(written) = ignore_not_found(api.update_status(&this.deployment).await)? {
            self.deployments.reached(&written.metadata).await;
        }
        Ok(())
    }
}
