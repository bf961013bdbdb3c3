//! Validation: the rules that an object must meet, reported field by field in the words that clients know. The table of
//! resources says which rules a kind has; decoding has already checked types and unknown fields.
//!
//! - [`field`]: errors and the places they name
//! - [`metadata`]: names, labels, annotations, owners, finalizers of every kind
//! - [`common`]: rules that several kinds share
//! - [`pod`], [`containers`], [`volumes`]: pods and templates; [`pod_update`]: what of a pod may still change
//! - [`workloads`], [`services`], [`config`], [`quota`], [`rbac`], [`other`]: the other kinds

pub mod common;
pub mod config;
mod containers;
pub mod field;
pub mod metadata;
pub mod other;
pub mod pod;
pub mod pod_update;
pub mod quota;
pub mod rbac;
pub mod services;
mod volumes;
pub mod workloads;

pub use field::{FieldError, FieldErrors, Path};

#[cfg(test)]
mod tests;
