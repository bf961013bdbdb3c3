//! store: the etcd data model.

pub mod client;
mod config;
pub mod error;
mod local;
mod open;
mod state_machine;

pub use config::{AutoCompaction, Config, Limits};
pub use error::Error;
pub use local::Local;
pub use open::{OpenError, Opened, Store};
pub use state_machine::StateMachine;
