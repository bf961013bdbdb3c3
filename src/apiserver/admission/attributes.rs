//! What admission plugins learn of a write.

use std::sync::Arc;

use serde_json::Value;

use crate::apiserver::user::User;
use crate::kube::resources::Resource;
use crate::kube::status::Status;
use crate::world::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// A write that admission decides about.
#[derive(Clone, Copy)]
pub struct AdmissionAttributes<'a> {
    pub user: &'a User,
    pub operation: Operation,
    pub resource: &'a Arc<Resource>,
    pub subresource: Option<&'a str>,
    pub namespace: Option<&'a str>,
    /// Empty until a generated name is chosen.
    pub name: &'a str,
    /// The stored state; of a deletion, what is deleted.
    pub old: Option<&'a Value>,
    /// A condition of the write did not hold, so the caches may be stale: read them at the store's revision.
    pub after_conflict: bool,
    pub deadline: Instant,
}

impl AdmissionAttributes<'_> {
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }

    /// The resources of a pod's containers are decided: it is created or resized.
    pub fn sizes_pod(&self) -> bool {
        let resizes = self.operation == Operation::Update && self.subresource == Some("resize");
        self.creates_pod() || (resizes && self.is("", "pods"))
    }

    /// A pod is created.
    pub fn creates_pod(&self) -> bool {
        self.operation == Operation::Create && self.subresource.is_none() && self.is("", "pods")
    }

    pub fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(&self.resource.group, &self.resource.plural, self.name, why)
    }
}
