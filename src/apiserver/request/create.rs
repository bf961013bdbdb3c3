//! Create.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::apiserver::admission::{AdmissionAttributes, Operation, Turn};
use crate::apiserver::codec;
use crate::apiserver::storage::{Committed, Write};
use crate::kube::client::Response;
use crate::kube::coverage;
use crate::kube::names;
use crate::kube::object::Object;
use crate::kube::status::Status;
use crate::world::Revision;

use super::body::{self, timestamp};
use super::{Api, Outcome, RequestInfo};

/// How often a create is tried again when what it depends on has changed.
const ATTEMPTS: usize = 16;

impl Api {
    pub(super) async fn create(&self, info: &RequestInfo<'_>, bytes: &[u8]) -> Result<Outcome, Status> {
        if info.target.name.is_some() {
            return Err(Status::method_not_allowed(&info.resource.group, &info.resource.plural, "create"));
        }
        let (object, warnings) = body::decode(&self.schemas, info, bytes)?;
        if info.resource.storage_prefix.is_none() {
            return self.review(info, object).await;
        }
        self.create_object(info, object, warnings).await
    }

    /// Creates a decoded object.
    pub async fn create_object(
        &self,
        info: &RequestInfo<'_>,
        mut object: Value,
        mut warnings: Vec<String>,
    ) -> Result<Outcome, Status> {
        body::check_new(&object)?;
        let (resource, namespace) = (info.resource, info.namespace());
        let unenforced =
            self.admission.pod_security_warnings(resource, namespace, &object, None, info.deadline).await?;
        warnings.extend(unenforced);
        warnings.extend(coverage::warnings(&self.schemas, &resource.definition, &object, None));
        info.resource.default(&mut object);
        self.fill_system_fields(&mut object);
        let base = body::generate_name(&object);
        for _ in 0..names::GENERATE_ATTEMPTS_MAX {
            let mut named = object.clone();
            if let Some(base) = &base {
                named["metadata"]["name"] = json!(names::generate(base, |bound| self.world.random.within(0..bound)));
            }
            match self.create_named(info, named).await {
                Err(status) if base.is_some() && status.is_already_exists() => {}
                other => return other.map(|object| Outcome::created(object, warnings)),
            }
        }
        Err(Status::generated_name_exists(&resource.group, &resource.plural, base.as_deref().unwrap_or_default()))
    }

    async fn create_named(&self, info: &RequestInfo<'_>, object: Value) -> Result<Arc<Object>, Status> {
        let resource = info.resource;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut attributes = AdmissionAttributes {
            user: info.user,
            operation: Operation::Create,
            resource,
            subresource: None,
            namespace: info.namespace(),
            name: &name,
            old: None,
            after_conflict: false,
            deadline: info.deadline,
        };
        let mut turn = Turn::default();
        for _ in 0..ATTEMPTS {
            let mut object = object.clone();
            let complete = self.admission.admit(&attributes, &mut object).await?;
            // What depends on the whole object, such as the QoS class of a pod, depends on what admission added, too.
            resource.prepare_for_create(&mut object);
            let allocations = self.addresses.allocate(resource, &mut object, None).await?;
            resource.validate_create(&object)?;
            let also = self.admission.validate(&attributes, &object, &mut turn).await?;
            if info.write.dry_run {
                if self.storage.read(resource, info.namespace(), &name).await?.is_some() {
                    return Err(Status::already_exists(&resource.group, &resource.plural, &name));
                }
                return Ok(shown(&object, Revision(0)));
            }
            let key = self.storage.key(resource, info.namespace(), &name)?;
            let lease = if resource.plural == "events" { Some(self.storage.event_lease().await?) } else { None };
            let write = Write::create(&key, codec::encode(&object), lease).and(complete).and(also).and(allocations);
            if let Committed::At(revision) = self.storage.commit(write).await? {
                return Ok(shown(&object, revision));
            }
            if self.storage.read_key(&key).await?.is_some() {
                return Err(Status::already_exists(&resource.group, &resource.plural, &name));
            }
            attributes.after_conflict = true;
        }
        Err(Status::server_timeout(&resource.group, &resource.plural, "create", 1))
    }

    /// Fills in the metadata of a new object that the server owns.
    fn fill_system_fields(&self, object: &mut Value) {
        let Some(metadata) = object["metadata"].as_object_mut() else { return };
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
            metadata.shift_remove(field);
        }
        metadata.insert("uid".to_owned(), json!(self.world.random.uuid().to_string()));
        metadata.insert("creationTimestamp".to_owned(), json!(timestamp(self.world.clock.unix())));
    }
}

/// The object as a client sees it after a write.
pub fn shown(object: &Value, revision: Revision) -> Arc<Object> {
    let stored = codec::encode(object);
    let shown = match revision {
        Revision(0) => Object::from_json(stored),
        revision => codec::decode(&stored, revision),
    };
    Arc::new(shown.expect("an object that was just encoded decodes"))
}

/// The response that shows `object`.
pub fn showing(object: Arc<Object>, warnings: Vec<String>) -> Outcome {
    Outcome { warnings, ..Outcome::of(Response::Object(object)) }
}
