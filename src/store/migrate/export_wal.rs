//! Our log in the files of etcd's, for etcd's own readers of logs.
//!
//! One of our entries may hold many commands, one of etcd's holds one: the entries get new numbers, from 1 and without
//! gaps. Commands of clients are there as they were proposed. Entries that only we have (a membership, a leader's first
//! entry, records of when leases end) are empty entries.

use std::path::Path;

use bytes::Bytes;
use chorus_proto::etcdserverpb::InternalRaftRequest;
use prost::Message;

use super::{Error, ToEtcd};
use crate::disk::etcd_wal::record::EntryKind;
use crate::disk::etcd_wal::{Entry, FILE_BYTES, HardState, Metadata, Writer};
use crate::raft::offline::{self, Content};
use crate::world::World;

/// Records that are gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// Writes the entries that the log of a stopped member still holds into `to`, which does not exist, and says how many
/// there are.
pub async fn export_wal(world: &World, from: &Path, to: &Path, wanted: &ToEtcd) -> Result<u64, Error> {
    if world.disk.exists(to) {
        return Err(Error::Exists(to.to_owned()));
    }
    let (entries, (term, vote)) = offline::read(world, from, 0).await?;
    let metadata = Metadata { node: wanted.node.0, cluster: wanted.cluster.0 };
    let mut log = Writer::create(&world.disk, to, metadata, FILE_BYTES)?;
    let (mut index, mut commit) = (0, 0);
    for (at, content, is_committed) in entries {
        for data in unrolled(content) {
            index += 1;
            log.entry(&entry(at.term, index, data));
        }
        if is_committed {
            commit = index;
        }
        if log.pending_bytes() >= WRITE_BYTES {
            log.write()?;
        }
    }
    log.state(HardState { term, vote: vote.0, commit });
    log.sync()?;
    Ok(index)
}

/// The data of etcd's entries for one of ours.
pub fn unrolled(content: Content) -> Vec<Bytes> {
    match content {
        Content::Commands(commands) if !commands.is_empty() => {
            commands.into_iter().map(|command| if is_checkpoint(&command) { Bytes::new() } else { command }).collect()
        }
        _ => vec![Bytes::new()],
    }
}

/// It records when leases end. Readers of logs stop at a command that etcd does not write with its default settings.
fn is_checkpoint(command: &Bytes) -> bool {
    InternalRaftRequest::decode(command.clone()).is_ok_and(|command| command.lease_checkpoint.is_some())
}

fn entry(term: u64, index: u64, data: Bytes) -> Entry {
    Entry { kind: EntryKind::Normal as i32, term, index, data: Some(data).filter(|data| !data.is_empty()) }
}

#[cfg(test)]
mod tests {
    use chorus_proto::etcdserverpb::{LeaseCheckpointRequest, LeaseGrantRequest};

    use super::*;

    #[test]
    fn readers_of_logs_meet_only_what_they_know() {
        let grant = InternalRaftRequest { lease_grant: Some(LeaseGrantRequest::default()), ..Default::default() };
        let ours = LeaseCheckpointRequest::default();
        let checkpoint = InternalRaftRequest { lease_checkpoint: Some(ours), ..Default::default() };
        let [grant, checkpoint] = [grant, checkpoint].map(|command| Bytes::from(command.encode_to_vec()));
        assert_eq!(unrolled(Content::Commands(vec![grant.clone(), checkpoint])), [grant, Bytes::new()]);
        assert_eq!(unrolled(Content::Blank), [Bytes::new()]);
    }
}
