//! The events of a container that begins to wait, with upstream's reasons and messages. Pure.

use k8s_openapi::api::core::v1::{ContainerStateWaiting, ContainerStatus, Pod};

use crate::kube::events::Severity;

/// An event's severity, reason and message.
pub type EventText = (Severity, &'static str, String);

/// The events of a container whose image cannot be had, or that failed and is not started again at once.
pub fn events(pod: &Pod, container: &ContainerStatus, waiting: &ContainerStateWaiting) -> Vec<EventText> {
    let (name, image) = (&container.name, &container.image);
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = waiting.message.clone().unwrap_or_default();
    let first = match reason {
        "ErrImagePull" => (Severity::Warning, "Failed", format!("Failed to pull image {image:?}: {message}")),
        "ImagePullBackOff" => (Severity::Normal, "BackOff", format!("Back-off pulling image {image:?}")),
        "InvalidImageName" => (Severity::Warning, "InspectFailed", message),
        "ErrImageNeverPull" => (Severity::Warning, "ErrImageNeverPull", message),
        "CrashLoopBackOff" => {
            let [pod_name, namespace, uid] = [&pod.metadata.name, &pod.metadata.namespace, &pod.metadata.uid]
                .map(|part| part.as_deref().unwrap_or_default());
            let pod = format!("{pod_name}_{namespace}({uid})");
            let message = format!("Back-off restarting failed container {name} in pod {pod}");
            return vec![(Severity::Warning, "BackOff", message)];
        }
        _ => return Vec::new(),
    };
    vec![first, (Severity::Warning, "Failed", format!("Error: {reason}"))]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_have_upstreams_texts() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}})).unwrap();
        let container = ContainerStatus { name: "c".into(), image: "i:1".into(), ..ContainerStatus::default() };
        let table: [(&str, &[&str]); 6] = [
            (
                "ErrImagePull",
                &["Warning Failed Failed to pull image \"i:1\": why", "Warning Failed Error: ErrImagePull"],
            ),
            (
                "ImagePullBackOff",
                &["Normal BackOff Back-off pulling image \"i:1\"", "Warning Failed Error: ImagePullBackOff"],
            ),
            ("InvalidImageName", &["Warning InspectFailed why", "Warning Failed Error: InvalidImageName"]),
            ("ErrImageNeverPull", &["Warning ErrImageNeverPull why", "Warning Failed Error: ErrImageNeverPull"]),
            ("CrashLoopBackOff", &["Warning BackOff Back-off restarting failed container c in pod p_ns(u)"]),
            ("ContainerCreating", &[]),
        ];
        for (reason, expected) in table {
            let waiting = ContainerStateWaiting { reason: Some(reason.into()), message: Some("why".into()) };
            let found = events(&pod, &container, &waiting);
            let found: Vec<_> =
                found.iter().map(|(severity, reason, text)| format!("{severity:?} {reason} {text}")).collect();
            assert_eq!(found, expected, "{reason}");
        }
    }
}
