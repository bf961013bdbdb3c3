//! cli

pub mod bench;
pub mod kv;
