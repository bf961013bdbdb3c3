//! bbolt files, the format of etcd's `db` and of its snapshots: read with every bound checked, and written in one go
//! from sorted keys.
//!
//! ```text
//!   page 0, 1   meta: page size, root, free list, pages in use, checksum; the one with the higher transaction counts
//!   page n      branch: key ▶ page, ...    leaf: key ▶ value, ...    free list
//!   root leaf   bucket name ▶ root page of the bucket (or the whole bucket, where it is small)
//! ```
//!
//! All numbers are little-endian. Only the metas carry a checksum; of the other pages all that can be checked is
//! whether they make a tree in order, and the [`Reader`] checks that.
//!
//! - [`page`]: the layout, pure
//! - [`reader`]: one bucket after the other, in order of the keys
//! - [`writer`]: sorted keys as a stream, in memory no more than a page for each level of the tree

mod page;
mod reader;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

#[cfg(test)]
mod tests;
