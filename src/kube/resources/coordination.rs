//! `coordination.k8s.io/v1`: leases of leaders and nodes.

use super::resource::Resource;

pub(super) fn resources() -> Vec<Resource> {
    vec![
        Resource::namespaced("coordination.k8s.io/v1", "Lease", "leases", "io.k8s.api.coordination.v1")
            .conditional_update()
            .create_on_update(),
    ]
}
