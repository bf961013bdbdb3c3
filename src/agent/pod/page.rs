//! A pod as the notebook keeps it: enough to go on with it while no frontend answers.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde::{Deserialize, Serialize};

use super::sources::Sources;

/// A page of the notebook: both parts are JSON, since the types' own encoding skips fields, which a positional format
/// could not read back.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    pod: Vec<u8>,
    sources: Vec<u8>,
}

impl Page {
    /// Leaves out what changes often and is found again anyway: versions, managed fields, the status of containers.
    pub fn of(pod: &Pod, sources: &Sources) -> Page {
        let mut kept = Pod { metadata: pod.metadata.clone(), spec: pod.spec.clone(), status: None };
        kept.metadata.managed_fields = None;
        kept.metadata.resource_version = None;
        kept.status = pod.status.as_ref().map(|status| PodStatus {
            phase: status.phase.clone().filter(|phase| phase == "Succeeded" || phase == "Failed"),
            start_time: status.start_time.clone(),
            ..PodStatus::default()
        });
        let json = |result: serde_json::Result<Vec<u8>>| result.expect("objects that came as JSON go as JSON");
        Page { pod: json(serde_json::to_vec(&kept)), sources: json(serde_json::to_vec(sources)) }
    }

    /// `None` for a page that another version wrote and this one can't read.
    pub fn open(&self) -> Option<(Pod, Sources)> {
        let pod: Pod = serde_json::from_slice(&self.pod).ok()?;
        pod.spec.as_ref()?;
        Some((pod, serde_json::from_slice(&self.sources).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_keeps_the_pod_and_its_sources_and_does_not_change_with_its_status() {
        let pod = |ready: bool| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "www", "uid": "u", "resourceVersion": if ready { "2" } else { "1" }},
                "spec": {"containers": [{"name": "c"}]},
                "status": {"phase": if ready { "Running" } else { "Pending" }, "startTime": "2026-01-01T00:00:00Z"},
            }))
            .unwrap()
        };
        let sources: Sources = serde_json::from_value(json!({
            "config_maps": {"m": {"metadata": {"name": "m"}, "data": {"k": "v"}}}, "secrets": {},
        }))
        .unwrap();
        let page = Page::of(&pod(false), &sources);
        assert!(page == Page::of(&pod(true), &sources));
        let (kept, found) = page.open().unwrap();
        assert_eq!((kept.metadata.uid.as_deref(), kept.spec), (Some("u"), pod(true).spec));
        assert!(found == sources);
    }
}
