//! Printing: the tables that `kubectl get` shows.
//!
//! ```text
//!   Resource.printer (columns, row) + objects ──render_table──▶ meta.k8s.io/v1 Table
//!   objects ──partial_metadata──▶ meta.k8s.io/v1 PartialObjectMetadata
//! ```
//!
//! - [`table`]: the two projections
//! - [`age`]: durations as people read them
//! - [`words`]: cells that several kinds share
//! - [`pods`], [`workloads`], [`services`], [`nodes`], [`config`], [`events`]: columns and rows of the kinds

pub mod age;
pub mod config;
pub mod events;
pub mod nodes;
pub mod pods;
pub mod services;
pub mod table;
pub mod words;
pub mod workloads;

pub use table::{
    Column, IncludeObjectPolicy, Printer, TableOptions, partial_metadata, partial_metadata_list, render_table,
};

#[cfg(test)]
mod tests;
