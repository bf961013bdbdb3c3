//! store: the etcd data model, replicated: keys with their history, transactions, watches, leases, alarms.
//!
//! ```text
//!   frontend ──Client──▶ Local ──checks──▶ Proposals ──▶ raft ──▶ StateMachine ──▶ Ledger ──▶ data segments
//!                          │                                        │  │  │
//!                          │ ◀──────────── answers ── Waiting ◀─────┘  │  └─events▶ WatchHub ──▶ watch streams
//!                          └──read barrier──▶ View ◀──published────────┘
//!   Lessor (expired leases) and Compactor (schedule) propose as clients do
//! ```
//!
//! Applying is a pure function of the state and the entry; its changes are written before they can be read. Readers
//! hold an immutable view and wait for nothing.
//!
//! The way in:
//! - [`client`]: one interface, two transports
//! - `rpcs`: the table of all RPCs
//! - `local`, `remote`: this member's store; client URLs of any etcd
//! - [`auth`]: users, roles, tokens; the gate for everything that clients ask
//! - [`records`]: large answers, read as they are sent; `held`: what such an answer holds, and how long
//! - [`metrics`]: what it counts, under etcd's names; `bounds`: metrics of clients that reach a bound
//! - `weight`: how much memory events take
//! - [`error`]: what can go wrong, with etcd's texts and codes
//! - `config`, `open`: how a store is opened and started; `open_error`: why it can't be
//! - [`version`]: which etcd it claims to be
//!
//! The pure core:
//! - `checks`: checks of requests that need no state; `range`: ranges of keys
//! - `mvcc`: keys and their history; `state`: everything replicated; `command`: applying one command
//! - `auto_compaction`: when the leader compacts by itself
//!
//! The state on disk:
//! - `state_machine`: what the replica drives; `member_state`: what it changes and everything else sees
//! - `ledger`: the state and its files; `view`: what readers hold
//! - `journal`: frames; `checkpoint`: the index as a file; `files`: their paths; `generation`: which files are in force
//! - `reclaim`: giving back space
//! - `usage`: how much is stored; `compactor`: the actor that does the background work on the files
//!
//! The state in etcd's own format:
//! - `database`: the file that etcd keeps, written for `Snapshot` and read where a member comes from etcd
//! - `mirror`: a copy of the log in etcd's format, for tools
//! - [`migrate`]: data directories of etcd from ours, and ours from etcd's
//!
//! Waiting and watching:
//! - `cluster_version`: the version that the members agree on, and downgrades; `version_monitor`: keeps it up to date
//! - `proposals`, `waiting`: writes on their way; `leadership`: when the present leader was elected
//! - `quota`: how large the store may grow; `nospace_alarm`: when it would grow larger
//! - `event_feed`, `watch`: from the state machine to watchers
//! - `corruption`: comparing what the members hold
//! - `lease`, `leader_leases`: leases, whose deadlines only the leader knows; `questions`: between the stores of
//!   members

pub mod auth;
mod auto_compaction;
mod bounds;
mod checkpoint;
mod checks;
pub mod client;
mod cluster_version;
mod command;
mod compactor;
mod config;
mod corruption;
mod database;
pub mod error;
mod event_feed;
mod files;
mod generation;
mod held;
mod journal;
mod leader_leases;
mod leadership;
mod lease;
mod ledger;
mod local;
mod member_state;
pub mod metrics;
pub mod migrate;
mod mirror;
mod mvcc;
mod nospace_alarm;
mod open;
mod open_error;
mod proposals;
mod questions;
mod quota;
mod range;
mod reclaim;
pub mod records;
mod remote;
pub(crate) mod rpcs;
mod state;
mod state_machine;
mod usage;
pub mod version;
mod version_monitor;
mod view;
mod waiting;
mod watch;
mod weight;

pub use config::{AutoCompaction, Config, CorruptionChecks, DataFiles, Limits};
pub use corruption::Inconsistent;
pub use error::Error;
pub use local::Local;
pub use mirror::mirror;
pub use open::{Opened, Store};
pub use open_error::OpenError;
pub use remote::{BadEndpoint, Remote, RemoteConfig};
pub use state_machine::StateMachine;

#[cfg(test)]
mod tests;
