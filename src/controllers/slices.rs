//! Writes endpoint slices to the API: slices that are right stay, others are updated, surplus ones are deleted.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::addresses::Slice;
use super::not_found::ignore_not_found;
use crate::kube::client::{Client, DeleteOptions};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::status::Status;

/// The service that a slice belongs to.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The controller that writes a slice.
pub const MANAGER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// The key of the service that a slice belongs to.
pub fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    Some(Key::new(slice.metadata.namespace.clone().unwrap_or_default(), name.clone()))
}

/// Makes the slices of the service `key` in the API, as `informer` shows them, those `wanted`, with the metadata of
/// `pattern`.
pub async fn publish(
    client: &Client,
    informer: &Informer<EndpointSlice>,
    key: &Key,
    pattern: &EndpointSlice,
    wanted: Vec<Slice>,
) -> Result<(), Status> {
    let mut existing: Vec<Arc<EndpointSlice>> = informer.in_namespace(&key.namespace);
    existing.retain(|slice| service_of(slice).as_ref() == Some(key) && slice.metadata.deletion_timestamp.is_none());
    let wanted = wanted.into_iter().map(|slice| EndpointSlice {
        address_type: slice.address_type.to_owned(),
        endpoints: slice.endpoints,
        ports: Some(slice.ports).filter(|ports| !ports.is_empty()),
        ..pattern.clone()
    });
    let mut missing = Vec::new();
    for slice in wanted {
        match existing.iter().position(|held| is_same(held, &slice)) {
            Some(position) => drop(existing.swap_remove(position)),
            None => missing.push(slice),
        }
    }
    let api = client.api::<EndpointSlice>().namespaced(&key.namespace);
    for mut slice in missing {
        // The type of a slice's addresses can't change.
        let written = match existing.iter().position(|held| held.address_type == slice.address_type) {
            Some(position) => {
                let held = existing.swap_remove(position);
                slice.metadata.generate_name = None;
                slice.metadata.name.clone_from(&held.metadata.name);
                slice.metadata.resource_version.clone_from(&held.metadata.resource_version);
                api.update(&slice).await?
            }
            None => api.create(&slice).await?,
        };
        informer.reached(&written.metadata).await;
    }
    for surplus in existing {
        let name = surplus.metadata.name.as_deref().unwrap_or_default();
        ignore_not_found(api.delete(name, DeleteOptions::default()).await)?;
    }
    Ok(())
}

fn is_same(held: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    held.address_type == wanted.address_type
        && held.endpoints == wanted.endpoints
        && held.ports == wanted.ports
        && held.metadata.labels == wanted.metadata.labels
        && held.metadata.annotations == wanted.metadata.annotations
}
