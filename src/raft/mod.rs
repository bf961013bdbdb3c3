//! raft: consensus on one log of command batches.
//!
//! ```text
//!   store ──propose──▶ Proposer ──one entry a batch──▶ openraft ◀──▶ log_store ──▶ disk's write-ahead log
//!     ▲                  │ on a follower                 │  ▲
//!     │                  └──Forward──▶ leader            │  └──network / peer_server──▶ other members
//!     │                                                  ▼
//!     └───────────────── apply ◀──────────────── state_machine (the store's Machine)
//!   store ──read_index──▶ ReadGate ──one confirmation of leadership for many──▶ index, then the local apply
//! ```
//!
//! Only this room names openraft. A batch of commands is packed once by the proposer, and its bytes are the payload
//! of the log entry, of the replication message, and of what the state machine unpacks.
//!
//! - [`handle`]: the public face; [`replica`]: how it starts; [`context`]: what its parts share
//! - [`config`], [`member`], [`leadership`], [`error`]: its words
//! - [`machine`]: what the store implements
//! - [`proposer`]: the actor that takes commands; [`read_gate`]: the way of linearizable reads
//! - [`log_store`], [`state_machine`]: openraft's storage, over `disk` and the machine
//! - [`network`], [`peers`]: calling other members; [`wire`]: the messages
//! - [`peer_listener`]: the peer port; [`peer_server`]: what it answers; [`peer_http`]: plain HTTP on it
//! - [`store_questions`]: questions of one member's store to another's, which do not go through the log
//! - [`snapshot_transfer`]: state for a member that lags too far behind
//! - [`identity`]: IDs as etcd derives them; [`applied_membership`]: who is a member, and who was
//! - [`change`]: what a change of the membership asks for; [`membership`]: making it; [`rules`]: whether it may be made now
//! - [`activity`]: who is reachable
//! - [`force`]: making one member the only one; [`replace`]: having one replaced that does not run
//! - [`cluster_space`]: which members are short of disk space, and what follows
//! - [`housekeeping`]: the tasks that follow leadership and membership; [`membership_view`]: its role, who is reachable
//! - [`offline`]: the log of a member that does not run
//! - [`metrics`]: what it counts; [`exposition`]: what it shows
//! - [`types`], [`runtime`], [`encoding`]: how openraft is instantiated, and how its records look as bytes

mod activity;
mod applied_membership;
mod change;
mod cluster_space;
mod config;
mod context;
mod encoding;
mod error;
mod exposition;
mod force;
mod handle;
mod housekeeping;
pub mod identity;
mod leadership;
mod log_store;
pub mod machine;
mod member;
mod membership;
mod membership_view;
mod metrics;
mod network;
pub mod offline;
mod peer_http;
mod peer_listener;
mod peer_server;
mod peers;
mod proposer;
mod read_gate;
mod replace;
mod replica;
mod rules;
mod runtime;
mod snapshot_transfer;
mod state_machine;
mod store_questions;
mod types;
mod wire;

#[cfg(test)]
pub(crate) mod tests;

pub use applied_membership::{record_members, recorded_members};
pub use change::Rules;
pub use config::{Bootstrap, ClusterId, Config, Limits, Security, Timings};
pub use error::{Error, Refused};
pub use handle::{Handle, Status};
pub use leadership::Leadership;
pub use member::Member;
pub use peer_http::PeerHttp;
pub use replace::replace;
pub use replica::Replica;
pub use store_questions::Answerer;
