//! The actor kit: what every actor needs beside `actix` itself.
//!
//! ```text
//!   caller ──Gate (bounded, answered)──▶ mailbox ──▶ actor ──▶ caller's oneshot, within a deadline
//!                                                     ▲
//!                                  Shutdown ──────────┘ one token for the whole node
//! ```
//!
//! - [`budget`]: the same in bytes, of what clients make this process hold
//! - [`connections`]: what is shown of the connections to a member
//! - [`gate`]: admission at the edge; `do_send` is unbounded, so nothing reaches a mailbox without a permit
//! - [`metrics`]: what a component counts, and how it is shown
//! - [`shutdown`]: the orderly end of a node
//! - [`supervisor`]: components that are restarted when they panic, and what ends the process instead

pub mod budget;
pub mod connections;
pub mod gate;
pub mod metrics;
pub mod shutdown;
pub mod supervisor;

pub use budget::{Budget, Share};
pub use gate::{Full, Gate, Permit};
pub use shutdown::Shutdown;
pub use supervisor::Supervisor;
