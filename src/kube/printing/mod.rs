//! Printing: the tables that `kubectl get` shows.
//!
//! ```text
//!   Resource.printer (columns, row) + objects ──Table::render──▶ meta.k8s.io/v1 Table
//!   objects ──partial_metadata──▶ meta.k8s.io/v1 PartialObjectMetadata
//! ```
//!
//! - [`table`]: the two projections
//! - [`age`]: durations as people read them

pub mod age;
pub mod table;

pub use table::{Column, Include, Printer, Table, TableOptions, partial_metadata, partial_metadata_list};
