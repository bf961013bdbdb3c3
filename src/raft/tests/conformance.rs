//! openraft's own suite over the log and the state machine as openraft is given them, with the machine of whoever
//! calls.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use futures::Stream;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{RaftSnapshotBuilder, StorageError};

use crate::actor::Shutdown;
use crate::disk::{LogHandle, log};
use crate::raft::log_store::LogStore;
use crate::raft::machine::Machine;
use crate::raft::state_machine::{AppliedPublisher, SnapshotData, StateMachine};
use crate::raft::types::{LogId, StoredMembership, Types};
use crate::world::disk::Open;
use crate::world::{Disk, MemoryDisk, World};

/// Runs the suite; `open` opens a machine in an empty directory.
pub(crate) fn run(open: impl Fn(&World, &Path) -> Box<dyn Machine> + Send + Sync) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let builder = Builder { open, disk: MemoryDisk::new(), built: AtomicU64::new(0) };
    tokio::task::LocalSet::new().block_on(&runtime, async {
        Suite::test_all(builder).await.unwrap();
    });
}

struct Builder<F> {
    open: F,
    disk: MemoryDisk,
    built: AtomicU64,
}

impl<F> StoreBuilder<Types, LogStore, Served, ()> for Builder<F>
where
    F: Fn(&World, &Path) -> Box<dyn Machine> + Send + Sync,
{
    async fn build(&self) -> Result<((), LogStore, Served), StorageError<Types>> {
        let number = self.built.fetch_add(1, Ordering::Relaxed);
        let world = World::simulated(number, self.disk.clone());
        let directory = PathBuf::from(format!("/n{number}"));
        let options = log::Options { segment_bytes: 1 << 16, cache_bytes_max: 1 << 10 };
        let (log, recovered) = LogHandle::open(&world, &directory.join("wal"), options).unwrap();
        let machine = (self.open)(&world, &directory);
        let machine = StateMachine::new(world.clone(), machine, AppliedPublisher::default(), Shutdown::new()).unwrap();
        Ok(((), LogStore::new(log, &recovered).unwrap(), Served { disk: world.disk, machine }))
    }
}

/// A state machine whose snapshots are always the files that a peer gets, and arrive at once. What openraft is told of
/// otherwise is only how far the state is durable, which lags behind it.
struct Served {
    disk: Disk,
    machine: StateMachine,
}

impl Served {
    async fn snapshot(&mut self) -> io::Result<SnapshotOf<Types, SnapshotData>> {
        self.machine.serve();
        Ok(self.machine.get_current_snapshot().await?.expect("a state machine that serves has a snapshot"))
    }

    fn carry(&mut self, snapshot: SnapshotData) -> io::Result<SnapshotData> {
        let SnapshotData::Outgoing(prepare) = snapshot else { return Ok(snapshot) };
        let (files, directory) = (prepare()?, self.machine.incoming()?);
        for path in &files.paths {
            let copy = self.disk.open(&directory.join(path.file_name().unwrap()), Open::CreateNew)?;
            copy.write_all_at(&self.disk.read(path)?, 0)?;
            copy.sync_data()?;
        }
        Ok(SnapshotData::Incoming(directory))
    }
}

impl RaftStateMachine<Types> for Served {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Built;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        self.machine.applied_state().await
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        self.machine.apply(entries).await
    }

    async fn try_create_snapshot_builder(&mut self, _: bool) -> Option<Built> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Built {
        Built(Some(self.snapshot().await.unwrap()))
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Types>, snapshot: SnapshotData) -> io::Result<()> {
        let arrived = self.carry(snapshot)?;
        self.machine.install_snapshot(meta, arrived).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, SnapshotData>>> {
        let applied = self.applied_state().await?.0;
        if applied.is_none() { Ok(None) } else { self.snapshot().await.map(Some) }
    }
}

struct Built(Option<SnapshotOf<Types, SnapshotData>>);

impl RaftSnapshotBuilder<Types> for Built {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, SnapshotData>> {
        Ok(self.0.take().expect("it is built once"))
    }
}
