//! Fault injection for Chorus, and for any other etcd.
//!
//! ```text
//!   run ──▶ cluster (namespaces, images, processes) ◀── nemesis: one fault after the other, then heals
//!    │                    ▲
//!    └──▶ workload ──clients── operations ──▶ history ──▶ checkers ──▶ verdict, report
//! ```
//!
//! - [`run`]: one run from start to verdict; [`cluster`]: what is tested
//! - [`workload`]: what clients do, and which checkers judge it; [`client`]: the two clients
//! - [`nemesis`]: what goes wrong
//! - [`history`]: what was seen; [`checker`]: pure functions from there to a verdict
//! - [`report`]: one page a run; [`campaign`]: one question, asked again and again

// Whoever reads a stream may leave, and then these panic: print through `chorus_terminal`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod campaign;
pub mod checker;
pub mod client;
pub mod cluster;
pub mod history;
pub mod nemesis;
pub mod report;
pub mod run;
pub mod workload;
