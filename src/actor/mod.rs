//! The actor kit: what every actor needs beside `actix` itself.
//!
//! ```text
//!   caller ──Gate (bounded, answered)──▶ mailbox ──▶ actor ──▶ caller's oneshot, within a deadline
//!                                                     ▲
//!                                  Shutdown ──────────┘ one token for the whole node
//! ```
//!
//! - [`gate`]: admission at the edge; `do_send` is unbounded, so nothing reaches a mailbox without a permit
//! - [`metrics`]: what a component counts, and how it is shown
//! - [`shutdown`]: the orderly end of a node

pub mod gate;
pub mod metrics;
pub mod shutdown;

pub use gate::{Full, Gate, Permit};
pub use shutdown::Shutdown;
