//! The identity of a member: kept in its data directory, once it has one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::raft;
use crate::world::disk::Access;
use crate::world::{Disk, NodeId};

/// The file that keeps it.
const IDENTITY: &str = "identity.json";

/// Why it is not known which member a data directory belongs to. Surface it.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Restore the file, or replace this member by a new one.
    #[error("{path} does not tell which member this is: {message}")]
    Unreadable { path: PathBuf, message: String },
}

/// Which member of which cluster a data directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub node: NodeId,
    #[serde(rename = "cluster")]
    cluster_id: u64,
    /// Of both. Earlier releases wrote none.
    #[serde(default)]
    crc: Option<u32>,
}

impl Identity {
    pub fn cluster(&self) -> raft::ClusterId {
        raft::ClusterId(self.cluster_id)
    }

    /// What a member keeps in its data directory.
    pub(super) const FILES_OF_A_MEMBER: [&str; 3] = ["wal", "state", IDENTITY];

    /// Whether a member has started in `data_dir`.
    pub fn is_kept(disk: &Disk, data_dir: &Path) -> bool {
        disk.exists(&data_dir.join(IDENTITY))
    }

    /// The identity that `data_dir` keeps; nothing when no member has started there.
    pub fn read(disk: &Disk, data_dir: &Path) -> Result<Option<Identity>, IdentityError> {
        let path = data_dir.join(IDENTITY);
        if !disk.exists(&path) {
            return Ok(None);
        }
        let kept: Result<Identity, _> = serde_json::from_slice(&disk.read(&path)?);
        match kept {
            Ok(kept) if kept.crc.is_none_or(|crc| Some(crc) == Identity::new(kept.node, kept.cluster()).crc) => {
                Ok(Some(kept))
            }
            Ok(_) => Err(IdentityError::Unreadable { path, message: "the checksum does not match".to_owned() }),
            Err(error) => Err(IdentityError::Unreadable { path, message: error.to_string() }),
        }
    }

    pub fn new(node: NodeId, cluster: raft::ClusterId) -> Identity {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&node.0.to_le_bytes()), &cluster.0.to_le_bytes());
        Identity { node, cluster_id: cluster.0, crc: Some(crc) }
    }

    /// The name and the content of the file that keeps it.
    pub fn file(&self) -> (String, Vec<u8>) {
        (IDENTITY.to_owned(), serde_json::to_vec(self).expect("two numbers are JSON"))
    }

    pub(super) fn keep(&self, disk: &Disk, data_dir: &Path) -> std::io::Result<()> {
        let (name, content) = self.file();
        disk.replace(&data_dir.join(name), &content, Access::Owner)
    }
}
