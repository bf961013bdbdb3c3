//! store: the etcd data model.

mod checks;
pub mod client;
mod config;
pub mod error;
mod local;
mod open;
mod range;
mod remote;
mod state_machine;

pub use config::{AutoCompaction, Config, Limits};
pub use error::Error;
pub use local::Local;
pub use open::{OpenError, Opened, Store};
pub use remote::{BadEndpoint, Remote, RemoteConfig};
pub use state_machine::StateMachine;
