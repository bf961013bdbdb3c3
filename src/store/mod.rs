//! store: the etcd data model.

mod checkpoint;
mod checks;
pub mod client;
mod command;
mod config;
pub mod error;
mod feed;
mod files;
mod journal;
mod leadership;
mod leases;
mod ledger;
mod local;
mod mvcc;
mod open;
mod proposals;
mod range;
mod remote;
mod state;
mod state_machine;
mod view;
mod waiting;
mod watch;

pub use config::{AutoCompaction, Config, Limits};
pub use error::Error;
pub use local::Local;
pub use open::{OpenError, Opened, Store};
pub use remote::{BadEndpoint, Remote, RemoteConfig};
pub use state_machine::StateMachine;
