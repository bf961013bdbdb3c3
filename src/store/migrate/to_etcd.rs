//! A data directory of etcd from one of ours.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::Error;
use crate::disk::etcd_wal::record::{ConfChangeKind, EntryKind};
use crate::disk::etcd_wal::{ConfChange, ConfState, Entry, FILE_BYTES, HardState, Metadata, Snapshot, Writer};
use crate::disk::{self, Position, bbolt};
use crate::raft::machine::Machine;
use crate::raft::{ClusterId, Member, offline, recorded_members};
use crate::store::database::export::{self, Facts};
use crate::store::database::keys::{self, MemberRow};
use crate::store::mvcc::Fault;
use crate::store::{Config, StateMachine, Store};
use crate::world::disk::Access;
use crate::world::{NodeId, World};

/// What to write.
#[derive(Clone, Debug)]
pub struct ToEtcd {
    /// The member whose directory is read.
    pub node: NodeId,
    pub cluster: ClusterId,
    /// The member, by name or ID in hexadecimal, that the directory is for; the one that is read, if none is named.
    pub member: Option<String>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    pub member: Member,
    pub revision: i64,
    pub compacted: i64,
    pub hash: u32,
    pub members: usize,
}

/// Writes into `to`, which does not exist, what the directory of a stopped member holds. Committed entries that the
/// state lacks are applied first, as when the member starts.
pub async fn to_etcd(world: &World, from: &Path, to: &Path, wanted: &ToEtcd) -> Result<Exported, Error> {
    if world.disk.exists(to) {
        return Err(Error::Exists(to.to_owned()));
    }
    let config = Config::new(from.to_owned(), wanted.node, wanted.cluster);
    let (mut machine, _) = Store::open(world, config)?;
    let entries = offline::committed_after(world, from, &machine.applied()).await?;
    machine.apply(entries)?;
    let partial = beside(to);
    if world.disk.exists(&partial) {
        world.disk.remove_dir_all(&partial)?;
    }
    let exported = write(world, &machine, from, &partial, wanted)?;
    world.disk.rename(&partial, to)?;
    world.disk.sync_dir(to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    Ok(exported)
}

fn beside(to: &Path) -> PathBuf {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    to.with_file_name(format!(".{name}.partial"))
}

fn write(world: &World, machine: &StateMachine, from: &Path, to: &Path, wanted: &ToEtcd) -> Result<Exported, Error> {
    let view = machine.member.ledger().view();
    let membership = view.state.membership.as_ref().ok_or_else(|| Error::unfit(from, "it holds no membership yet"))?;
    let (members, removed) = recorded_members(&membership.1)?;
    let member = choose(&members, wanted).ok_or_else(|| {
        Error::unfit(from, format!("there is no member {:?}", wanted.member.as_deref().unwrap_or("of this directory")))
    })?;
    let applied = Position { term: 1, index: members.len() as u64 };
    let snap_dir = to.join("member/snap");
    world.disk.create_dir_all(&snap_dir, Access::Owner)?;
    let facts = Facts { applied, members: members.clone(), removed, versions: false };
    let mut database = bbolt::Writer::create(&world.disk, &snap_dir.join("db"), applied.index)?;
    export::write(&view.state, &view.segments, &facts, &mut database).map_err(fault)?;
    database.finish()?;
    world.disk.sync_dir(&snap_dir)?;
    let metadata = Metadata { node: member.id.0, cluster: wanted.cluster.0 };
    write_log(world, &to.join("member/wal"), metadata, &members)?;
    world.disk.sync_dir(&to.join("member"))?;
    world.disk.sync_dir(to)?;
    let hash = view.hash_kv(0).map_err(fault)?.hash;
    let index = &view.state.index;
    Ok(Exported { member, revision: index.revision, compacted: index.compacted, hash, members: members.len() })
}

fn fault(fault: Fault) -> Error {
    match fault {
        Fault::Disk(error) => error.into(),
        other => disk::Error::Io(std::io::Error::other(other)).into(),
    }
}

fn choose(members: &[Member], wanted: &ToEtcd) -> Option<Member> {
    let fits = |member: &&Member| match &wanted.member {
        None => member.id == wanted.node,
        Some(asked) => member.name == *asked || keys::member_key(member.id) == asked.as_bytes(),
    };
    members.iter().find(fits).cloned()
}

/// Writes a log with the members only, all in its first term: everything else is in the database.
fn write_log(world: &World, directory: &Path, metadata: Metadata, members: &[Member]) -> Result<(), Error> {
    let mut log = Writer::create(&world.disk, directory, metadata, FILE_BYTES)?;
    for (member, index) in members.iter().zip(1..) {
        log.entry(&conf_change(member, index));
    }
    let commit = members.len() as u64;
    log.state(HardState { term: 1, vote: metadata.node, commit });
    let state = keys::ConfState::of(members);
    let conf_state = ConfState { voters: state.voters, learners: state.learners, ..ConfState::default() };
    log.snapshot(&Snapshot { index: commit, term: 1, conf_state: Some(conf_state) });
    Ok(log.sync()?)
}

fn conf_change(member: &Member, index: u64) -> Entry {
    let kind = if member.learner { ConfChangeKind::AddLearnerNode } else { ConfChangeKind::AddNode };
    let context = Some(Bytes::from(keys::json(&MemberRow::from(member))));
    let change = ConfChange { id: 0, kind: kind as i32, node: member.id.0, context };
    Entry { kind: EntryKind::ConfChange as i32, term: 1, index, data: Some(change.encode_to_vec().into()) }
}
