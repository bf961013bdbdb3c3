//! Defaulting: what an object that leaves something out is taken to mean. Every read returns it; clients depend on that
//! (some fail on a pod without a `securityContext`). Each function is idempotent.
//!
//! - [`pod`]: pods and pod templates
//! - [`workloads`]: deployments, replica sets, replication controllers
//! - [`service`]: services, endpoints, endpoint slices
//! - [`other`]: namespaces, secrets, limit ranges, role bindings, token requests
//! - [`qos`]: the quality-of-service class of a pod

pub mod other;
pub mod pod;
pub mod qos;
pub mod service;
pub mod workloads;

#[cfg(test)]
mod tests;
