//! The deployment controller: one replica set a template, and an orderly way from one to the next.
//!
//! Owns nothing but its caches; speaks to the API. What to scale is decided in [`rollout`](super::rollout).

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use serde_json::json;

use super::Kit;
use super::pods;
use super::replication::ignore_gone;
use super::rollout::{self, Set, Slack, Step};
use crate::kube::client::{Client, DeleteOptions, PatchType};
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::events::{Recorder, Severity};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::selector::Selector;
use crate::kube::status::Status;
use crate::kube::time;
use crate::world::World;

/// Told from the pods of other revisions by this label.
const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

struct Deployments {
    world: World,
    client: Client,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    events: Recorder,
}

pub fn start(kit: &Kit) {
    let deployments = Informer::of(&kit.client.api::<Deployment>()).start(&kit.world, &kit.shutdown);
    let controller = Deployments {
        world: kit.world.clone(),
        client: kit.client.clone(),
        deployments: deployments.clone(),
        replica_sets: kit.replica_sets.clone(),
        events: kit.recorder("deployment-controller"),
    };
    Builder::new("Deployment", controller)
        .of(&deployments)
        .owns(&kit.replica_sets, "Deployment")
        .leadership(&kit.leadership)
        .start(&kit.world, &kit.shutdown);
}

/// A deployment's replica sets: the one of its present template, and the others, oldest first.
struct Sets {
    new: Option<Arc<ReplicaSet>>,
    old: Vec<Arc<ReplicaSet>>,
}

#[async_trait::async_trait]
impl Reconcile for Deployments {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(Requeue::No) };
        let Some(template) = deployment.spec.as_ref().map(|spec| &spec.template) else { return Ok(Requeue::No) };
        let mut sets = self.sets(&deployment, key, template).await?;
        if deployment.metadata.deletion_timestamp.is_some() {
            return self.report(&deployment, key, &sets).await;
        }
        let paused = deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
        if sets.new.is_none() && !paused {
            let created = self.create_set(&deployment, key, template, &sets.old).await?;
            sets.new = Some(Arc::new(created));
        }
        if let Some(new) = &sets.new {
            self.keep_revision(&deployment, key, new, &sets.old).await?;
            self.scale(&deployment, key, new, &sets.old, paused).await?;
        }
        self.clean_up(&deployment, key, &sets).await?;
        self.report(&deployment, key, &self.sets(&deployment, key, template).await?).await
    }
}

impl Deployments {
    async fn sets(&self, deployment: &Deployment, key: &Key, template: &PodTemplateSpec) -> Result<Sets, Status> {
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let mut owned = self.claim(deployment, key, uid).await?;
        owned.sort_by_key(|set| {
            (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.metadata.name.clone())
        });
        let is_new = |set: &Arc<ReplicaSet>| {
            set.spec.as_ref().and_then(|spec| spec.template.as_ref()).is_some_and(|t| same_template(t, template))
        };
        let new = owned.iter().find(|set| is_new(set)).cloned();
        let new_uid = new.as_ref().and_then(|set| set.metadata.uid.clone());
        owned.retain(|set| set.metadata.uid != new_uid);
        Ok(Sets { new, old: owned })
    }

    /// The replica sets that the deployment controls, after adopting those it selects that nobody does.
    async fn claim(&self, deployment: &Deployment, key: &Key, uid: &str) -> Result<Vec<Arc<ReplicaSet>>, Status> {
        let mut claimed = self.replica_sets.owned_by(uid);
        claimed.retain(|set| pods::controller_of(&set.metadata).is_some_and(|owner| owner.uid == uid));
        let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
        let Some(selector) = selector.and_then(|selector| Selector::from_label_selector(Some(selector)).ok()) else {
            return Ok(claimed);
        };
        if selector.is_everything() || deployment.metadata.deletion_timestamp.is_some() {
            return Ok(claimed);
        }
        for orphan in self.replica_sets.select(&key.namespace, &selector) {
            if pods::controller_of(&orphan.metadata).is_some() || orphan.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let owner = pods::controlled_by("apps/v1", "Deployment", &deployment.metadata);
            let patch = json!({"metadata": {"uid": orphan.metadata.uid, "ownerReferences": [owner]}});
            let name = orphan.metadata.name.as_deref().unwrap_or_default();
            let api = self.client.api::<ReplicaSet>().namespaced(&key.namespace);
            if let Some(adopted) = ignore_gone(api.patch(name, PatchType::Strategic, &patch).await)? {
                claimed.push(Arc::new(adopted));
            }
        }
        Ok(claimed)
    }

    async fn create_set(
        &self,
        deployment: &Deployment,
        key: &Key,
        template: &PodTemplateSpec,
        old: &[Arc<ReplicaSet>],
    ) -> Result<ReplicaSet, Status> {
        let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let set = new_set(deployment, template, collisions, next_revision(old));
        let api = self.client.api::<ReplicaSet>().namespaced(&key.namespace);
        match api.create(&set).await {
            Ok(created) => {
                self.replica_sets.reached(&created.metadata).await;
                Ok(created)
            }
            Err(status) if status.is_already_exists() => {
                // Another template with the same hash: count the collision, which changes the next hash.
                let patch = json!({"status": {"collisionCount": collisions + 1}});
                let name = &key.name;
                let api = self.client.api::<Deployment>().namespaced(&key.namespace);
                let written = api.patch_status(name, PatchType::Merge, &patch).await?;
                self.deployments.reached(&written.metadata).await;
                Err(status)
            }
            Err(status) => Err(status),
        }
    }

    /// The new set carries the highest revision, and the deployment shows it.
    async fn keep_revision(
        &self,
        deployment: &Deployment,
        key: &Key,
        new: &ReplicaSet,
        old: &[Arc<ReplicaSet>],
    ) -> Result<(), Status> {
        let highest = next_revision(old);
        let current = revision(&new.metadata);
        if current < highest {
            let name = new.metadata.name.as_deref().unwrap_or_default();
            let patch = json!({"metadata": {"annotations": {REVISION: highest.to_string()}}});
            let api = self.client.api::<ReplicaSet>().namespaced(&key.namespace);
            let written = api.patch(name, PatchType::Merge, &patch).await?;
            self.replica_sets.reached(&written.metadata).await;
        }
        let shown = current.max(highest);
        if revision(&deployment.metadata) != shown {
            let patch = json!({"metadata": {"annotations": {REVISION: shown.to_string()}}});
            let api = self.client.api::<Deployment>().namespaced(&key.namespace);
            let written = api.patch(&key.name, PatchType::Merge, &patch).await?;
            self.deployments.reached(&written.metadata).await;
        }
        Ok(())
    }

    async fn scale(
        &self,
        deployment: &Deployment,
        key: &Key,
        new: &ReplicaSet,
        old: &[Arc<ReplicaSet>],
        paused: bool,
    ) -> Result<(), Status> {
        let Some(spec) = &deployment.spec else { return Ok(()) };
        let wanted = spec.replicas.unwrap_or(1);
        let olds: Vec<Set> = old.iter().map(|set| Set::of(set)).collect();
        let step = match spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) {
            _ if paused => Step { new: Set::of(new).wanted, old: olds.iter().map(|set| set.wanted).collect() },
            Some("Recreate") => rollout::recreate(wanted, Set::of(new), &olds),
            _ => rollout::rolling(wanted, Slack::of(spec), Set::of(new), &olds),
        };
        self.set_replicas(deployment, key, new, step.new).await?;
        for (set, replicas) in old.iter().zip(step.old) {
            self.set_replicas(deployment, key, set, replicas).await?;
        }
        Ok(())
    }

    async fn set_replicas(
        &self,
        deployment: &Deployment,
        key: &Key,
        set: &ReplicaSet,
        replicas: i32,
    ) -> Result<(), Status> {
        let from = Set::of(set).wanted;
        if from == replicas {
            return Ok(());
        }
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let patch =
            json!({"metadata": {"resourceVersion": set.metadata.resource_version}, "spec": {"replicas": replicas}});
        let api = self.client.api::<ReplicaSet>().namespaced(&key.namespace);
        let written = api.patch(name, PatchType::Merge, &patch).await?;
        let direction = if replicas > from { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {name} from {from} to {replicas}");
        self.events.event(deployment, Severity::Normal, "ScalingReplicaSet", message);
        self.replica_sets.reached(&written.metadata).await;
        Ok(())
    }

    /// Deletes old sets beyond the history limit once the rollout is complete.
    async fn clean_up(&self, deployment: &Deployment, key: &Key, sets: &Sets) -> Result<(), Status> {
        let spec = deployment.spec.clone().unwrap_or_default();
        let olds: Vec<Set> = sets.old.iter().map(|set| Set::of(set)).collect();
        let new = sets.new.as_ref().map(|set| Set::of(set)).unwrap_or_default();
        if !rollout::is_complete(spec.replicas.unwrap_or(1), new, &olds) {
            return Ok(());
        }
        let keep = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
        let mut by_revision = sets.old.clone();
        by_revision.sort_by_key(|set| revision(&set.metadata));
        let excess = by_revision.len().saturating_sub(keep);
        for set in &by_revision[..excess] {
            let name = set.metadata.name.as_deref().unwrap_or_default();
            let api = self.client.api::<ReplicaSet>().namespaced(&key.namespace);
            ignore_gone(api.delete(name, DeleteOptions::default()).await)?;
        }
        Ok(())
    }

    async fn report(&self, deployment: &Deployment, key: &Key, sets: &Sets) -> Result<Requeue, Status> {
        let now = time::now(&self.world.clock);
        let status = status_of(deployment, sets, &now);
        let waits =
            progressing(&status).is_some_and(|condition| condition.reason.as_deref() != Some("NewReplicaSetAvailable"));
        if deployment.status.as_ref() != Some(&status) {
            let reported = Deployment { status: Some(status), ..Deployment::clone(deployment) };
            // A conflict comes from our own annotations: the watch brings the newer object, and the key again.
            let written = self.client.api::<Deployment>().namespaced(&key.namespace).update_status(&reported).await;
            if let Some(written) = ignore_gone(written)? {
                self.deployments.reached(&written.metadata).await;
            }
        }
        Ok(if waits { Requeue::After(Duration::from_secs(5)) } else { Requeue::No })
    }
}

/// Templates are the same if they differ in nothing but the hash label.
fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let bare = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
            labels.remove(HASH_LABEL);
        }
        template
    };
    bare(a) == bare(b)
}

fn revision(meta: &ObjectMeta) -> u64 {
    let annotation = meta.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    annotation.and_then(|revision| revision.parse().ok()).unwrap_or(0)
}

fn next_revision(old: &[Arc<ReplicaSet>]) -> u64 {
    old.iter().map(|set| revision(&set.metadata)).max().unwrap_or(0) + 1
}

/// A short word for a template, of letters and digits that spell nothing.
fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(&serde_json::to_vec(template).expect("a template serializes"));
    hasher.write(&collisions.to_le_bytes());
    let mut rest = hasher.finish();
    (0..10)
        .map(|_| {
            let letter = ALPHABET[(rest % ALPHABET.len() as u64) as usize];
            rest /= ALPHABET.len() as u64;
            char::from(letter)
        })
        .collect()
}

/// FNV-1a: the same on every node and in every release, unlike the standard library's hasher.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn new_set(deployment: &Deployment, template: &PodTemplateSpec, collisions: i32, revision: u64) -> ReplicaSet {
    let hash = template_hash(template, collisions);
    let spec = deployment.spec.clone().unwrap_or_default();
    let with_hash = |labels: Option<BTreeMap<String, String>>| {
        let mut labels = labels.unwrap_or_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        Some(labels)
    };
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.labels = with_hash(meta.labels.take());
    let mut annotations = deployment.metadata.annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.insert(REVISION.to_owned(), revision.to_string());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default())),
            namespace: deployment.metadata.namespace.clone(),
            labels: template.metadata.as_ref().and_then(|meta| meta.labels.clone()),
            annotations: Some(annotations),
            owner_references: Some(vec![pods::controlled_by("apps/v1", "Deployment", &deployment.metadata)]),
            ..Default::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector: LabelSelector { match_labels: with_hash(spec.selector.match_labels), ..spec.selector },
            template: Some(template),
        }),
        status: None,
    }
}

fn progressing(status: &DeploymentStatus) -> Option<&DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Progressing")
}

fn status_of(deployment: &Deployment, sets: &Sets, now: &Time) -> DeploymentStatus {
    let spec = deployment.spec.clone().unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1);
    let all = || sets.new.iter().chain(&sets.old);
    let total = |count: fn(&ReplicaSet) -> i32| all().map(|set| count(set)).sum::<i32>();
    let replicas = total(|set| Set::of(set).replicas);
    let available = total(|set| Set::of(set).available);
    let ready = total(|set| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0));
    let new = sets.new.as_ref().map(|set| Set::of(set)).unwrap_or_default();
    let nonzero = |count: i32| (count != 0).then_some(count);
    let former = deployment.status.clone().unwrap_or_default();

    let enough = available >= wanted - Slack::of(&spec).unavailable;
    let availability = match enough {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
    };
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let set_name = sets.new.as_ref().and_then(|set| set.metadata.name.as_deref());
    let subject = set_name.map_or_else(|| format!("Deployment \"{name}\""), |set| format!("ReplicaSet \"{set}\""));
    let olds: Vec<Set> = sets.old.iter().map(|set| Set::of(set)).collect();
    let moved = former.updated_replicas.unwrap_or(0) != new.replicas
        || former.replicas.unwrap_or(0) != replicas
        || former.ready_replicas.unwrap_or(0) != ready
        || former.available_replicas.unwrap_or(0) != available;
    let last_progress =
        progressing(&former).and_then(|condition| condition.last_update_time.as_ref()).map_or(now.0, |t| t.0);
    let progress = if rollout::is_complete(wanted, new, &olds) {
        ("True", "NewReplicaSetAvailable", format!("{subject} has successfully progressed."))
    } else if !moved && rollout::is_overdue(deployment, last_progress, now.0) {
        ("False", "ProgressDeadlineExceeded", format!("{subject} has timed out progressing."))
    } else {
        ("True", "ReplicaSetUpdated", format!("{subject} is progressing."))
    };
    let conditions = vec![
        condition(&former, "Available", availability.0, availability.1, availability.2, now, false),
        condition(&former, "Progressing", progress.0, progress.1, &progress.2, now, moved),
    ];
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(replicas),
        updated_replicas: nonzero(new.replicas),
        ready_replicas: nonzero(ready),
        available_replicas: nonzero(available),
        unavailable_replicas: nonzero((wanted.max(replicas) - available).max(0)),
        collision_count: former.collision_count,
        conditions: Some(conditions),
        ..Default::default()
    }
}

/// A condition that keeps its times while nothing changes; `touched` moves its update time all the same.
fn condition(
    former: &DeploymentStatus,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: &Time,
    touched: bool,
) -> DeploymentCondition {
    let previous = former.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    let same_status = previous.filter(|previous| previous.status == status);
    let unchanged = same_status.filter(|previous| previous.reason.as_deref() == Some(reason) && !touched);
    let or_now = |time: Option<Option<Time>>| time.flatten().or_else(|| Some(now.clone()));
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: or_now(same_status.map(|previous| previous.last_transition_time.clone())),
        last_update_time: or_now(unchanged.map(|previous| previous.last_update_time.clone())),
    }
}
