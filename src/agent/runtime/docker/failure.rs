//! The engine's errors as those of the room.

use crate::agent::error::Error;

/// The room's error for an engine's.
pub(super) fn failed(error: bollard::errors::Error) -> Error {
    use bollard::errors::Error as Engine;
    match error {
        Engine::DockerResponseServerError { status_code: 404, message } => Error::NotFound(message),
        Engine::DockerResponseServerError { message, .. } => Error::Refused(message),
        Engine::DockerStreamError { error } => Error::Refused(error),
        other => Error::Unreachable(other.to_string()),
    }
}

/// Ignores an error that only says that the container is in the desired state already.
pub(super) fn unless_gone(result: Result<(), bollard::errors::Error>) -> Result<(), Error> {
    use bollard::errors::Error as Engine;
    match result {
        // 304 and 409: it does not run, or is being removed.
        Err(Engine::DockerResponseServerError { status_code: 304 | 404 | 409, .. }) => Ok(()),
        other => other.map_err(failed),
    }
}
