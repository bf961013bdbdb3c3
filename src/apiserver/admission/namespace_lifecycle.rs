//! NamespaceLifecycle: no new objects in a namespace that is missing or terminating; the built-in namespaces cannot be
//! deleted.

use crate::apiserver::storage::Write;
use crate::kube::object::Object;
use crate::kube::status::{Cause, Status};
use crate::world::Revision;

use super::{Admission, AdmissionAttributes, Operation};

/// Namespaces that are created at start and may not be deleted.
pub const PERMANENT: [&str; 3] = ["default", "kube-system", "kube-public"];

impl Admission {
    /// The write holds only if the namespace is still as it was seen here.
    pub(super) async fn validate_namespace(&self, attributes: &AdmissionAttributes<'_>) -> Result<Write, Status> {
        if attributes.operation == Operation::Delete {
            return if attributes.is("", "namespaces") && PERMANENT.contains(&attributes.name) {
                Err(attributes.forbidden("this namespace may not be deleted"))
            } else {
                Ok(Write::default())
            };
        }
        let Some(namespace) = attributes.namespace.filter(|_| attributes.operation == Operation::Create) else {
            return Ok(Write::default());
        };
        let resource = self.core("namespaces");
        let cached = self.view("namespaces", attributes).await?.objects.get(namespace).cloned();
        let (object, revision) = match cached {
            Some(item) => {
                let revision = item.object.meta.resource_version.parse().map(Revision).unwrap_or_default();
                (item.object.clone(), revision)
            }
            None => {
                let stored = self.storage.get(resource, None, namespace).await?;
                (stored.object, stored.revision)
            }
        };
        if is_ending(&object) {
            return Err(ending(attributes, namespace));
        }
        Ok(Write::default().if_revision(&self.storage.key(resource, None, namespace)?, revision))
    }
}

fn is_ending(namespace: &Object) -> bool {
    namespace.meta.deletion_timestamp.is_some()
}

fn ending(attributes: &AdmissionAttributes<'_>, namespace: &str) -> Status {
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = attributes.forbidden(why);
    status.details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating".to_owned(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".to_owned(),
    });
    status
}
