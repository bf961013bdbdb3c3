//! etcd's identifiers, as consensus derives them.

pub use crate::raft::identity::{cluster_id, member_id};
