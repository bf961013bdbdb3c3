//! A data directory of ours from one of etcd, or from a snapshot file.

use std::path::Path;

use super::Error;
use super::source::{Source, check_snapshot};
use super::tail::Members;
use crate::disk::Position;
use crate::raft::offline::{self, HardState};
use crate::raft::{ClusterId, Member, record_members};
use crate::store::database::import::Database;
use crate::world::disk::Access;
use crate::world::{NodeId, World};

/// What was brought in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub node: NodeId,
    pub cluster: ClusterId,
    /// Of the state; entries of the log that come after it are applied when the member starts.
    pub revision: i64,
    pub compacted: i64,
    pub leases: usize,
    pub members: usize,
    /// Entries of the log after the state.
    pub entries: usize,
}

/// Who a member that starts from a snapshot is, and with whom it makes a new cluster.
#[derive(Clone, Debug)]
pub struct NewCluster {
    pub node: NodeId,
    pub cluster: ClusterId,
    pub members: Vec<Member>,
}

/// Writes into `to`, which holds no member yet, what the directory of a stopped member of etcd holds.
pub async fn from_data_dir(world: &World, from: &Path, wal_dir: Option<&Path>, to: &Path) -> Result<Imported, Error> {
    let source = Source::open(world, from, wal_dir)?;
    let applied = source.applied();
    let state = source.log.state;
    let metadata = source.log.metadata;
    // The members of a database without a place in the log are those that its entries tell once more.
    let first = if applied.is_some() { &source.origin.members[..] } else { &[] };
    let membership = record_members(first, &source.origin.removed);
    let mut members = Members::new(first);
    let unfit = |reason: String| Error::unfit(from.join("member/wal"), reason);
    let entries = source.log.entries.iter().filter(|entry| entry.index > source.origin.index);
    let entries = entries.map(|entry| members.convert(entry)).collect::<Result<Vec<_>, String>>().map_err(unfit)?;
    let next = source.origin.index + 1;
    if let Some((first, _)) = entries.first().filter(|(first, _)| first.index != next) {
        return Err(unfit(format!("the log goes on with entry {}, the database ends before {next}", first.index)));
    }
    if first.is_empty() && entries.is_empty() {
        return Err(Error::unfit(from, "it names no members"));
    }
    let known = entries.iter().map(|(at, _)| *at).take_while(|at| at.index <= state.commit).last();
    world.disk.create_dir_all(to, Access::Owner)?;
    let database = Database::open(world, &source.database)?;
    let imported = database.import(world, to, applied.map(|at| (at, membership)))?;
    let count = entries.len();
    let hard_state = HardState {
        term: state.term.max(applied.map_or(0, |at| at.term)),
        vote: NodeId(if state.vote == 0 { metadata.node } else { state.vote }),
        applied,
        committed: known.or(applied),
    };
    offline::write(world, to, hard_state, entries).await?;
    world.disk.sync_dir(to)?;
    Ok(Imported {
        node: NodeId(metadata.node),
        cluster: ClusterId(metadata.cluster),
        revision: imported.index.revision,
        compacted: imported.index.compacted,
        leases: imported.leases.iter().count(),
        members: members.to_vec().len(),
        entries: count,
    })
}

/// Writes into `to` a member of a new cluster that begins with what a snapshot holds. Every member of it is made from
/// the same file.
pub async fn from_snapshot(
    world: &World,
    snapshot: &Path,
    skip_hash_check: bool,
    to: &Path,
    cluster: NewCluster,
) -> Result<Imported, Error> {
    check_snapshot(world, snapshot, skip_hash_check)?;
    if cluster.members.iter().all(|member| member.learner) {
        return Err(Error::unfit(snapshot, "the new cluster names no voting member"));
    }
    let database = Database::open(world, snapshot)?;
    let origin = database.origin()?;
    let applied = Position { term: origin.term.unwrap_or(1), index: origin.index.max(1) };
    let membership = record_members(&cluster.members, &[]);
    world.disk.create_dir_all(to, Access::Owner)?;
    let imported = database.import(world, to, Some((applied, membership)))?;
    let vote = cluster.members.iter().map(|member| member.id).min().unwrap_or(cluster.node);
    let hard_state = HardState { term: applied.term, vote, applied: Some(applied), committed: Some(applied) };
    offline::write(world, to, hard_state, Vec::new()).await?;
    world.disk.sync_dir(to)?;
    Ok(Imported {
        node: cluster.node,
        cluster: cluster.cluster,
        revision: imported.index.revision,
        compacted: imported.index.compacted,
        leases: imported.leases.iter().count(),
        members: cluster.members.len(),
        entries: 0,
    })
}
