//! Leases: the replicated table of who holds what, and when each ends.
//!
//! ```text
//!   grant, revoke ──▶ log ──▶ Leases (replicated, without time)
//!                                │ followed
//!   keep-alive ──▶ Lessor of the leader ──▶ Expiry (time, this member only) ──due──▶ revocations into the log
//! ```
//!
//! - [`table`]: the replicated table; pure
//! - [`expiry`]: deadlines; pure
//! - [`lessor`]: the actor

mod expiry;
mod lessor;
mod table;

pub use lessor::{LeasesByExpiry, Lessor, Remaining, Renew, Renewal};
pub use table::Leases;
