//! `apps/v1`: workloads.

use k8s_openapi::api::apps::v1;

use super::resource::Resource;
use crate::kube::defaults::workloads;
use crate::kube::printing::workloads as rows;
use crate::kube::validation::workloads as rules;

fn workload(resource: Resource) -> Resource {
    resource.category("all").with_generation().with_subresource("status")
}

pub(super) fn resources() -> Vec<Resource> {
    vec![
        workload(Resource::of::<v1::Deployment>())
            .short(&["deploy"])
            .with_scale()
            .annotated_by_status()
            .defaulted_by(workloads::deployment)
            .printed_by(rows::deployment())
            .checked_by(rules::deployment)
            .update_checked_by(rules::selector_update),
        workload(Resource::of::<v1::ReplicaSet>())
            .short(&["rs"])
            .with_scale()
            .selectable_by("status.replicas", super::core::replicas)
            .defaulted_by(workloads::replica_set)
            .on_create(workloads::no_replicas)
            .printed_by(rows::replica_set())
            .checked_by(rules::replica_set)
            .update_checked_by(rules::selector_update),
    ]
}
