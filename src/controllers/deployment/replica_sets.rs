//! The replica sets of a deployment: the new one and the old ones. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::revision::same_template;
use super::rollout::ReplicaCounts;

/// A deployment's replica sets: the one of its present template, and the others, oldest first.
pub struct ReplicaSets {
    pub new: Option<Arc<ReplicaSet>>,
    pub old: Vec<Arc<ReplicaSet>>,
}

impl ReplicaSets {
    /// Sorts out the replica sets that a deployment controls.
    pub fn of(deployment: &Deployment, mut owned: Vec<Arc<ReplicaSet>>) -> ReplicaSets {
        owned.sort_by_key(|set| {
            (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.metadata.name.clone())
        });
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let is_new = |set: &Arc<ReplicaSet>| {
            let held = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            held.zip(template).is_some_and(|(held, template)| same_template(held, template))
        };
        let new = owned.iter().position(is_new).map(|at| owned.remove(at));
        ReplicaSets { new, old: owned }
    }

    /// All of them, and the index of the new one.
    pub fn all(&self) -> (Vec<Arc<ReplicaSet>>, Option<usize>) {
        let all = self.old.iter().chain(&self.new).cloned().collect();
        (all, self.new.as_ref().map(|_| self.old.len()))
    }

    pub fn old_sizes(&self) -> Vec<ReplicaCounts> {
        self.old.iter().map(|set| ReplicaCounts::of(set)).collect()
    }
}
