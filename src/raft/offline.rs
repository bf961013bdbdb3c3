//! The log of a member that does not run: writing an imported one, and reading it.

use std::io;
use std::path::Path;

use bytes::Bytes;
use openraft::vote::{RaftLeaderId, RaftVote};
use tokio::sync::oneshot;

use super::applied_membership::AppliedMembership;
use super::encoding::{decode, encode, pack, parse, record, unpack};
use super::machine::{Applied, Committed, Payload as Applying, Position};
use super::member::members_of;
use super::types::{LogId, Membership, Payload, Types, Vote, log_id, position};
use super::{Error, Member};
use crate::disk::{self, Entry, LogHandle, Recovered, log::Options};
use crate::world::{NodeId, World};

type LeaderId = openraft::type_config::alias::LeaderIdOf<Types>;

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Blank,
    /// Marshalled commands.
    Commands(Vec<Bytes>),
    /// All members from here on.
    Members(Vec<Member>),
}

/// Raft's hard state of a member (term, vote, commit index), and how far its state has applied the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    pub vote: NodeId,
    /// The state holds the log up to here; `None` when it holds nothing of it.
    pub applied: Option<Position>,
    pub committed: Option<Position>,
}

/// Writes the log of an imported member: `entries` follow the applied one without gaps.
pub async fn write(
    world: &World,
    data_dir: &Path,
    hard_state: HardState,
    entries: Vec<(Position, Content)>,
) -> Result<(), Error> {
    let directory = data_dir.join("wal");
    let failed = |error: io::Error| Error::io(format!("writing the log in {}", directory.display()), &error);
    let (log, recovered) = open(world, &directory)?;
    if recovered != Recovered::default() {
        return Err(Error::Config(format!("{} holds a log already", directory.display())));
    }
    if let Some(applied) = hard_state.applied {
        log.purge(applied);
    }
    let vote = Vote::from_leader_id(LeaderId::new(hard_state.term, hard_state.vote.0), false);
    log.save_vote(record(&vote)).await.map_err(failed)?;
    let entries: Vec<Entry> = entries
        .into_iter()
        .map(|(at, content)| Ok(Entry { at, payload: encode(&payload(content)?) }))
        .collect::<io::Result<_>>()
        .map_err(failed)?;
    if !entries.is_empty() {
        let (done, written) = oneshot::channel();
        // The receiver waits below.
        log.append(entries, move |result| drop(done.send(result)));
        written.await.map_err(|_| Error::Stopped)?.map_err(failed)?;
    }
    if let Some(committed) = hard_state.committed {
        log.save_committed(record(&log_id(committed)));
    }
    log.close().await.map_err(failed)
}

/// The committed entries that a state does not hold yet, as it will apply them.
pub async fn committed_after(world: &World, data_dir: &Path, applied: &Applied) -> Result<Vec<Committed>, Error> {
    let mut applied_membership = match &applied.membership {
        Some((_, membership)) => AppliedMembership::decode(membership).map_err(|error| unreadable(data_dir, &error))?,
        None => AppliedMembership::default(),
    };
    let after = applied.at.map_or(0, |at| at.index);
    let mut found = Vec::new();
    let (entries, _) = read(world, data_dir, after).await?;
    for (at, content, is_committed) in entries {
        if !is_committed {
            break;
        }
        let payload = match content {
            Content::Blank => Applying::Blank,
            Content::Commands(commands) => Applying::Batch(commands),
            Content::Members(members) => {
                let next = membership(&members).map_err(|error| unreadable(data_dir, &error))?;
                applied_membership = applied_membership.followed_by(next);
                Applying::Membership(applied_membership.encode())
            }
        };
        found.push(Committed { at, payload });
    }
    Ok(found)
}

/// Entries, each with whether it is known to be committed; and the member's term and vote.
type Found = (Vec<(Position, Content, bool)>, (u64, NodeId));

/// What the log holds after an index.
pub async fn read(world: &World, data_dir: &Path, after: u64) -> Result<Found, Error> {
    let (log, recovered) = open(world, &data_dir.join("wal"))?;
    let found = read_entries(&log, &recovered, after).map_err(|error| unreadable(data_dir, &error));
    let closed = log.close().await.map_err(|error| unreadable(data_dir, &error));
    closed.and(found)
}

fn read_entries(log: &LogHandle, recovered: &Recovered, after: u64) -> io::Result<Found> {
    let committed = recovered.committed.as_deref().map(parse::<LogId>).transpose()?;
    let committed = committed.map_or(0, |id| position(&id).index);
    let vote = recovered.vote.as_deref().map(parse::<Vote>).transpose()?;
    let voted = vote.map_or((0, NodeId(0)), |vote| (vote.leader_id.term, NodeId(vote.leader_id.voted_for)));
    let mut entries = Vec::new();
    if let (Some(first), Some(last)) = (recovered.first, recovered.last) {
        for entry in log.read(first.index.max(after + 1)..last.index + 1)? {
            entries.push((entry.at, content(decode(entry.payload)?)?, entry.at.index <= committed));
        }
    }
    Ok((entries, voted))
}

fn open(world: &World, directory: &Path) -> Result<(LogHandle, Recovered), Error> {
    LogHandle::open(world, directory, Options::default()).map_err(|error| match error {
        disk::Error::Io(source) => Error::io(format!("opening the log in {}", directory.display()), &source),
        disk::Error::Corrupt { .. } => Error::damaged(directory, &error),
        _ => Error::Config(error.to_string()),
    })
}

fn unreadable(data_dir: &Path, error: &io::Error) -> Error {
    Error::io(format!("reading the log in {}", data_dir.display()), error)
}

fn payload(content: Content) -> io::Result<Payload> {
    Ok(match content {
        Content::Blank => Payload::Blank,
        Content::Commands(commands) => Payload::Normal(pack(commands.iter())),
        Content::Members(members) => Payload::Membership(membership(&members)?),
    })
}

fn content(payload: Payload) -> io::Result<Content> {
    Ok(match payload {
        Payload::Blank => Content::Blank,
        Payload::Normal(batch) => Content::Commands(unpack(&batch)?),
        Payload::Membership(membership) => Content::Members(members_of(&membership)),
    })
}

fn membership(members: &[Member]) -> io::Result<Membership> {
    let recorded = super::record_members(members, &[]);
    Ok(AppliedMembership::decode(&recorded)?.membership)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::MemoryDisk;

    #[tokio::test(start_paused = true)]
    async fn what_is_written_is_read_again() {
        let world = World::simulated(1, MemoryDisk::new());
        let directory = Path::new("/data");
        let at = |term, index| Position { term, index };
        let member = Member {
            id: NodeId(7),
            name: "n".to_owned(),
            peer_urls: vec!["http://a:1".to_owned()],
            client_urls: vec![],
            learner: false,
        };
        let entries = vec![
            (at(2, 11), Content::Blank),
            (at(2, 12), Content::Commands(vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")])),
            (at(3, 13), Content::Members(vec![member])),
        ];
        let hard_state = HardState { term: 4, vote: NodeId(7), applied: Some(at(2, 10)), committed: Some(at(2, 12)) };
        tokio::task::LocalSet::new()
            .run_until(async {
                write(&world, directory, hard_state, entries.clone()).await.unwrap();
                let (read, voted) = read(&world, directory, 0).await.unwrap();
                let flags: Vec<bool> = read.iter().map(|(.., committed)| *committed).collect();
                assert_eq!(flags, [true, true, false]);
                assert_eq!(read.into_iter().map(|(at, content, _)| (at, content)).collect::<Vec<_>>(), entries);
                assert_eq!(voted, (4, NodeId(7)));
                let applied = Applied { at: Some(at(2, 11)), membership: None };
                assert_eq!(committed_after(&world, directory, &applied).await.unwrap().len(), 1);
            })
            .await;
    }
}
