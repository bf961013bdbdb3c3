//! `discovery.k8s.io/v1`: endpoint slices.

use super::resource::Resource;

pub(super) fn resources() -> Vec<Resource> {
    vec![
        Resource::namespaced("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", "io.k8s.api.discovery.v1")
            .with_generation(),
    ]
}
