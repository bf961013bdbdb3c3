//! `coordination.k8s.io/v1`: leases of leaders and nodes.

use k8s_openapi::api::coordination::v1;

use super::resource::Resource;
use crate::kube::printing::nodes;
use crate::kube::validation::other;

pub(super) fn resources() -> Vec<Resource> {
    vec![
        Resource::of::<v1::Lease>()
            .conditional_update()
            .create_on_update()
            .printed_by(nodes::lease())
            .checked_by(other::lease),
    ]
}
