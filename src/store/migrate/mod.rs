//! Data directories of etcd and of Chorus, each made from the other, while no member runs on them.
//!
//! ```text
//!   etcd: member/snap/db ──import──────────────▶ state/      member/wal, from the database's entry on ──tail──▶ wal/
//!   Chorus: state/ + committed entries of wal/ ──to_etcd──▶ member/snap/db, and a new member/wal with the members
//!   Chorus: wal/ ──export_wal──▶ files that etcd's readers of logs take
//! ```
//!
//! Taken over from etcd, a member keeps its place in the log: entries keep their term and index, also those not known
//! to be committed, and the vote stays. So the members of a cluster can be taken over one by one, each from its own
//! directory, and everything that was acknowledged to clients is still on a quorum.
//!
//! On the way back a new log begins, as after `etcdutl snapshot restore`: every directory of a cluster is written from
//! that of one member.
//!
//! - [`source`]: what is in a directory of etcd, or in a snapshot file
//! - [`tail`]: etcd's entries as ours
//! - [`from_etcd`]: the directory of a member
//! - [`take_over`]: the same in place, resumable
//! - [`to_etcd`], [`export_wal`]: the way back
//! - [`error`]: why a migration failed

pub mod error;
mod export_wal;
mod from_etcd;
mod source;
mod tail;
mod take_over;
mod to_etcd;

pub use error::Error;
pub use export_wal::{export_wal, unrolled};
pub use from_etcd::{Imported, NewCluster, from_data_dir, from_snapshot};
pub use take_over::take_over;
pub use to_etcd::{Exported, ToEtcd, to_etcd};
