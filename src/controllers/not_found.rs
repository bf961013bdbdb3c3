//! Writes to objects that are gone. Pure.

use crate::kube::status::Status;

/// What was written, or `None` if the object is gone, which is no error.
pub fn ignore_not_found<T>(result: Result<T, Status>) -> Result<Option<T>, Status> {
    match result {
        Err(status) if status.is_not_found() => Ok(None),
        other => other.map(Some),
    }
}
