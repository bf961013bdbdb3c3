//! Leases: the replicated table of leases and their keys, and when each lease ends.
//!
//! ```text
//!   grant, revoke, checkpoint ──▶ log ──▶ Leases (replicated)
//!                                           │ followed
//!   keep-alive ──▶ Lessor of the leader ──▶ Expiry (this member's clock) ──due──▶ revocations, checkpoints ──▶ log
//! ```
//!
//! - [`table`]: the replicated table; pure
//! - [`time`]: the time by which leases end, as the log has it; pure
//! - [`expiry`]: deadlines; pure
//! - [`lessor`]: the actor

mod expiry;
mod lessor;
mod table;
mod time;

pub use expiry::{RecordId, Renewal};
pub use lessor::{LeasesByExpiry, Lessor, Remaining, Renew};
pub use table::Leases;
