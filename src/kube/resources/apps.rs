//! `apps/v1`: workloads.

use k8s_openapi::api::apps::v1;

use super::resource::Resource;

fn workload(resource: Resource) -> Resource {
    resource.category("all").with_generation().part("status")
}

pub(super) fn resources() -> Vec<Resource> {
    vec![
        workload(Resource::of::<v1::Deployment>()).short(&["deploy"]).scaled(),
        workload(Resource::of::<v1::ReplicaSet>()).short(&["rs"]).scaled().selectable("status.replicas"),
    ]
}
