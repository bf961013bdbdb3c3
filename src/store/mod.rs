//! store: the etcd data model.

mod checkpoint;
mod checks;
pub mod client;
mod command;
mod compaction;
mod compactor;
mod config;
pub mod error;
mod feed;
mod files;
mod journal;
mod leader_leases;
mod leadership;
mod lease;
mod ledger;
mod local;
mod mvcc;
mod open;
mod proposals;
mod range;
mod reclaim;
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

#[cfg(test)]
mod tests;
