//! raft: consensus on one log of command batches.

pub mod machine;
