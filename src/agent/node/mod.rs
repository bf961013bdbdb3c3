//! The node as the API sees it.
//!
//! - [`capacity`]: what the machine has, and how agents divide it
//! - [`object`]: the Node object and its Lease; pure
//! - [`heartbeat`]: the actor that registers the node and keeps it alive

pub mod capacity;
pub mod heartbeat;
pub mod object;
