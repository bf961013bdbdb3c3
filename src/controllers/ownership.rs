//! Controller references: how owners adopt and release objects by their selectors.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use super::not_found::ignore_not_found;
use crate::kube::client::{Api, Client, Kind, PatchType};
use crate::kube::selector::Selector;
use crate::kube::status::Status;

/// The owner that controls an object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// A reference to `owner` as the controller.
pub fn controlled_by(api_version: &str, kind: &str, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Adopts those of `candidates`, objects of the owner's namespace, that have no controller and are `adoptable`, and
/// releases those that `owner` no longer selects. Returns the ones that it controls and selects.
pub async fn claim<O: Kind, C: Kind>(
    client: &Client,
    owner: &O,
    selector: &Selector,
    candidates: Vec<Arc<C>>,
    adoptable: impl Fn(&C) -> bool,
) -> Result<Vec<Arc<C>>, Status> {
    let meta = owner.metadata();
    let uid = meta.uid.as_deref().unwrap_or_default();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let (owners, api) = (client.api::<O>().namespaced(namespace), client.api::<C>().namespaced(namespace));
    let is_living = |meta: &ObjectMeta| meta.deletion_timestamp.is_none();
    let mut may_adopt = None;
    let mut claimed = Vec::new();
    for candidate in candidates {
        let held = candidate.metadata();
        let selected = selector.matches(held.labels.as_ref().unwrap_or(&Default::default()));
        let name = held.name.as_deref().unwrap_or_default();
        match controller_of(held) {
            Some(controller) if controller.uid != uid => {}
            Some(_) if selected => claimed.push(candidate),
            Some(_) if is_living(held) && is_living(meta) => {
                let release = json!([{"$patch": "delete", "uid": uid}]);
                let patch = json!({"metadata": {"uid": held.uid, "ownerReferences": release}});
                ignore_not_found(api.patch(name, PatchType::Strategic, &patch).await)?;
            }
            None if selected && is_living(held) && is_living(meta) && adoptable(&candidate) => {
                if may_adopt.is_none() {
                    may_adopt = Some(is_there(&owners, meta).await?);
                }
                if may_adopt != Some(true) {
                    continue;
                }
                let owner = controlled_by(<O as k8s_openapi::Resource>::API_VERSION, O::KIND, meta);
                let patch = json!({"metadata": {"uid": held.uid, "ownerReferences": [owner]}});
                if let Some(adopted) = ignore_not_found(api.patch(name, PatchType::Strategic, &patch).await)? {
                    claimed.push(Arc::new(adopted));
                }
            }
            Some(_) | None => {}
        }
    }
    Ok(claimed)
}

/// Whether the owner exists in the API and is not being deleted. By the cache, which may be behind, it would adopt
/// objects that the garbage collector has just orphaned.
async fn is_there<O: Kind>(owners: &Api<O>, meta: &ObjectMeta) -> Result<bool, Status> {
    let there = owners.get_opt(meta.name.as_deref().unwrap_or_default()).await?;
    let is_it = |there: &O| there.metadata().uid == meta.uid && there.metadata().deletion_timestamp.is_none();
    Ok(there.as_ref().is_some_and(is_it))
}
