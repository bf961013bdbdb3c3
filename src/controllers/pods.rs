//! What controllers ask of a pod. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::world::planted::planted;

/// The phase, `Pending` where none was reported yet.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Neither finished nor on its way out.
pub fn is_active(pod: &Pod) -> bool {
    !matches!(phase(pod), "Succeeded" | "Failed")
        && (pod.metadata.deletion_timestamp.is_none() || planted!("counts-terminating"))
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Ready for at least `min_ready_seconds` at `now`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    if min_ready_seconds == 0 {
        return is_ready(pod);
    }
    let since = condition(pod, "Ready").and_then(|ready| ready.last_transition_time.as_ref());
    is_ready(pod) && since.is_some_and(|time| now.duration_since(time.0).as_secs() >= i64::from(min_ready_seconds))
}

/// The owner that controls an object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// A reference that says "`owner` controls this".
pub fn controlled_by(api_version: &str, kind: &str, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A pod as `template` describes it, controlled by `owner`; the API draws its name.
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
