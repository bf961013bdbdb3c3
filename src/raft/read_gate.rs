//! Linearizable reads that wait for their index.
//!
//! Owns: the reads that arrived and have no index yet. Hears: [`Read`] from the handle. Says: the index up to which
//! the local state must be applied. One round asks for all that wait: of the quorum when this member leads, else of
//! the leader. A read that arrives while a round is under way waits for the next one, since the round's index may be
//! older than the read. Bounded by the gate in the handle; if the actor dies, reads end with [`Error::Stopped`].

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::{oneshot, watch};

use super::peers::{Peers, Purpose, empty};
use super::state_machine::Raft;
use super::types::position;
use super::wire::{READ_INDEX, ReadIndex};
use super::{Error, Leadership};
use crate::actor::Permit;
use crate::world::planted::planted;
use crate::world::{Instant, World};

/// Pause before the leader, or the next one, is asked again.
const RETRY: Duration = Duration::from_millis(20);

/// Ask for the index of a read.
pub(super) struct Read {
    pub deadline: Instant,
    pub reply: oneshot::Sender<Result<u64, Error>>,
    pub _permit: Permit,
}

impl Message for Read {
    type Result = ();
}

/// End; reads that wait are answered.
pub(super) struct Stop;

impl Message for Stop {
    type Result = ();
}

/// Keeps reads until a round has an index for them.
pub(super) struct ReadGate {
    pub rounds: Rounds,
    pub waiting: Vec<Read>,
    pub under_way: bool,
}

/// What a round needs.
#[derive(Clone)]
pub(super) struct Rounds {
    pub world: World,
    pub raft: Raft,
    pub peers: Arc<Peers>,
    pub leadership: watch::Receiver<Leadership>,
    /// How long a round waits for a leader.
    pub patience: Duration,
    /// For the leader's answer.
    pub call_limit: Duration,
}

impl Actor for ReadGate {
    type Context = Context<ReadGate>;
}

impl Handler<Read> for ReadGate {
    type Result = ();

    fn handle(&mut self, read: Read, ctx: &mut Context<ReadGate>) {
        self.waiting.push(read);
        self.begin(ctx);
    }
}

impl Handler<Stop> for ReadGate {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<ReadGate>) {
        answer(std::mem::take(&mut self.waiting), &Err(Error::Stopped));
        ctx.stop();
    }
}

impl ReadGate {
    /// Starts a round for all that wait, unless one is under way.
    fn begin(&mut self, ctx: &mut Context<ReadGate>) {
        self.waiting.retain(|read| !read.reply.is_closed());
        let Some(latest) = self.waiting.iter().map(|read| read.deadline).max() else { return };
        if std::mem::replace(&mut self.under_way, true) {
            return;
        }
        let reads = std::mem::take(&mut self.waiting);
        // On the shared runtime: connections must not live on this actor's thread.
        let round = self.rounds.world.spawner.task(self.rounds.clone().run(latest));
        ctx.spawn(round.into_actor(self).map(|result, gate, ctx| {
            answer(reads, &result.unwrap_or(Err(Error::Stopped)));
            gate.under_way = false;
            gate.begin(ctx);
        }));
    }
}

fn answer(reads: Vec<Read>, result: &Result<u64, Error>) {
    // A reader whose deadline passed has gone; nobody needs to know.
    reads.into_iter().for_each(|read| drop(read.reply.send(result.clone())));
}

impl Rounds {
    /// Asks until there is an answer. Asking again is harmless: a read changes nothing.
    async fn run(mut self, latest: Instant) -> Result<u64, Error> {
        let mut leaderless_since = None;
        loop {
            let now = self.world.clock.now();
            if now >= latest {
                return Err(Error::Timeout);
            }
            let known = *self.leadership.borrow_and_update();
            let index = match known.leader {
                _ if known.is_leader => confirmed_index(&self.raft).await,
                Some(leader) => self.ask(leader.0).await,
                None if now >= *leaderless_since.get_or_insert(now) + self.patience => return Err(Error::NoLeader),
                None => None,
            };
            if known.leader.is_some() {
                leaderless_since = None;
            }
            match index {
                Some(index) => return Ok(index),
                None => self.pause().await?,
            }
        }
    }

    async fn ask(&self, leader: u64) -> Option<u64> {
        let answer = self.peers.call(leader, Purpose::Control, READ_INDEX, empty(), self.call_limit).await;
        match answer {
            Ok(ReadIndex::At(index)) => Some(index),
            Ok(ReadIndex::NotLeader) => None,
            Err(error) => {
                tracing::debug!(leader, %error, "no read index");
                None
            }
        }
    }

    /// Until leadership changes, or a moment.
    async fn pause(&mut self) -> Result<(), Error> {
        match self.world.clock.timeout(RETRY, self.leadership.changed()).await {
            Ok(Err(_)) => Err(Error::Stopped),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }
}

/// On the leader: the index up to which everything was committed before the call, after a quorum confirmed that it
/// still leads.
pub(super) async fn confirmed_index(raft: &Raft) -> Option<u64> {
    if planted!("read-without-quorum") {
        return raft.data_metrics().borrow_watched().last_applied.map(|at| position(&at).index);
    }
    match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => Some(position(linearizer.read_log_id().log_id()).index),
        Err(error) => {
            tracing::debug!(%error, "leadership was not confirmed");
            None
        }
    }
}
