//! store: the etcd data model.

pub mod error;
pub mod client;
