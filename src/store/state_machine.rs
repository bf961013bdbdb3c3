//! The applied state of one member, as the replica drives it.
//!
//! One call applies many entries: first everything is written, then readers see it, then watchers get the events, then
//! the clients of this member get their answers.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use prost::Message;

use super::checks;
use super::command::{self, Batch};
use super::ledger::{Ledger, RevisionEvents};
use super::member_state::MemberState;
use super::metrics::Kind;
use super::mvcc::Fault;
use super::waiting::Outcome;
use crate::disk::{self, Space};
use crate::raft::machine::{Applied, Committed, Machine, Payload, Position, Snapshot, SnapshotFiles, Validate};
use crate::world::failpoints::failpoint;

/// Applies entries for the replica.
pub struct StateMachine {
    pub(super) member: Arc<MemberState>,
    /// The entries that the disk had no room for.
    stalled: Option<Work>,
}

/// Entries that are being applied.
struct Work {
    entries: vec::IntoIter<Committed>,
    /// The events of the entries that are applied.
    revisions: Vec<RevisionEvents>,
    outcomes: Vec<(u64, Outcome)>,
}

impl StateMachine {
    pub fn new(member: Arc<MemberState>) -> StateMachine {
        StateMachine { member, stalled: None }
    }

    /// Applies the commands of one entry; adds the outcomes that clients of this member wait for to `outcomes`.
    fn apply_batch(
        &self,
        ledger: &mut Ledger,
        at: Position,
        commands: Vec<Bytes>,
        outcomes: &mut Vec<(u64, Outcome)>,
    ) -> io::Result<Batch> {
        let mut batch = Batch { at, ..Batch::default() };
        let (size, metrics) = (ledger.size(), &self.member.metrics);
        let mut started = metrics.clock.now();
        for command in commands {
            let bytes = command.len();
            let command = match pb::InternalRaftRequest::decode(command) {
                Ok(command) => command,
                Err(error) => {
                    tracing::error!(%at, %error, "cannot decode a command in the log; it changes nothing");
                    continue;
                }
            };
            let waiter = self.member.waiting.waits(command.header.as_ref());
            let kind = Kind::of(&command);
            let overdraws = self.member.quota.overdraws(size, &command, bytes);
            let outcome =
                match command::apply(&mut ledger.state, &ledger.segments, &mut batch, command, waiter.is_some()) {
                    Ok(answer) => Ok(answer),
                    Err(Fault::Refused(error)) => Err(error),
                    Err(fault) => return Err(io::Error::other(fault)),
                };
            started = metrics.applied(kind, outcome.is_ok(), started);
            metrics.leases.count(&outcome);
            if overdraws && outcome.is_ok() {
                self.member.quota.note(waiter);
            } else {
                outcomes.extend(waiter.map(|id| (id, outcome)));
            }
        }
        metrics.changed(&batch.ops);
        // Before readers see the entry: a token must be there as soon as the entry that made it.
        self.member.sessions.follow(std::mem::take(&mut batch.sessions));
        Ok(batch)
    }

    fn work(&mut self, mut work: Work) -> io::Result<()> {
        let mut ledger = self.member.ledger();
        if let Err(error) = self.work_off(&mut ledger, &mut work) {
            drop(ledger);
            if error.is_full() {
                self.member.space.run_short(&error);
            }
            self.stalled = Some(work);
            return Err(error.into());
        }
        failpoint!("beforeWritebackBuf");
        self.member.publish(&ledger);
        failpoint!("afterWritebackBuf");
        drop(ledger);
        self.member.feed.push(work.revisions);
        self.member.waiting.answer_all(work.outcomes);
        Ok(())
    }

    fn work_off(&self, ledger: &mut Ledger, work: &mut Work) -> Result<(), disk::Error> {
        work.revisions.extend(ledger.resume()?);
        for entry in work.entries.by_ref() {
            // After a restart the log may offer entries that the state already holds.
            if ledger.state.applied.is_none_or(|applied| entry.at.index > applied.index) {
                work.revisions.extend(self.apply_entry(ledger, entry, &mut work.outcomes)?);
            }
        }
        Ok(())
    }

    fn apply_entry(
        &self,
        ledger: &mut Ledger,
        entry: Committed,
        outcomes: &mut Vec<(u64, Outcome)>,
    ) -> Result<Vec<RevisionEvents>, disk::Error> {
        let (membership, batch) = match entry.payload {
            Payload::Blank => (None, Batch::default()),
            Payload::Membership(membership) => (Some(membership), Batch::default()),
            Payload::Batch(commands) => (None, self.apply_batch(ledger, entry.at, commands, outcomes)?),
        };
        ledger.commit(entry.at, membership, batch)
    }
}

impl Machine for StateMachine {
    fn validate(&self) -> Validate {
        checks::marshalled
    }

    fn applied(&self) -> Applied {
        self.member.ledger().applied()
    }

    fn apply(&mut self, entries: Vec<Committed>) -> io::Result<()> {
        assert!(self.stalled.is_none(), "what has no room yet goes first");
        self.work(Work { entries: entries.into_iter(), revisions: Vec::new(), outcomes: Vec::new() })
    }

    fn resume(&mut self) -> io::Result<()> {
        self.stalled.take().map_or(Ok(()), |work| self.work(work))
    }

    fn space(&self) -> Space {
        self.member.space.clone()
    }

    fn durable(&self) -> Option<Position> {
        self.member.ledger().durable()
    }

    fn snapshot(&mut self) -> io::Result<Snapshot> {
        let outgoing = self.member.ledger().snapshot()?;
        let (applied, member) = (outgoing.applied(), self.member.clone());
        let prepare = move || {
            let (paths, scratch) = outgoing.prepare().inspect_err(|error| member.note_full(error))?;
            Ok(SnapshotFiles { paths, keep: Box::new(scratch) })
        };
        Ok(Snapshot { applied, prepare: Box::new(prepare) })
    }

    fn incoming(&mut self) -> io::Result<PathBuf> {
        let files = self.member.ledger().files();
        files.incoming()
    }

    fn install(&mut self, directory: PathBuf) -> io::Result<Applied> {
        let disk = &self.member.metrics.disk;
        let _installing = self.member.metrics.measure(&disk.install, Some(&disk.installing));
        // Nothing is applied meanwhile; readers and the compactor go on with the old files.
        let successor = self.member.ledger().successor();
        let successor = successor.install(&directory)?;
        let live = successor.state.index.live_count();
        let mut ledger = self.member.ledger();
        let replaced = std::mem::replace(&mut *ledger, successor);
        let (applied, index) = (ledger.applied(), &ledger.state.index);
        self.member.metrics.replaced(live);
        self.member.hashes.clear();
        self.member.sessions.forget();
        // However many reports the other member had applied, this one applies them now.
        self.member.note_lease_time(ledger.state.leases.time.reports());
        self.member.publish(&ledger);
        if index.is_swept() {
            self.member.swept(index.compacted);
        }
        drop(ledger);
        self.member.feed.lose();
        replaced.discard();
        Ok(applied)
    }
}
