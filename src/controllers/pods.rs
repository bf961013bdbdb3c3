//! Conditions of pods that controllers decide by. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::world::planted::planted;

/// The phase, `Pending` if none was reported yet.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// None of its containers will ever run again.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Being deleted, and not finished yet.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && !is_finished(pod)
}

/// Neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && (pod.metadata.deletion_timestamp.is_none() || planted!("counts-terminating"))
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Ready for at least `min_ready_seconds` at `now`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod) && available_in(pod, min_ready_seconds, now) == Some(Duration::ZERO)
}

/// How long it takes until a ready pod is available, if it stays ready; `None` if it is not ready.
pub fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    if min_ready_seconds <= 0 {
        return Some(Duration::ZERO);
    }
    let since = ready.last_transition_time.as_ref()?;
    let left = SignedDuration::from_secs(i64::from(min_ready_seconds)) - now.duration_since(since.0);
    Some(Duration::try_from(left).unwrap_or_default())
}

/// A pod as `template` describes it, controlled by `owner`; the API generates its name.
pub fn from_template(template: &PodTemplateSpec, owner: OwnerReference) -> Pod {
    let metadata = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name)),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_ready_pod_is_available_after_its_time() {
        let pod = |ready: &str| -> Pod {
            let condition = json!({"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"});
            serde_json::from_value(json!({"status": {"conditions": [condition]}})).unwrap()
        };
        let now: Timestamp = "2026-01-01T00:00:03.5Z".parse().unwrap();
        for (ready, seconds, left) in
            [("True", 0, Some(0)), ("True", 3, Some(0)), ("True", 10, Some(6500)), ("False", 0, None)]
        {
            let left = left.map(Duration::from_millis);
            assert_eq!(available_in(&pod(ready), seconds, now), left, "{ready} {seconds}");
            assert_eq!(is_available(&pod(ready), seconds, now), left == Some(Duration::ZERO), "{ready} {seconds}");
        }
    }

    #[test]
    fn what_has_ended_or_is_about_to_is_not_active() {
        let pod = |meta: serde_json::Value, phase: &str| -> Pod {
            serde_json::from_value(json!({"metadata": meta, "status": {"phase": phase}})).unwrap()
        };
        for (meta, phase, active) in [
            (json!({}), "Pending", true),
            (json!({}), "Running", true),
            (json!({}), "Succeeded", false),
            (json!({}), "Failed", false),
            (json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), "Running", false),
        ] {
            assert_eq!(is_active(&pod(meta.clone(), phase)), active, "{meta} {phase}");
        }
    }
}
