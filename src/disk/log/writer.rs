//! `Log`: owns the log's files. It hears from [`LogHandle`](super::LogHandle) alone, and answers through the callbacks
//! it was given, in the order of the queue.
//!
//! Messages that arrive while the disk is busy gather in the mailbox and become one write and one sync. The mailbox is
//! bounded by those who fill it: the replica has a bounded number of entries under way. A write that fails poisons the
//! log: everything after it is refused with the same error, and the replica stops. A sync that fails ends the process.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::chores::Chores;
use super::files::{Files, Place};
use super::metrics::Metrics;
use super::window::Window;
use super::{Done, Entry};
use crate::disk::{Error, Position};
use crate::world::failpoints::failpoint;
use crate::world::planted::planted;
use crate::world::{Clock, Spawner, World};

/// What is asked of the log.
pub enum Op {
    Append { entries: Vec<Entry>, done: Done },
    Vote { vote: Bytes, done: Done },
    Committed { committed: Bytes },
    Truncate { after: u64 },
    Purge { up_to: Position },
    Close { done: oneshot::Sender<io::Result<()>> },
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
struct ChoresDone(Result<(), Error>);

impl Message for ChoresDone {
    type Result = ();
}

/// Owns the log's files.
pub struct Log {
    spawner: Spawner,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// `None` after the log was closed.
    files: Option<Files>,
    window: Arc<Mutex<Window<Place>>>,
    pending: Vec<Op>,
    /// Why the log takes nothing more.
    poisoned: Option<(io::ErrorKind, String)>,
    released: Vec<PathBuf>,
    chores_running: bool,
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
        if self.pending.is_empty() {
            ctx.notify(Flush);
        }
        self.pending.push(op);
    }
}

impl Handler<Flush> for Log {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Context<Log>) {
        let ops = std::mem::take(&mut self.pending);
        if self.poisoned.is_none()
            && let Err(error) = self.persist(&ops)
        {
            tracing::error!(%error, "the write-ahead log can't be written; this node stops");
            let error = io::Error::from(error);
            self.poisoned = Some((error.kind(), error.to_string()));
        }
        for op in ops {
            self.answer(op, ctx);
        }
        failpoint!("raftBeforeAdvance");
        self.start_chores(ctx);
    }
}

impl Handler<ChoresDone> for Log {
    type Result = ();

    fn handle(&mut self, ChoresDone(result): ChoresDone, ctx: &mut Context<Log>) {
        self.chores_running = false;
        if let Some(files) = &mut self.files {
            files.chores_done();
        }
        match result {
            Ok(()) => self.start_chores(ctx),
            Err(error) => tracing::warn!(%error, "no segment of the write-ahead log could be prepared ahead"),
        }
    }
}

impl Log {
    pub fn new(world: &World, files: Files, window: Arc<Mutex<Window<Place>>>, metrics: Arc<Metrics>) -> Log {
        Log {
            spawner: world.spawner.clone(),
            clock: world.clock.clone(),
            metrics,
            files: Some(files),
            window,
            pending: Vec::new(),
            poisoned: None,
            released: Vec::new(),
            chores_running: false,
        }
    }

    /// Makes a drained queue durable: one write, one sync.
    fn persist(&mut self, ops: &[Op]) -> Result<(), Error> {
        let Some(files) = &mut self.files else { return Err(super::closed().into()) };
        let mut places = Vec::new();
        for op in ops {
            add(files, op, &mut places)?;
        }
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
        for (at, place) in places {
            window.placed(at, place);
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
            Op::Committed { .. } | Op::Truncate { .. } | Op::Purge { .. } => (),
            Op::Close { done } => self.close(result, done, ctx),
        }
    }

    fn close(&mut self, result: io::Result<()>, done: oneshot::Sender<io::Result<()>>, ctx: &mut Context<Log>) {
        let files = self.files.take();
        let closed = result.and_then(|()| files.map_or(Ok(()), |mut files| Ok(files.close()?)));
        self.poisoned.get_or_insert_with(|| {
            let error = super::closed();
            (error.kind(), error.to_string())
        });
        // The one who closed may have gone.
        let _ = done.send(closed);
        ctx.stop();
    }

    fn start_chores(&mut self, ctx: &mut Context<Log>) {
        let Some(files) = self.files.as_ref().filter(|_| !self.chores_running && self.poisoned.is_none()) else {
            return;
        };
        let Some(chores) = files.chores(std::mem::take(&mut self.released)) else { return };
        self.chores_running = true;
        let (log, spawner) = (ctx.address(), self.spawner.clone());
        self.spawner.task(async move {
            let result = spawner.blocking(move || Chores::run(chores)).await;
            log.do_send(ChoresDone(result));
        });
    }
}

/// The newest committed position may be lost.
fn waits_for_sync(op: &Op) -> bool {
    match op {
        Op::Committed { .. } => false,
        Op::Vote { .. } => !planted!("skip-vote-sync"),
        _ => true,
    }
}

fn add(files: &mut Files, op: &Op, places: &mut Vec<(Position, Place)>) -> Result<(), Error> {
    match op {
        Op::Append { entries, .. } => {
            for entry in entries {
                places.push((entry.at, files.add_entry(entry)?));
            }
            Ok(())
        }
        Op::Vote { vote, .. } => files.add_vote(vote),
        Op::Committed { committed } => files.add_committed(committed),
        Op::Truncate { after } => files.add_truncate(*after),
        Op::Purge { up_to } => files.add_purge(*up_to),
        Op::Close { .. } => Ok(()),
    }
}
