//! A copy of the log in etcd's format, kept while a member runs, for tools that read a member's log.
//!
//! ```text
//!   replica ──entries──▶ Mirrored ──▶ the state machine
//!                           └──queue──▶ a task ──▶ member/wal
//! ```
//!
//! Committed entries go there as they are applied, each under its own index; nothing waits for that, and it is not made
//! durable. At start, what is missing since the member last ran is taken from the log. An entry must not hold more than
//! one command: `raft::Limits::batch_commands_max` is 1 where there is a mirror.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::migrate::{Error, unrolled};
use crate::disk::etcd_wal::record::EntryKind;
use crate::disk::etcd_wal::{self, Entry, FILE_BYTES, HardState, Metadata, Writer};
use crate::raft::ClusterId;
use crate::raft::machine::{Applied, Committed, Machine, Payload, Position, Snapshot, Space, Validate};
use crate::raft::offline::{self, Content};
use crate::world::{NodeId, World};

/// Entries that wait to be written. A mirror that falls behind by more ends.
const QUEUE: usize = 65_536;
/// Entries that are written at once.
const WRITE_ENTRIES: usize = 1_024;

/// Puts a mirror in `directory` before `machine`. The member's own files are in `data_dir`; it must not run yet.
pub async fn mirror(
    world: &World,
    data_dir: &Path,
    directory: &Path,
    (node, cluster): (NodeId, ClusterId),
    machine: Box<dyn Machine>,
) -> Result<Box<dyn Machine>, Error> {
    let metadata = Metadata { node: node.0, cluster: cluster.0 };
    let applied = machine.applied().at.map_or(0, |at| at.index);
    let mut writer = open(world, directory, metadata)?;
    let (missed, _) = offline::read(world, data_dir, writer.last()).await?;
    let missed = missed.into_iter().filter(|(at, ..)| at.index <= applied);
    add(&mut writer, missed.map(|(at, content, _)| (at, unrolled(content))));
    writer.write()?;
    let (queue, waiting) = mpsc::channel(QUEUE);
    world.spawner.keep("store/wal_mirror", keep(world.clone(), writer, waiting));
    Ok(Box::new(Mirrored { machine, copies: Vec::new(), queue: Some(queue) }))
}

/// Continues the mirror that is there, if it is this member's, or begins a new one.
fn open(world: &World, directory: &Path, metadata: Metadata) -> Result<Writer, Error> {
    match etcd_wal::read(&world.disk, directory) {
        Ok(Some(log)) if log.metadata == metadata => {
            return Ok(Writer::resume(&world.disk, directory, &log, FILE_BYTES)?);
        }
        Ok(None) => {}
        Ok(Some(_)) => {
            tracing::warn!(directory = %directory.display(), "replacing the mirror of another member's log")
        }
        Err(error) => tracing::warn!(%error, "cannot continue the mirror of the log; starting a new one"),
    }
    if world.disk.exists(directory) {
        world.disk.remove_dir_all(directory)?;
    }
    Ok(Writer::create(&world.disk, directory, metadata, FILE_BYTES)?)
}

/// Adds entries that are not in the mirror yet, and how far they are committed.
fn add(writer: &mut Writer, entries: impl Iterator<Item = (Position, Vec<Bytes>)>) {
    let mut last = None;
    for (at, commands) in entries {
        for data in commands {
            let index = at.index.max(writer.last() + 1);
            let data = Some(data).filter(|data| !data.is_empty());
            writer.entry(&Entry { kind: EntryKind::Normal as i32, term: at.term, index, data });
        }
        last = Some(at.term);
    }
    if let Some(term) = last {
        writer.state(HardState { term, vote: 0, commit: writer.last() });
    }
}

/// Writes what comes until the replica ends.
async fn keep(world: World, mut writer: Writer, mut waiting: mpsc::Receiver<(Position, Vec<Bytes>)>) {
    let mut entries = Vec::new();
    while waiting.recv_many(&mut entries, WRITE_ENTRIES).await > 0 {
        let last = writer.last();
        let batch: Vec<_> = entries.drain(..).filter(|(at, _): &(Position, _)| at.index > last).collect();
        let written = world.spawner.blocking(move || {
            add(&mut writer, batch.into_iter());
            writer.write().map(|()| writer)
        });
        match written.await {
            Ok(back) => writer = back,
            Err(error) => return tracing::error!(%error, "failed to write the mirror of the log; it ends here"),
        }
    }
}

/// A state machine whose entries are mirrored.
struct Mirrored {
    machine: Box<dyn Machine>,
    /// The entries that the machine has yet to apply.
    copies: Vec<(Position, Vec<Bytes>)>,
    queue: Option<mpsc::Sender<(Position, Vec<Bytes>)>>,
}

impl Mirrored {
    fn applied_them(&mut self) {
        for copy in self.copies.drain(..) {
            if self.queue.as_ref().is_some_and(|queue| queue.try_send(copy).is_err()) {
                tracing::error!("the mirror of the log fell behind and ends here");
                self.queue = None;
            }
        }
    }
}

impl Machine for Mirrored {
    fn validate(&self) -> Validate {
        self.machine.validate()
    }

    fn applied(&self) -> Applied {
        self.machine.applied()
    }

    fn apply(&mut self, entries: Vec<Committed>) -> io::Result<()> {
        let data = |payload: &Payload| match payload {
            Payload::Batch(commands) => unrolled(Content::Commands(commands.clone())),
            _ => unrolled(Content::Blank),
        };
        self.copies = entries.iter().map(|entry| (entry.at, data(&entry.payload))).collect();
        self.machine.apply(entries)?;
        self.applied_them();
        Ok(())
    }

    fn resume(&mut self) -> io::Result<()> {
        self.machine.resume()?;
        self.applied_them();
        Ok(())
    }

    fn space(&self) -> Space {
        self.machine.space()
    }

    fn durable(&self) -> Option<Position> {
        self.machine.durable()
    }

    fn snapshot(&mut self) -> io::Result<Snapshot> {
        self.machine.snapshot()
    }

    fn incoming(&mut self) -> io::Result<PathBuf> {
        self.machine.incoming()
    }

    fn install(&mut self, directory: PathBuf) -> io::Result<Applied> {
        self.machine.install(directory)
    }
}
