//! NamespaceLifecycle: nothing new in a namespace that is missing or ending, and the built-in namespaces stay.

use crate::apiserver::storage::Write;
use crate::kube::object::Object;
use crate::kube::status::{Cause, Status};
use crate::world::Revision;

use super::{Admission, Attempt, Operation};

/// Namespaces that are created at start and may not be deleted.
pub const PERMANENT: [&str; 3] = ["default", "kube-system", "kube-public"];

impl Admission {
    /// The namespace must be as it was seen here when the write happens.
    pub(super) async fn review_namespace(&self, attempt: &Attempt<'_>) -> Result<Write, Status> {
        if attempt.operation == Operation::Delete {
            return if attempt.is("", "namespaces") && PERMANENT.contains(&attempt.name) {
                Err(attempt.forbidden("this namespace may not be deleted"))
            } else {
                Ok(Write::default())
            };
        }
        let Some(namespace) = attempt.namespace.filter(|_| attempt.operation == Operation::Create) else {
            return Ok(Write::default());
        };
        let resource = self.core("namespaces");
        let cached = self.view("namespaces", attempt).await?.objects.get(namespace).cloned();
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
            return Err(ending(attempt, namespace));
        }
        Ok(Write::default().if_revision(&self.storage.key(resource, None, namespace)?, revision))
    }
}

fn is_ending(namespace: &Object) -> bool {
    namespace.meta.deletion_timestamp.is_some()
}

fn ending(attempt: &Attempt<'_>, namespace: &str) -> Status {
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = attempt.forbidden(why);
    status.details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating".to_owned(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".to_owned(),
    });
    status
}
