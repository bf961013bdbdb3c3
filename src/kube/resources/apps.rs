//! `apps/v1`: workloads.

use super::resource::Resource;

fn workload(kind: &str, plural: &str) -> Resource {
    Resource::namespaced("apps/v1", kind, plural, "io.k8s.api.apps.v1").category("all").with_generation().part("status")
}

pub(super) fn resources() -> Vec<Resource> {
    vec![
        workload("Deployment", "deployments").short(&["deploy"]).scaled(),
        workload("ReplicaSet", "replicasets").short(&["rs"]).scaled().selectable("status.replicas"),
    ]
}
