//! Revisions: the replica set of a template, and the annotations that it has from its deployment. Pure.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::proportion::{DESIRED, MAX};
use super::rollout::RollingLimits;
use crate::controllers::ownership;

/// Tells the pods of one revision from those of others.
const HASH_LABEL: &str = "pod-template-hash";
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// The revisions that a replica set had before, oldest first.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const REVISION_HISTORY_BYTES_MAX: usize = 2000;
/// Annotations that a replica set does not copy from its deployment.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

pub type Annotations = BTreeMap<String, String>;

pub fn revision(meta: &ObjectMeta) -> u64 {
    let annotation = meta.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    annotation.and_then(|revision| revision.parse().ok()).unwrap_or(0)
}

/// The revision of a new template.
pub fn next_revision(old: &[Arc<ReplicaSet>]) -> u64 {
    old.iter().map(|set| revision(&set.metadata)).max().unwrap_or(0) + 1
}

/// Templates are the same if they differ in nothing but the hash label.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let bare = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        template.metadata.get_or_insert_default().labels.get_or_insert_default().remove(HASH_LABEL);
        template
    };
    bare(a) == bare(b)
}

/// The annotations of a deployment's new replica set: those it has (`held`), the deployment's, and the highest
/// revision.
pub fn annotations(deployment: &Deployment, held: &Annotations, revision: u64) -> Annotations {
    let mut annotations = held.clone();
    let copied = deployment.metadata.annotations.iter().flatten();
    annotations
        .extend(copied.filter(|(name, _)| !NOT_COPIED.contains(&name.as_str())).map(|(k, v)| (k.clone(), v.clone())));
    let former = held.get(REVISION).cloned();
    if former.as_deref().and_then(|former| former.parse().ok()).unwrap_or(0) >= revision {
        return annotations;
    }
    annotations.insert(REVISION.to_owned(), revision.to_string());
    if let Some(former) = former {
        let mut history: Vec<&str> =
            held.get(REVISION_HISTORY).into_iter().flat_map(|history| history.split(',')).collect();
        history.push(&former);
        while history.len() > 1 && history.join(",").len() > REVISION_HISTORY_BYTES_MAX {
            history.remove(0);
        }
        annotations.insert(REVISION_HISTORY.to_owned(), history.join(","));
    }
    annotations
}

/// The annotations by which the next scaling is shared out.
pub fn size_annotations(deployment: &Deployment) -> Annotations {
    let spec = deployment.spec.clone().unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1);
    let max_surge = RollingLimits::of_rolling(&spec).map_or(0, |limits| limits.max_surge);
    [(DESIRED, wanted), (MAX, wanted + max_surge)].map(|(name, count)| (name.to_owned(), count.to_string())).into()
}

/// The replica set of the deployment's present template.
pub fn new_set(deployment: &Deployment, revision: u64, replicas: i32) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let hash = template_hash(&spec.template, collisions);
    let with_hash = |labels: Option<BTreeMap<String, String>>| {
        let mut labels = labels.unwrap_or_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        Some(labels)
    };
    let mut template = spec.template;
    let meta = template.metadata.get_or_insert_default();
    meta.labels = with_hash(meta.labels.take());
    let mut annotations = annotations(deployment, &Annotations::new(), revision);
    annotations.extend(size_annotations(deployment));
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default())),
            namespace: deployment.metadata.namespace.clone(),
            labels: template.metadata.as_ref().and_then(|meta| meta.labels.clone()),
            annotations: Some(annotations),
            owner_references: Some(vec![ownership::controlled_by("apps/v1", "Deployment", &deployment.metadata)]),
            ..Default::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector: LabelSelector { match_labels: with_hash(spec.selector.match_labels), ..spec.selector },
            template: Some(template),
        }),
        status: None,
    }
}

/// The old replica sets beyond the revision history limit: the lowest revisions first, and none that has pods.
pub fn beyond_history<'a>(deployment: &Deployment, old: &'a [Arc<ReplicaSet>]) -> Vec<&'a Arc<ReplicaSet>> {
    let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit);
    let Some(keep) = limit.filter(|limit| *limit != i32::MAX).and_then(|limit| usize::try_from(limit).ok()) else {
        return Vec::new();
    };
    let mut living: Vec<_> = old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
    living.sort_by_key(|set| revision(&set.metadata));
    living.truncate(living.len().saturating_sub(keep));
    living.retain(|set| is_empty(set));
    living
}

/// It has no pods, asks for none, and its controller knows.
fn is_empty(set: &ReplicaSet) -> bool {
    let (wanted, status) = (set.spec.as_ref().and_then(|spec| spec.replicas), set.status.clone().unwrap_or_default());
    wanted == Some(0) && status.replicas == 0 && status.observed_generation >= set.metadata.generation
}

/// A hash of a template, of letters and digits that form no words.
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(annotations: Value, spec: Value) -> Deployment {
        let mut whole = json!({"selector": {"matchLabels": {"app": "web"}}, "replicas": 10, "minReadySeconds": 7,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let meta = json!({"name": "web", "namespace": "default", "uid": "u", "annotations": annotations});
        serde_json::from_value(json!({"metadata": meta, "spec": whole})).unwrap()
    }

    fn set(name: &str, revision: u64, replicas: i32) -> Arc<ReplicaSet> {
        let meta = json!({"name": name, "generation": 1, "annotations": {REVISION: revision.to_string()}});
        let status = json!({"replicas": replicas, "observedGeneration": 1});
        let value = json!({"metadata": meta, "spec": {"replicas": replicas, "selector": {}}, "status": status});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_new_set_carries_what_its_deployment_says() {
        let cause = json!({"kubernetes.io/change-cause": "newer", REVISION: "3",
            "kubectl.kubernetes.io/last-applied-configuration": "{}"});
        let web = deployment(cause, json!({}));
        let new = new_set(&web, 4, 2);
        let expected: Annotations =
            [("kubernetes.io/change-cause", "newer"), (REVISION, "4"), (DESIRED, "10"), (MAX, "13")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        assert_eq!(new.metadata.annotations, Some(expected));
        let spec = new.spec.unwrap();
        assert_eq!((spec.replicas, spec.min_ready_seconds), (Some(2), Some(7)));
        assert!(same_template(&spec.template.unwrap(), &web.spec.unwrap().template));
    }

    #[test]
    fn a_template_that_comes_back_takes_the_highest_revision_and_remembers_its_own() {
        let web = deployment(json!({"kubernetes.io/change-cause": "undo"}), json!({}));
        let held: Annotations = [(REVISION.to_owned(), "2".to_owned())].into();
        let again = annotations(&web, &held, 5);
        assert_eq!((again[REVISION].as_str(), again[REVISION_HISTORY].as_str()), ("5", "2"));
        assert_eq!(again["kubernetes.io/change-cause"], "undo");
        let twice = annotations(&web, &again, 7);
        assert_eq!(twice[REVISION_HISTORY], "2,5");
        assert_eq!(annotations(&web, &twice, 6), twice, "revisions do not go back");
        let long = [(REVISION.to_owned(), "9".to_owned()), (REVISION_HISTORY.to_owned(), "1234,".repeat(500) + "8")];
        assert!(annotations(&web, &long.into(), 10)[REVISION_HISTORY].len() <= REVISION_HISTORY_BYTES_MAX);
    }

    #[test]
    fn a_collision_changes_the_name() {
        let mut web = deployment(json!({}), json!({}));
        let name = |web: &Deployment| new_set(web, 1, 0).metadata.name;
        let first = name(&web);
        web.status =
            Some(k8s_openapi::api::apps::v1::DeploymentStatus { collision_count: Some(1), ..Default::default() });
        assert_ne!(first, name(&web));
    }

    #[test]
    fn the_history_keeps_the_highest_revisions_and_all_that_have_pods() {
        let old = [set("c", 3, 0), set("a", 1, 1), set("b", 2, 0), set("d", 4, 0)];
        let names = |limit: Value| -> Vec<String> {
            let web = deployment(json!({}), json!({"revisionHistoryLimit": limit}));
            beyond_history(&web, &old).iter().map(|set| set.metadata.name.clone().unwrap()).collect()
        };
        assert_eq!(names(json!(2)), ["b"]);
        assert_eq!(names(json!(0)), ["b", "c", "d"]);
        assert!(names(json!(10)).is_empty() && names(json!(i32::MAX)).is_empty() && names(Value::Null).is_empty());
    }
}
