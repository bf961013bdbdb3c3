//! The engine's errors as those of the room.

use bollard::container::LogOutput;

use crate::agent::error::Error;

/// How the head of a frame of the engine's own messages begins, and the length of a head.
const SYSTEM_ERROR: &[u8] = b"\x03\0\0\0";
const FRAME_HEAD_BYTES: usize = 8;

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

/// The output of a container, or the error that the engine writes among it when it cannot read a log. The client does
/// not know frames of such errors: it takes them for text of a terminal, head included.
pub(super) fn unless_system_error(output: LogOutput) -> Result<LogOutput, bollard::errors::Error> {
    match &output {
        LogOutput::Console { message } if message.starts_with(SYSTEM_ERROR) => {
            let text = message.get(FRAME_HEAD_BYTES..).unwrap_or_default();
            let error = String::from_utf8_lossy(text).trim_end().to_owned();
            Err(bollard::errors::Error::DockerStreamError { error })
        }
        _ => Ok(output),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn an_error_of_the_engine_is_no_output() {
        let error = |message: &'static [u8]| {
            let output = LogOutput::Console { message: Bytes::from_static(message) };
            unless_system_error(output).err().map(|error| failed(error).to_string())
        };
        assert_eq!(error(b"\x03\0\0\0\0\0\0\x10Error: no file.\n").as_deref(), Some("Error: no file."));
        // The client cuts at the first newline, which may stand in the length.
        assert_eq!(error(b"\x03\0\0\0\0\0\n").as_deref(), Some(""));
        assert_eq!(error(b"text of a terminal\n"), None);
        let output = LogOutput::StdOut { message: Bytes::from_static(b"\x03\0\0\0\n") };
        assert!(unless_system_error(output).is_ok());
    }
}
