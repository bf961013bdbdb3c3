//! What a ReplicationController and a ReplicaSet have in common. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::replicas::Counts;
use crate::kube::client::Kind;
use crate::kube::selector::Selector;

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Why pods could not be created or deleted: reason and message of the condition `ReplicaFailure`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: &'static str,
    pub message: String,
}

/// A kind that asks for a number of pods of one template.
pub trait Workload: Kind + PartialEq {
    const NAME: &'static str;
    const API_VERSION: &'static str;

    /// How many pods it asks for.
    fn wanted(&self) -> usize;
    fn min_ready_seconds(&self) -> i32;
    /// The selector of its pods; `None` if it would select none, or everything.
    fn selector(&self) -> Option<Selector>;
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// The object with the status that reports `counts` and `failure`.
    fn with_status(&self, counts: Counts, failure: Option<&Failure>, now: Time) -> Self;
}

/// The labels of a template.
pub fn template_labels(template: &PodTemplateSpec) -> BTreeMap<String, String> {
    template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default()
}

/// Absent instead of zero, as upstream writes counts.
fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// The conditions with the failure in place of a former one. A failure that is there already stays as it is: otherwise
/// each attempt would change the status, and the change cause the next attempt. `None` if there are no conditions.
fn conditions<C: Clone>(held: Option<&Vec<C>>, is_failure: impl Fn(&C) -> bool, failure: Option<C>) -> Option<Vec<C>> {
    let (former, mut conditions): (Vec<C>, Vec<C>) = held.into_iter().flatten().cloned().partition(is_failure);
    conditions.extend(failure.map(|failure| former.into_iter().next().unwrap_or(failure)));
    (!conditions.is_empty()).then_some(conditions)
}

impl Workload for ReplicationController {
    const NAME: &'static str = "ReplicationController";
    const API_VERSION: &'static str = "v1";

    fn wanted(&self) -> usize {
        let replicas = self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        usize::try_from(replicas).unwrap_or(0)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn selector(&self) -> Option<Selector> {
        let labels = self.spec.as_ref()?.selector.as_ref().filter(|labels| !labels.is_empty())?;
        Some(Selector::from_labels(labels))
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn with_status(&self, counts: Counts, failure: Option<&Failure>, now: Time) -> Self {
        let failure = failure.map(|failure| ReplicationControllerCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(now),
        });
        let held = self.status.as_ref().and_then(|status| status.conditions.as_ref());
        let status = ReplicationControllerStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: nonzero(counts.fully_labeled),
            ready_replicas: nonzero(counts.ready),
            available_replicas: nonzero(counts.available),
            observed_generation: self.metadata.generation,
            conditions: conditions(held, |condition| condition.type_ == REPLICA_FAILURE, failure),
        };
        ReplicationController { status: Some(status), ..self.clone() }
    }
}

impl Workload for ReplicaSet {
    const NAME: &'static str = "ReplicaSet";
    const API_VERSION: &'static str = "apps/v1";

    fn wanted(&self) -> usize {
        let replicas = self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        usize::try_from(replicas).unwrap_or(0)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn selector(&self) -> Option<Selector> {
        Selector::from_label_selector(Some(&self.spec.as_ref()?.selector))
            .ok()
            .filter(|selector| !selector.is_everything())
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn with_status(&self, counts: Counts, failure: Option<&Failure>, now: Time) -> Self {
        let failure = failure.map(|failure| ReplicaSetCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(now),
        });
        let held = self.status.as_ref().and_then(|status| status.conditions.as_ref());
        let status = ReplicaSetStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: nonzero(counts.fully_labeled),
            ready_replicas: nonzero(counts.ready),
            available_replicas: nonzero(counts.available),
            observed_generation: self.metadata.generation,
            conditions: conditions(held, |condition| condition.type_ == REPLICA_FAILURE, failure),
            terminating_replicas: Some(counts.terminating),
        };
        ReplicaSet { status: Some(status), ..self.clone() }
    }
}
