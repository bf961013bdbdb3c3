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

/// Why pods could not be created, as the condition `ReplicaFailure` tells it.
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
    /// Selects its pods; `None` if it selects none, or everything.
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
        let former = self.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let since = former.into_iter().find(|condition| condition.type_ == "ReplicaFailure");
        let condition = |failure: &Failure| ReplicationControllerCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: since.and_then(|condition| condition.last_transition_time.clone()).or(Some(now)),
        };
        let status = ReplicationControllerStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: nonzero(counts.fully_labeled),
            ready_replicas: nonzero(counts.ready),
            available_replicas: nonzero(counts.available),
            observed_generation: self.metadata.generation,
            conditions: failure.map(|failure| vec![condition(failure)]),
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
        let former = self.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let since = former.into_iter().find(|condition| condition.type_ == "ReplicaFailure");
        let condition = |failure: &Failure| ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: since.and_then(|condition| condition.last_transition_time.clone()).or(Some(now)),
        };
        let status = ReplicaSetStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: nonzero(counts.fully_labeled),
            ready_replicas: nonzero(counts.ready),
            available_replicas: nonzero(counts.available),
            observed_generation: self.metadata.generation,
            conditions: failure.map(|failure| vec![condition(failure)]),
            ..Default::default()
        };
        ReplicaSet { status: Some(status), ..self.clone() }
    }
}
