//! etcd's own database file: the buckets in which etcd keeps what a [`State`](super::state::State) holds.
//!
//! ```text
//!   Snapshot ──▶ stream ──view, pinned segments──▶ export ──▶ bbolt file ──chunks, SHA-256──▶ client
//!   bbolt file ──▶ import ──▶ data segments, checkpoint
//! ```
//!
//! | bucket | keys and values |
//! |---|---|
//! | `key` | revision (`t` behind it for a deletion) ▶ `mvccpb.KeyValue` |
//! | `meta` | applied index and term, voters, compaction, storage version |
//! | `lease` | ID ▶ `leasepb.Lease` |
//! | `alarm` | `AlarmMember` ▶ nothing |
//! | `cluster` | cluster version, downgrade |
//! | `members`, `members_removed` | ID in hexadecimal ▶ member as JSON; `removed` |
//! | `auth`, `authUsers`, `authRoles` | whether enabled, revision; name ▶ `authpb.User`, `authpb.Role` |
//!
//! - [`keys`]: keys and values of the buckets, both ways
//! - [`export`]: a view as a file
//! - [`import`]: a file as a state with its files
//! - [`stream`]: the answers of `Snapshot`

pub mod export;
pub mod import;
pub mod keys;
mod stream;

pub use stream::stream;

#[cfg(test)]
mod tests;
