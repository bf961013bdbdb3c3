//! The keys and their history: pure, but for reading records.
//!
//! ```text
//!   command ──▶ txn: path, checks ──▶ write: changes under one revision ──▶ index + pending records
//!   reader  ──▶ read ──▶ index (a copy that never changes) ──slot──▶ values ──▶ data segments
//! ```
//!
//! - [`index`]: keys, changes, and where their records lie
//! - [`read`]: Range
//! - [`write`]: one transaction's changes
//! - [`txn`]: compares, checks before the first change, operations
//! - [`compact`]: the floor and the sweep behind it
//! - [`hash`]: HashKV
//! - [`values`]: where records are read from

pub mod compact;
pub mod hash;
pub mod index;
pub mod read;
pub mod txn;
pub mod values;
pub mod write;

pub use index::{Change, Index, Key, Rev, Slot};
pub use values::{Fault, Values};
pub use write::Transaction;
