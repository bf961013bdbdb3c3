//! One member of the store as a process of its own, configured as etcd is.
//!
//! ```text
//!   flags, variables, file ─(cli)─▶ Options ─check─▶ plan ─▶ Member
//! ```
//!
//! - [`options`]: every option with its default; [`names`]: what names they go by; [`file`]: options in a file
//! - [`values`], [`urls`], [`features`]: what options can be
//! - [`check`]: what must hold of them together
//! - [`plan`]: what they mean for a member
//! - [`existing`], [`discovery`]: which cluster a new member belongs to
//! - [`tls`]: what they say of TLS
//! - [`migrate`]: data directories of etcd
//! - [`gateway`]: TCP connections passed on to members
//! - [`run`]: a running process's server, started and ended in order

pub mod check;
pub mod discovery;
pub mod existing;
pub mod features;
pub mod file;
pub mod gateway;
pub mod migrate;
pub mod names;
pub mod options;
pub mod plan;
pub mod run;
pub mod tls;
pub mod urls;
pub mod values;

pub use names::Name;
pub use options::{ACCEPTED, FLAGS, Flag, Options};
pub use run::{Server, ServerError};
