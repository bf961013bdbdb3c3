//! What can go wrong in this room.

use std::io;

use crate::kube::status::Status;
use crate::world::tls;

/// A failure of the agent or of its container engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine did not answer, so whether the call took effect is unknown: look at the engine again, then decide.
    #[error("the container engine does not answer: {0}")]
    Unreachable(String),

    /// The container, sandbox or image is not there (any more): look at the engine again, then decide.
    #[error("{0} does not exist")]
    NotFound(String),

    /// The engine refused, and nothing happened: surface the message, try again after a backoff.
    #[error("{0}")]
    Refused(String),

    /// A command inside a container took longer than it may; it may run on. Surface it, as a command that failed.
    #[error("the command took longer than {0:?}")]
    TimedOut(std::time::Duration),

    /// No engine answers at start, and the configuration insists on one: report it to the operator, stop.
    #[error("no Docker engine answers ({0}); start one, or choose the runtime `hollow`")]
    NoEngine(String),

    /// The agent cannot listen on the address for logs: report it to the operator, stop.
    #[error("the agent cannot listen on {address}: {source}")]
    Listen { address: String, source: io::Error },

    /// The certificates cannot be used: report it to the operator, stop.
    #[error("the agent's certificates: {0}")]
    Tls(#[from] tls::Error),

    /// The data directory cannot be read or written. At start: stop. Later: try again after a backoff.
    #[error("{0}")]
    Disk(#[from] io::Error),

    /// The notebook cannot be opened or written: as [`Error::Disk`].
    #[error("the agent's notebook: {0}")]
    Notebook(String),

    /// The API refused or does not answer: try again after a backoff.
    #[error("{0}")]
    Api(#[from] Status),

    /// The pod asks for something that is wrong or not there yet; the message names the field or object. Surface it as
    /// the container's state and try again, since the missing object may appear.
    #[error("{0}")]
    Config(String),
}
