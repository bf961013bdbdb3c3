//! raft: consensus on one log of command batches.

mod config;
mod error;
mod handle;
pub mod machine;
mod member;

pub use config::{Bootstrap, ClusterId, Config, Limits, Timings};
pub use error::{Error, Refused};
pub use handle::{Handle, Leadership, Replica, Status};
pub use member::Member;
