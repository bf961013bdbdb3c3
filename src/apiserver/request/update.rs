//! Update and patch: a new state made from the stored one, tried again when another write came first.

use serde_json::Value;

use crate::apiserver::admission::{AdmissionAttributes, Operation, Turn};
use crate::apiserver::codec;
use crate::apiserver::storage::{Committed, Stored, Write};
use crate::kube::client::PatchType;
use crate::kube::coverage;
use crate::kube::resources::Subresource;
use crate::kube::status::Status;
use crate::world::LeaseId;

use super::create::{showing, shown};
use super::{Api, Outcome, RequestInfo, body};

/// How often a write without a resource version is tried again.
const ATTEMPTS: usize = 32;

/// What the new state is made from: upstream's UpdatedObjectInfo.
#[derive(Clone, Copy)]
pub enum UpdatedObjectInfo<'a> {
    Replace(&'a Value),
    Patch(PatchType, &'a [u8]),
}

/// What became of one attempt.
enum Tried {
    Done(Box<Outcome>),
    /// Another write came first.
    Conflict,
}

impl Api {
    pub(super) async fn replace(&self, info: &RequestInfo<'_>, bytes: &[u8]) -> Result<Outcome, Status> {
        let (object, warnings) = body::decode(&self.schemas, info, bytes)?;
        body::check_name(info, &object)?;
        let mut outcome = self.update(info, UpdatedObjectInfo::Replace(&object)).await?;
        outcome.warnings.extend(warnings);
        Ok(outcome)
    }

    pub(super) async fn patch(&self, info: &RequestInfo<'_>, kind: PatchType, bytes: &[u8]) -> Result<Outcome, Status> {
        if kind == PatchType::Apply {
            return Err(body::no_apply());
        }
        self.update(info, UpdatedObjectInfo::Patch(kind, bytes)).await
    }

    /// Writes a new state of the object in the path.
    pub async fn update(&self, info: &RequestInfo<'_>, updated: UpdatedObjectInfo<'_>) -> Result<Outcome, Status> {
        let name = info.name()?;
        let resource = info.resource;
        let (mut after_conflict, mut turn) = (false, Turn::default());
        for _ in 0..ATTEMPTS {
            let Some(stored) = self.storage.read(resource, info.namespace(), name).await? else {
                return self.create_by_update(info, name, updated).await;
            };
            match self.try_update(info, name, &stored, updated, after_conflict, &mut turn).await? {
                Tried::Done(outcome) => return Ok(*outcome),
                Tried::Conflict => after_conflict = true,
            }
        }
        Err(Status::modified(&resource.group, &resource.plural, name))
    }

    /// Some kinds let a PUT create what is missing.
    async fn create_by_update(
        &self,
        info: &RequestInfo<'_>,
        name: &str,
        updated: UpdatedObjectInfo<'_>,
    ) -> Result<Outcome, Status> {
        match updated {
            UpdatedObjectInfo::Replace(object)
                if info.resource.allows_create_on_update && info.target.subresource.is_none() =>
            {
                self.authorize(info.user, "create", info.target, info.deadline).await?;
                self.create_object(info, object.clone(), Vec::new()).await
            }
            _ => Err(info.resource.not_found(name)),
        }
    }

    async fn try_update(
        &self,
        info: &RequestInfo<'_>,
        name: &str,
        stored: &Stored,
        updated: UpdatedObjectInfo<'_>,
        after_conflict: bool,
        turn: &mut Turn,
    ) -> Result<Tried, Status> {
        let resource = info.resource;
        let old = stored.object.value();
        let (mut new, mut warnings) = match updated {
            UpdatedObjectInfo::Replace(object) => (object.clone(), Vec::new()),
            UpdatedObjectInfo::Patch(kind, bytes) => body::patched(&self.schemas, info, kind, &old, bytes)?,
        };
        self.check_preconditions(info, name, stored, &new, &old, updated)?;
        let subresource = Subresource::of(info.target.subresource.as_deref());
        resource.default(&mut new);
        resource.prepare_for_update(subresource, &mut new, &old);
        if !matches!(subresource, Subresource::Status) {
            warnings.extend(coverage::warnings(&self.schemas, &resource.definition, &new, Some(&old)));
        }
        if info.target.subresource.as_deref() == Some("resize") {
            warnings.push(coverage::not_acted_on("resize"));
        }
        let attributes = AdmissionAttributes {
            user: info.user,
            operation: Operation::Update,
            resource,
            subresource: info.target.subresource.as_deref(),
            namespace: info.namespace(),
            name,
            old: Some(&old),
            after_conflict,
            deadline: info.deadline,
        };
        self.admission.admit(&attributes, &mut new).await?;
        let namespace = info.namespace();
        let unenforced =
            self.admission.pod_security_warnings(resource, namespace, &new, Some(&old), info.deadline).await?;
        warnings.extend(unenforced);
        let allocations = match subresource {
            Subresource::None => self.addresses.allocate(resource, &mut new, Some(&old)).await?,
            _ => Write::default(),
        };
        resource.validate_update(subresource, &new, &old)?;
        let also = self.admission.validate(&attributes, &new, turn).await?;
        codec::set_resource_version(&mut new, stored.revision);
        if new == old {
            return Ok(Tried::Done(Box::new(showing(stored.object.clone(), warnings))));
        }
        if info.write.dry_run {
            return Ok(Tried::Done(Box::new(showing(shown(&new, stored.revision), warnings))));
        }
        let key = self.storage.key(resource, info.namespace(), name)?;
        let write = if should_delete(&new) {
            self.removal(&key, stored.revision, resource, &new)
        } else {
            Write::replace(&key, stored.revision, codec::encode(&new), self.lease(info).await?)
        };
        match self.storage.commit(write.and(also).and(allocations)).await? {
            Committed::At(revision) => {
                self.after_change(info, &old, &new);
                Ok(Tried::Done(Box::new(showing(shown(&new, revision), warnings))))
            }
            // The next attempt finds out whether it was this object that changed.
            Committed::Conflict => Ok(Tried::Conflict),
        }
    }

    /// An event that is written again gets a new lease.
    async fn lease(&self, info: &RequestInfo<'_>) -> Result<Option<LeaseId>, Status> {
        if info.resource.plural == "events" { self.storage.event_lease().await.map(Some) } else { Ok(None) }
    }

    /// Checks the UID and the resource version that the client names against the stored object.
    fn check_preconditions(
        &self,
        info: &RequestInfo<'_>,
        name: &str,
        stored: &Stored,
        new: &Value,
        old: &Value,
        updated: UpdatedObjectInfo<'_>,
    ) -> Result<(), Status> {
        let resource = info.resource;
        let uid = new["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty());
        let found = old["metadata"]["uid"].as_str().unwrap_or_default();
        if let Some(wanted) = uid.filter(|uid| *uid != found) {
            return Err(Status::uid_mismatch(&resource.group, &resource.plural, name, wanted, found));
        }
        let version = new["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty());
        let current = stored.revision.to_string();
        match (version, updated) {
            (Some(version), _) if version != current => Err(Status::modified(&resource.group, &resource.plural, name)),
            // A patched object carries the version it was patched from.
            (Some(_), _) | (_, UpdatedObjectInfo::Patch(..)) => Ok(()),
            (None, UpdatedObjectInfo::Replace(_)) if resource.allows_unconditional_update => Ok(()),
            (None, UpdatedObjectInfo::Replace(_)) => Err(body::must_have_version(resource, name)),
        }
    }
}

/// An object in deletion has neither finalizers nor grace left: the write removes it.
pub fn should_delete(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let held = metadata["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
        || object["kind"] == "Namespace"
            && object["spec"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
    !metadata["deletionTimestamp"].is_null()
        && !held
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_ends_when_nothing_holds_it() {
        let object = |metadata: Value| json!({"kind": "Pod", "metadata": metadata});
        let at = "2026-01-01T00:00:00Z";
        for (metadata, expected) in [
            (json!({}), false),
            (json!({"deletionTimestamp": at}), true),
            (json!({"deletionTimestamp": at, "deletionGracePeriodSeconds": 0, "finalizers": []}), true),
            (json!({"deletionTimestamp": at, "deletionGracePeriodSeconds": 30}), false),
            (json!({"deletionTimestamp": at, "finalizers": ["x"]}), false),
        ] {
            assert_eq!(should_delete(&object(metadata.clone())), expected, "{metadata}");
        }
        let namespace =
            json!({"kind": "Namespace", "metadata": {"deletionTimestamp": at}, "spec": {"finalizers": ["kubernetes"]}});
        assert!(!should_delete(&namespace));
    }
}
