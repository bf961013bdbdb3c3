//! The keys and their history: pure, but for reading records.
//!
//! ```text
//!   command ──▶ txn: path, checks ──▶ write: changes under one revision ──▶ index + pending records
//!   reader  ──▶ read ──▶ index (a copy that never changes) ──slot──▶ values ──▶ data segments
//! ```
//!
//! - [`index`]: keys, changes, and where their records lie
//! - `key`: keys and revisions
//! - [`counts`]: how many keys lie in a range
//! - [`read`]: Range
//! - [`write`]: one transaction's changes
//! - [`txn`]: compares, checks before the first change, operations
//! - [`compact`]: the floor and the sweep behind it
//! - [`hash`]: HashKV
//! - [`values`]: where records are read from

pub mod compact;
pub mod counts;
pub mod hash;
pub mod index;
mod key;
pub mod read;
pub mod txn;
pub mod values;
pub mod write;

pub use index::{Back, Change, Index, Key, Rev, Slot};
pub use values::{Fault, Values};
pub use write::Transaction;
