//! What is gone needs nothing any more. Pure.

use crate::kube::status::Status;

/// What was written, or `None` where the object is gone: then there is nothing left to do.
pub fn ignore_not_found<T>(result: Result<T, Status>) -> Result<Option<T>, Status> {
    match result {
        Err(status) if status.is_not_found() => Ok(None),
        other => other.map(Some),
    }
}
