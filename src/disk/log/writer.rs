//! `Log`: owns the log's files. It hears from [`LogHandle`](super::LogHandle) alone, and answers through the callbacks
//! it was given, in the order of the queue.
//!
//! Messages that arrive while the disk is busy gather in the mailbox and become one write and one sync. Its sender
//! bounds the mailbox: the replica has a bounded number of entries under way. A write that finds the disk full waits
//! for space, and so does everything after it. A write that fails otherwise poisons the log: it refuses everything
//! after that with the same error, and the replica stops. A sync that fails ends the process.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::entry::Entry;
use super::files::Files;
use super::metrics::Metrics;
use super::segment::EntryLocation;
use super::window::Window;
use crate::disk::space::{RETRY, Space};
use crate::disk::{Error, Position};
use crate::world::failpoints::failpoint;
use crate::world::planted::planted;
use crate::world::{Clock, Disk, Spawner, World};

/// Called on the log's thread once an append is durable. `Err`: the disk refused, and the log takes nothing more.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What the log is asked to do.
pub enum Op {
    Append {
        entries: Vec<Entry>,
        done: Done,
    },
    Vote {
        vote: Bytes,
        done: Done,
    },
    Committed {
        committed: Bytes,
    },
    Truncate {
        after: u64,
    },
    Purge {
        up_to: Position,
    },
    /// Stop waiting for disk space.
    GiveUp,
    Close {
        done: oneshot::Sender<io::Result<()>>,
    },
}

impl Message for Op {
    type Result = ();
}

/// Everything that was in the mailbox has been taken: write it.
struct Flush;

impl Message for Flush {
    type Result = ();
}

/// The chores that were started have ended.
struct ChoresDone {
    outcome: Result<(), Error>,
    left: Vec<PathBuf>,
}

impl Message for ChoresDone {
    type Result = ();
}

/// A drained queue on its way to the disk.
#[derive(Default)]
struct Batch {
    ops: Vec<Op>,
    /// How many of them, and entries of the next one, were added to the files.
    added: (usize, usize),
    locations: Vec<(Position, EntryLocation)>,
}

/// Owns the log's files.
pub struct Log {
    spawner: Spawner,
    clock: Clock,
    disk: Disk,
    metrics: Arc<Metrics>,
    space: Space,
    /// `None` after the log was closed.
    files: Option<Files>,
    window: Arc<Mutex<Window<EntryLocation>>>,
    pending: Vec<Op>,
    /// Waits for disk space.
    waiting: Option<Batch>,
    gives_up: bool,
    /// Why the log takes nothing more.
    poisoned: Option<(io::ErrorKind, String)>,
    released: Vec<PathBuf>,
    chores: ChoresState,
    /// Who closed the log and what came of it, until the chores have ended, too.
    closed: Option<Closed>,
}

/// Where the chores are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChoresState {
    Idle,
    UnderWay,
    /// After a failure.
    Resting,
}

struct Closed {
    outcome: io::Result<()>,
    done: oneshot::Sender<io::Result<()>>,
}

impl Actor for Log {
    type Context = Context<Log>;

    fn started(&mut self, ctx: &mut Context<Log>) {
        self.start_chores(ctx);
    }
}

impl Handler<Op> for Log {
    type Result = ();

    fn handle(&mut self, op: Op, ctx: &mut Context<Log>) {
        if matches!(op, Op::GiveUp | Op::Close { .. }) {
            self.give_up(ctx);
        }
        if self.pending.is_empty() {
            match self.disk.lag() {
                Duration::ZERO => ctx.notify(Flush),
                // A simulated disk that is slow cannot block this thread; it lets the queue wait.
                lag => drop(ctx.notify_later(Flush, lag)),
            }
        }
        self.pending.push(op);
    }
}

impl Handler<Flush> for Log {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Context<Log>) {
        if self.waiting.is_none() {
            let ops = std::mem::take(&mut self.pending);
            self.write(Batch { ops, ..Batch::default() }, ctx);
        }
    }
}

impl Handler<ChoresDone> for Log {
    type Result = ();

    fn handle(&mut self, ChoresDone { outcome, left }: ChoresDone, ctx: &mut Context<Log>) {
        self.chores = ChoresState::Idle;
        // They are older than what was released meanwhile, so they come first.
        self.released.splice(0..0, left);
        if let Some(closed) = self.closed.take() {
            return Self::tell_closed(closed, ctx);
        }
        if let Err(error) = outcome {
            if error.is_full() {
                self.space.run_short(&error);
            } else {
                tracing::warn!(%error, "no segment of the write-ahead log could be prepared ahead");
            }
            self.chores = ChoresState::Resting;
            ctx.run_later(RETRY, |log, ctx| {
                log.chores = ChoresState::Idle;
                log.start_chores(ctx);
            });
            return;
        }
        if let Some(files) = &mut self.files {
            files.chores_done();
        }
        self.start_chores(ctx);
    }
}

impl Log {
    pub fn new(
        world: &World,
        files: Files,
        window: Arc<Mutex<Window<EntryLocation>>>,
        metrics: Arc<Metrics>,
        space: Space,
    ) -> Log {
        Log {
            spawner: world.spawner.clone(),
            clock: world.clock.clone(),
            disk: world.disk.clone(),
            metrics,
            space,
            files: Some(files),
            window,
            pending: Vec::new(),
            waiting: None,
            gives_up: false,
            poisoned: None,
            released: Vec::new(),
            chores: ChoresState::Idle,
            closed: None,
        }
    }

    /// Makes a batch durable and answers it, or lets it wait for disk space.
    fn write(&mut self, mut batch: Batch, ctx: &mut Context<Log>) {
        if self.poisoned.is_none()
            && let Err(error) = self.persist(&mut batch)
        {
            if error.is_full() && !self.gives_up {
                self.space.run_short(&error);
                self.waiting = Some(batch);
                ctx.run_later(RETRY, Self::write_again);
                return;
            }
            tracing::error!(%error, "the write-ahead log can't be written; this node stops");
            let error = io::Error::from(error);
            self.poisoned = Some((error.kind(), error.to_string()));
        }
        for op in batch.ops {
            self.answer(op, ctx);
        }
        failpoint!("raftBeforeAdvance");
        if !self.pending.is_empty() {
            ctx.notify(Flush);
        }
        self.start_chores(ctx);
    }

    fn write_again(&mut self, ctx: &mut Context<Log>) {
        if let Some(batch) = self.waiting.take() {
            self.write(batch, ctx);
        }
    }

    fn give_up(&mut self, ctx: &mut Context<Log>) {
        self.gives_up = true;
        self.write_again(ctx);
    }

    /// Makes a drained queue durable: one write, one sync. After a full-disk error the caller may call it again.
    fn persist(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let Some(files) = &mut self.files else { return Err(closed().into()) };
        batch.add_to(files)?;
        let Batch { ops, locations, .. } = batch;
        failpoint!("raftBeforeSave");
        let started = self.clock.now();
        self.metrics.bytes.add(files.write()?);
        let written = self.clock.now();
        self.metrics.write.observe(written - started);
        if ops.iter().any(waits_for_sync) {
            failpoint!("walBeforeSync");
            if !planted!("ack-before-sync") {
                files.sync();
            }
            failpoint!("walAfterSync");
            self.metrics.sync.observe(self.clock.now() - written);
        }
        failpoint!("raftAfterSave");
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, location) in locations.drain(..) {
            window.located(at, location);
        }
        window.evict();
        drop(window);
        if ops.iter().any(|op| matches!(op, Op::Purge { .. })) {
            self.released.extend(files.release());
        }
        Ok(())
    }

    fn answer(&mut self, op: Op, ctx: &mut Context<Log>) {
        let result = match &self.poisoned {
            None => Ok(()),
            Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
        };
        match op {
            Op::Append { done, .. } | Op::Vote { done, .. } => done(result),
            Op::Committed { .. } | Op::Truncate { .. } | Op::Purge { .. } | Op::GiveUp => (),
            Op::Close { done } => self.close(result, done, ctx),
        }
    }

    fn close(&mut self, result: io::Result<()>, done: oneshot::Sender<io::Result<()>>, ctx: &mut Context<Log>) {
        let files = self.files.take();
        let outcome = result.and_then(|()| files.map_or(Ok(()), |mut files| Ok(files.close()?)));
        self.poisoned.get_or_insert_with(|| {
            let error = closed();
            (error.kind(), error.to_string())
        });
        let closed = Closed { outcome, done };
        // Chores under way still work in the directory.
        if self.chores == ChoresState::UnderWay {
            self.closed = Some(closed);
        } else {
            Self::tell_closed(closed, ctx);
        }
    }

    fn tell_closed(Closed { outcome, done }: Closed, ctx: &mut Context<Log>) {
        // The caller may have gone.
        let _ = done.send(outcome);
        ctx.stop();
    }

    fn start_chores(&mut self, ctx: &mut Context<Log>) {
        let Some(files) = self.files.as_ref().filter(|_| self.chores == ChoresState::Idle && self.poisoned.is_none())
        else {
            return;
        };
        let Some(chores) = files.chores(std::mem::take(&mut self.released)) else {
            self.space.suffice();
            return;
        };
        self.chores = ChoresState::UnderWay;
        let (log, spawner) = (ctx.address(), self.spawner.clone());
        self.spawner.task(async move {
            let done = spawner.blocking(move || {
                let mut chores = chores;
                ChoresDone { outcome: chores.run(), left: chores.left() }
            });
            log.do_send(done.await);
        });
    }
}

/// What callers learn once the log is closed.
pub fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the write-ahead log is closed")
}

/// Losing the newest committed position does no harm.
fn waits_for_sync(op: &Op) -> bool {
    match op {
        Op::Committed { .. } => false,
        Op::Vote { .. } => !planted!("skip-vote-sync"),
        _ => true,
    }
}

impl Batch {
    /// Adds what has not been added yet.
    fn add_to(&mut self, files: &mut Files) -> Result<(), Error> {
        while let Some(op) = self.ops.get(self.added.0) {
            match op {
                Op::Append { entries, .. } => {
                    for entry in &entries[self.added.1..] {
                        self.locations.push((entry.at, files.add_entry(entry)?));
                        self.added.1 += 1;
                    }
                }
                Op::Vote { vote, .. } => files.add_vote(vote)?,
                Op::Committed { committed } => files.add_committed(committed)?,
                Op::Truncate { after } => files.add_truncate(*after)?,
                Op::Purge { up_to } => files.add_purge(*up_to)?,
                Op::GiveUp | Op::Close { .. } => (),
            }
            self.added = (self.added.0 + 1, 0);
        }
        Ok(())
    }
}
