//! `discovery.k8s.io/v1`: endpoint slices.

use k8s_openapi::api::discovery::v1;

use super::resource::Resource;
use crate::kube::defaults::service;
use crate::kube::printing::services;
use crate::kube::validation::services as rules;

pub(super) fn resources() -> Vec<Resource> {
    vec![
        Resource::of::<v1::EndpointSlice>()
            .with_generation()
            .defaulted_by(service::endpoint_slice)
            .printed_by(services::endpoint_slice())
            .checked_by(rules::endpoint_slice)
            .update_checked_by(rules::endpoint_slice_update),
    ]
}
