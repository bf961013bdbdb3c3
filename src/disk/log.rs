//! The write-ahead log: one queue of entries, votes, truncations and purges, made durable in order and together.
//!
//! ```text
//!   LogHandle ──▶ window: readable at once ◀── read(range)
//!       │
//!       └──▶ queue ──▶ Log: drain, one write, one sync ──▶ done callbacks, in order
//!                       │
//!                       ├──▶ chores: the next segment, purged ones
//!                       └──▶ space: whether the disk has space for it
//! ```
//!
//! - [`frame`]: the layout on disk
//! - [`entry`]: what the log holds
//! - [`segment`]: one file, and where entries lie in it
//! - [`files`]: the segments, written in order
//! - [`chores`]: the next segment and purged ones, in the background
//! - [`mark`]: how far it is durable
//! - [`recovery`]: reading the log back
//! - [`window`]: which entries there are, and the recent ones in memory
//! - [`writer`]: the actor; [`metrics`]: what it counts

mod chores;
mod entry;
mod files;
mod frame;
mod mark;
mod metrics;
mod recovery;
mod segment;
mod window;
mod writer;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::Addr;
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::disk::{Error, Position, Space};
use crate::world::{Lane, World};
pub use entry::Entry;
pub use metrics::Metrics;
pub use recovery::{Options, Recovered};
use segment::EntryLocation;
use window::{Found, Window};
pub use writer::Done;
use writer::{Log, Op, closed};

/// The log. Clones share it. Every call goes into one queue, in order. After [`close`](LogHandle::close) nothing is
/// answered any more.
#[derive(Clone)]
pub struct LogHandle {
    log: Addr<Log>,
    window: Arc<Mutex<Window<EntryLocation>>>,
    metrics: Arc<Metrics>,
    space: Space,
}

impl LogHandle {
    /// Opens the log in `directory`, which is created where needed, and starts its actor on [`Lane::Log`].
    pub fn open(world: &World, directory: &Path, options: Options) -> Result<(LogHandle, Recovered), Error> {
        let (files, window, recovered) = recovery::open(world, directory, options)?;
        let window = Arc::new(Mutex::new(window));
        let metrics = Arc::new(Metrics::default());
        let space = Space::new("write-ahead log");
        let log = Log::new(world, files, window.clone(), metrics.clone(), space.clone());
        let log = world.spawner.start(Lane::Log, "disk/log", move |_| log);
        Ok((LogHandle { log, window, metrics, space }, recovered))
    }

    /// Appends entries that follow the last one. They are readable when this returns; `done` is called once they are
    /// durable.
    pub fn append(&self, entries: Vec<Entry>, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        let mut window = self.window();
        for entry in &entries {
            window.push(entry.clone(), None);
        }
        self.log.do_send(Op::Append { entries, done: Box::new(done) });
    }

    /// Keeps the vote; durable when this returns.
    pub async fn save_vote(&self, vote: Bytes) -> io::Result<()> {
        let (done, saved) = oneshot::channel();
        // The caller may have gone.
        let done = Box::new(move |result| drop(done.send(result)));
        self.log.do_send(Op::Vote { vote, done });
        saved.await.map_err(|_| closed())?
    }

    /// Keeps the committed position with the next write; not durable by itself.
    pub fn save_committed(&self, committed: Bytes) {
        self.log.do_send(Op::Committed { committed });
    }

    /// Drops the entries after `index`; durable with the next append.
    pub fn truncate_after(&self, index: u64) {
        let mut window = self.window();
        window.truncate_after(index);
        self.log.do_send(Op::Truncate { after: index });
    }

    /// Drops the entries up to `up_to`, which may lie beyond the last one (a snapshot was installed), and releases
    /// their files once that is durable.
    pub fn purge(&self, up_to: Position) {
        let mut window = self.window();
        window.purge(up_to);
        self.log.do_send(Op::Purge { up_to });
    }

    /// The entries of `range` that the log holds, in order. Recent ones come from memory, older ones from disk:
    /// this may block.
    pub fn read(&self, range: Range<u64>) -> io::Result<Vec<Entry>> {
        let found = self.window().find(range);
        let entries = found.into_iter().map(|found| match found {
            Found::InMemory(entry) => Ok(entry),
            Found::OnDisk(at, location) => location.read(at).map_err(|error| self.unless_purged(at, error)),
        });
        entries.collect()
    }

    /// The file of an entry that was purged during the read may hold anything by then.
    fn unless_purged(&self, at: Position, error: Error) -> io::Error {
        match self.purged() {
            Some(purged) if purged.index >= at.index => {
                io::Error::new(io::ErrorKind::NotFound, format!("entry {at} was purged up to {purged}"))
            }
            _ => error.into(),
        }
    }

    /// Position of the first entry held.
    pub fn first(&self) -> Option<Position> {
        self.window().first()
    }

    /// Position of the last entry held.
    pub fn last(&self) -> Option<Position> {
        self.window().last()
    }

    /// Position up to which entries were dropped.
    pub fn purged(&self) -> Option<Position> {
        self.window().purged()
    }

    /// Its counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether it has disk space ahead.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Makes a full disk an error like any other: no write waits for space any more.
    pub fn give_up(&self) {
        self.log.do_send(Op::GiveUp);
    }

    /// Makes all that was queued durable and ends the log; the directory may be opened again afterwards.
    pub async fn close(&self) -> io::Result<()> {
        let (done, ended) = oneshot::channel();
        self.log.do_send(Op::Close { done });
        ended.await.map_err(|_| closed())?
    }

    fn window(&self) -> MutexGuard<'_, Window<EntryLocation>> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
