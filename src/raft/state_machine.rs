//! The state machine as openraft wants it, over the [`Machine`] that the store implements.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use futures::{Stream, StreamExt};
use openraft::RaftSnapshotBuilder;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use tokio::sync::watch;

use super::applied_membership::AppliedMembership;
use super::encoding::unpack;
use super::machine::{self, Applied, Committed, Machine, Position};
use super::types::{Entry, LogId, Payload, StoredMembership, Types, log_id, position};
use crate::actor::Shutdown;
use crate::disk::space::{RETRY, is_full};
use crate::world::World;
use crate::world::failpoints::failpoint;

/// Entries handed to the machine in one call.
const ENTRIES_PER_APPLY: usize = 256;

/// openraft over this log and this state machine.
pub(super) type Raft = openraft::Raft<Types, StateMachine>;

type Meta = SnapshotMetaOf<Types>;

/// What travels as a snapshot.
pub enum SnapshotData {
    /// Of this member: files to send, once they are made.
    Outgoing(machine::Prepare),
    /// Of the leader: a directory of files that arrived whole.
    Incoming(PathBuf),
    /// Only a position: the state is durable up to here, and the log before it may be purged.
    Durable,
}

/// Feeds committed entries to the machine.
pub struct StateMachine {
    world: World,
    shutdown: Shutdown,
    /// Only absent while the machine is away, installing a snapshot. The mutex is never contended: it makes the
    /// machine shareable in the eyes of the compiler.
    machine: Mutex<Option<Box<dyn Machine>>>,
    last: Option<LogId>,
    memberships: Memberships,
    /// As of the last entry.
    membership: AppliedMembership,
    publisher: AppliedPublisher,
    /// Recovery is over: openraft asks for the current snapshot in order to send it. Before, it only asks how far it
    /// reaches.
    serving: bool,
}

/// Publishes what was applied.
#[derive(Debug, Default)]
pub(super) struct AppliedPublisher {
    /// The index of the last applied entry.
    pub index: watch::Sender<u64>,
    /// The membership as of that entry; published first.
    pub membership: watch::Sender<AppliedMembership>,
}

impl AppliedPublisher {
    fn publish(&self, index: u64, membership: &AppliedMembership) {
        self.membership.send_if_modified(|known| {
            let changed = known != membership;
            if changed {
                known.clone_from(membership);
            }
            changed
        });
        self.index.send_replace(index);
    }
}

impl StateMachine {
    /// Over an opened machine.
    pub(super) fn new(
        world: World,
        machine: Box<dyn Machine>,
        publisher: AppliedPublisher,
        shutdown: Shutdown,
    ) -> io::Result<StateMachine> {
        let state = machine.applied();
        let (memberships, membership) = (Memberships::of(&state)?, applied_membership_of(&state)?);
        publisher.publish(state.at.map_or(0, |at| at.index), &membership);
        let last = state.at.map(log_id);
        let machine = Mutex::new(Some(machine));
        Ok(StateMachine { world, shutdown, machine, last, memberships, membership, publisher, serving: false })
    }

    /// Notes that recovery is over.
    pub(super) fn serve(&mut self) {
        self.serving = true;
    }

    /// A directory for an incoming snapshot.
    pub(super) fn incoming(&mut self) -> io::Result<PathBuf> {
        self.machine().incoming()
    }

    fn machine(&mut self) -> &mut Box<dyn Machine> {
        self.machine
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .expect("the machine is away only while install_snapshot holds this exclusively")
    }

    /// Does slow `work` on the machine away from the tasks.
    async fn away<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Box<dyn Machine>) -> T + Send + 'static) -> T {
        let slot = self.machine.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut machine = slot.take().expect("one call at a time holds the state machine");
        let (machine, result) = self
            .world
            .spawner
            .blocking(move || {
                let result = work(&mut machine);
                (machine, result)
            })
            .await;
        self.machine = Mutex::new(Some(machine));
        result
    }

    /// Waits before the disk is tried again; false when the replica ends.
    async fn rest(&self) -> bool {
        tokio::select! {
            () = self.world.clock.sleep(RETRY) => true,
            () = self.shutdown.wait() => false,
        }
    }

    async fn apply_chunk(&mut self, entries: Vec<EntryResponder<Types>>) -> io::Result<()> {
        let mut committed = Vec::with_capacity(entries.len());
        let mut responders: Vec<ApplyResponder<Types>> = Vec::new();
        for (entry, responder) in entries {
            committed.push(self.committed(entry)?);
            responders.extend(responder);
        }
        let Some(last) = committed.last().map(|entry| entry.at) else { return Ok(()) };
        let mut applied = self.machine().apply(committed);
        while applied.as_ref().is_err_and(is_full) && self.rest().await {
            applied = self.machine().resume();
        }
        applied?;
        self.last = Some(log_id(last));
        self.publisher.publish(last.index, &self.membership);
        responders.into_iter().for_each(|responder| responder.send(()));
        Ok(())
    }

    fn committed(&mut self, entry: Entry) -> io::Result<Committed> {
        let at = position(&entry.log_id);
        let payload = match entry.payload {
            Payload::Blank => machine::Payload::Blank,
            Payload::Normal(batch) => {
                failpoint!("beforeApplyOneEntryNormal");
                machine::Payload::Batch(unpack(&batch)?)
            }
            Payload::Membership(membership) => {
                failpoint!("beforeApplyOneConfChange");
                self.membership = self.membership.followed_by(membership.clone());
                self.memberships.push(StoredMembership::new(Some(entry.log_id), membership));
                machine::Payload::Membership(self.membership.encode())
            }
        };
        Ok(Committed { at, payload })
    }

    /// The position up to which the log may be purged.
    fn durable(&mut self) -> Option<Meta> {
        let durable = self.machine().durable()?;
        Some(Meta { last_log_id: Some(log_id(durable)), last_membership: self.memberships.at(durable) })
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last, self.memberships.last()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        let mut chunks = entries.ready_chunks(ENTRIES_PER_APPLY);
        while let Some(chunk) = chunks.next().await {
            self.apply_chunk(chunk.into_iter().collect::<io::Result<_>>()?).await?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        match self.durable() {
            Some(meta) => Some(Builder(meta)),
            None => force.then(|| Builder(Meta::default())),
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(self.durable().unwrap_or_default())
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: SnapshotData) -> io::Result<()> {
        let SnapshotData::Incoming(directory) = snapshot else {
            return Err(io::Error::other("only a received snapshot can be installed"));
        };
        failpoint!("applyBeforeOpenSnapshot", self.world.clock);
        let install = |directory: PathBuf| move |machine: &mut Box<dyn Machine>| machine.install(directory);
        let mut installed = self.away(install(directory.clone())).await;
        while installed.as_ref().is_err_and(is_full) && self.rest().await {
            installed = self.away(install(directory.clone())).await;
        }
        let installed = installed?;
        if installed.at.map(log_id) != meta.last_log_id {
            let (found, told) = (installed.at, meta.last_log_id);
            return Err(io::Error::other(format!("the snapshot holds {found:?}, its sender said {told:?}")));
        }
        self.memberships = Memberships::of(&installed)?;
        self.membership = applied_membership_of(&installed)?;
        self.last = meta.last_log_id;
        tracing::info!("applySnapshot: opened snapshot backend");
        failpoint!("applyAfterOpenSnapshot", self.world.clock);
        self.publisher.publish(installed.at.map_or(0, |at| at.index), &self.membership);
        tracing::info!(at = ?installed.at, "applied snapshot");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, SnapshotData>>> {
        if !self.serving {
            return Ok(self.durable().map(|meta| SnapshotOf::<Types, _> { meta, snapshot: SnapshotData::Durable }));
        }
        let machine::Snapshot { applied, prepare } = self.machine().snapshot()?;
        let last_membership = membership_of(&applied)?;
        let meta = Meta { last_log_id: applied.at.map(log_id), last_membership };
        Ok(Some(SnapshotOf::<Types, _> { meta, snapshot: SnapshotData::Outgoing(prepare) }))
    }
}

/// A snapshot that only says what is durable. The files are made when a peer needs them.
pub struct Builder(Meta);

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, SnapshotData>> {
        Ok(SnapshotOf::<Types, _> { meta: self.0.clone(), snapshot: SnapshotData::Durable })
    }
}

fn membership_of(applied: &Applied) -> io::Result<StoredMembership> {
    match &applied.membership {
        None => Ok(StoredMembership::default()),
        Some((at, _)) => Ok(StoredMembership::new(Some(log_id(*at)), applied_membership_of(applied)?.membership)),
    }
}

fn applied_membership_of(applied: &Applied) -> io::Result<AppliedMembership> {
    applied
        .membership
        .as_ref()
        .map_or(Ok(AppliedMembership::default()), |(_, encoded)| AppliedMembership::decode(encoded))
}

/// The last memberships, oldest first: enough to tell which one held at the durable position.
struct Memberships(VecDeque<StoredMembership>);

/// Memberships remembered; changes are rare and the durable position follows within seconds.
const MEMBERSHIPS_MAX: usize = 64;

impl Memberships {
    fn of(applied: &Applied) -> io::Result<Memberships> {
        membership_of(applied).map(|membership| Memberships(VecDeque::from([membership])))
    }

    fn push(&mut self, membership: StoredMembership) {
        self.0.push_back(membership);
        if self.0.len() > MEMBERSHIPS_MAX {
            self.0.pop_front();
        }
    }

    fn last(&self) -> StoredMembership {
        self.0.back().cloned().unwrap_or_default()
    }

    /// The membership at `at`.
    fn at(&self, at: Position) -> StoredMembership {
        let limit = Some(log_id(at));
        let held = self.0.iter().rev().find(|membership| *membership.log_id() <= limit);
        held.or(self.0.front()).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::Membership;

    #[test]
    fn the_membership_at_a_position_is_the_last_one_before_it() {
        let at = |index| Position { term: 1, index };
        let stored = |index| StoredMembership::new(Some(log_id(at(index))), Membership::default());
        let mut memberships = Memberships(VecDeque::from([stored(1)]));
        memberships.push(stored(5));
        for (asked, held) in [(1, 1), (4, 1), (5, 5), (9, 5)] {
            assert_eq!(*memberships.at(at(asked)).log_id(), Some(log_id(at(held))));
        }
    }
}
