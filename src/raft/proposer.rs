//! The queue of commands not yet in the log.
//!
//! Owns: commands from the moment they are handed in until the leader's log has them. Hears: [`Propose`] from the
//! handle, how batches ended, and who leads. Says: one entry for each drained batch, to openraft when this member
//! leads, else to the leader.
//!
//! A command that is bound to a term is proposed by this member as the leader of that term, or refused. Others go to
//! whoever leads.
//!
//! The proposer refuses a command only while the command is certainly in no log. Once it may be in one, the proposer
//! says nothing: the caller's own state machine or deadline tells the outcome. The gate in the handle bounds the queue.
//! If the actor dies, commands stay unanswered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, StreamHandler, WrapFuture};
use actix::{ActorContext, SpawnHandle};
use bytes::Bytes;
use futures::FutureExt;
use openraft::errors::{ClientWriteError, Fatal};
use openraft::raft::ClientWriteResult;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use super::encoding::pack;
use super::peers::{CallError, Peers, Purpose};
use super::state_machine::Raft;
use super::types::{Callback, CommandBatch, Types, leader_of};
use super::wire::{FORWARD, Forwarded, PeerMessage};
use super::{Leadership, Refused};
use crate::actor::Permit;
use crate::world::failpoints::failpoint;
use crate::world::planted::planted;
use crate::world::{Instant, Term, World};

/// Bytes of one entry; a larger command has an entry for itself.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Batches on their way to the leader.
const FORWARDS_MAX: usize = 32;
/// Pause before a command that came back is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// Called when a command certainly never will be in the log.
pub(super) type OnRefused = Box<dyn FnOnce(Refused) + Send>;

/// Put a command into the log.
pub(super) struct Propose {
    pub command: Bytes,
    /// The command enters the log while this member leads in this term, or never.
    pub term: Option<Term>,
    pub refused: OnRefused,
    pub permit: Permit,
}

impl Message for Propose {
    type Result = ();
}

/// Refuse what is still waiting, and end.
pub(super) struct Stop;

impl Message for Stop {
    type Result = ();
}

struct Flush;

impl Message for Flush {
    type Result = ();
}

/// A batch that is not in the log, or may not be.
struct Ended {
    commands: Vec<Waiting>,
    fate: Fate,
}

impl Message for Ended {
    type Result = ();
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is in the log, or may be: nothing to say.
    Silence,
    /// It is not, and may be tried again.
    Back,
    Refused(Refused),
}

struct Waiting {
    command: Bytes,
    term: Option<Term>,
    refused: OnRefused,
    since: Instant,
    _permit: Permit,
}

/// Where commands go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Here,
    Member(u64),
    Nowhere,
}

fn route(leadership: &Leadership) -> Route {
    match leadership.leader {
        _ if leadership.is_leader => Route::Here,
        Some(leader) => Route::Member(leader.0),
        None => Route::Nowhere,
    }
}

/// How many of the first commands make one entry, at most `commands_max`.
fn batch_len(sizes: impl Iterator<Item = usize>, commands_max: usize) -> usize {
    let mut total = 0usize;
    let fit = sizes
        .take(commands_max)
        .take_while(|size| {
            total = total.saturating_add(*size);
            total <= BATCH_BYTES_MAX
        })
        .count();
    fit.max(1)
}

/// Whether openraft refused the write before it reached the log.
pub(super) fn surely_not(error: &ClientWriteError<Types>) -> bool {
    matches!(error, ClientWriteError::ForwardToLeader(_))
}

fn fate_of_write(result: &ClientWriteResult<Types>) -> Fate {
    match result {
        Err(error) if surely_not(error) => Fate::Back,
        _ => Fate::Silence,
    }
}

fn fate_of_forward(answer: &Result<Forwarded, CallError>) -> Fate {
    match answer {
        Ok(Forwarded::NotLeader) | Err(CallError::Unreached { .. }) => Fate::Back,
        Ok(Forwarded::Busy) => Fate::Refused(Refused::Busy),
        Ok(Forwarded::Malformed) => Fate::Refused(Refused::Malformed),
        Err(CallError::Failed { status, .. }) if status.code() == tonic::Code::FailedPrecondition => Fate::Back,
        Ok(Forwarded::Committed | Forwarded::Unknown) | Err(_) => Fate::Silence,
    }
}

/// Keeps commands until they are in the leader's log.
pub(super) struct Proposer {
    pub world: World,
    pub raft: Raft,
    pub peers: Arc<Peers>,
    pub leadership: watch::Receiver<Leadership>,
    /// How long a command waits for a leader.
    pub patience: Duration,
    /// For the answer to a forwarded batch.
    pub forward_limit: Duration,
    /// Commands of one entry.
    pub batch_commands_max: usize,
    pub queue: Queue,
}

/// The commands that the proposer keeps, and what it waits for.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    flush_scheduled: bool,
    /// openraft's channel is full: the proposer waits for it before it hands over anything else.
    parked: bool,
    pause: Option<SpawnHandle>,
    forwards: usize,
}

impl Actor for Proposer {
    type Context = Context<Proposer>;

    fn started(&mut self, ctx: &mut Context<Proposer>) {
        ctx.add_stream(WatchStream::new(self.leadership.clone()));
        ctx.run_interval(self.patience / 4, |proposer, _| proposer.expire());
    }
}

impl Handler<Propose> for Proposer {
    type Result = ();

    fn handle(&mut self, propose: Propose, ctx: &mut Context<Proposer>) {
        let Propose { command, term, refused, permit } = propose;
        let since = self.world.clock.now();
        self.queue.waiting.push_back(Waiting { command, term, refused, since, _permit: permit });
        // Notified items run once the mailbox is drained.
        if !std::mem::replace(&mut self.queue.flush_scheduled, true) {
            ctx.notify(Flush);
        }
    }
}

impl Handler<Flush> for Proposer {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Context<Proposer>) {
        self.queue.flush_scheduled = false;
        self.flush(ctx);
    }
}

impl StreamHandler<Leadership> for Proposer {
    fn handle(&mut self, _: Leadership, ctx: &mut Context<Proposer>) {
        if let Some(pause) = self.queue.pause.take() {
            ctx.cancel_future(pause);
        }
        self.flush(ctx);
    }

    fn finished(&mut self, _: &mut Context<Proposer>) {}
}

impl Handler<Ended> for Proposer {
    type Result = ();

    fn handle(&mut self, ended: Ended, ctx: &mut Context<Proposer>) {
        match ended.fate {
            Fate::Silence => (),
            Fate::Refused(reason) => refuse(ended.commands, reason),
            Fate::Back => self.take_back(ended.commands, ctx),
        }
    }
}

impl Handler<Stop> for Proposer {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Proposer>) {
        refuse(self.queue.waiting.drain(..), Refused::Stopped);
        ctx.stop();
    }
}

fn refuse(commands: impl IntoIterator<Item = Waiting>, reason: Refused) {
    commands.into_iter().for_each(|waiting| (waiting.refused)(reason));
}

impl Proposer {
    fn flush(&mut self, ctx: &mut Context<Proposer>) {
        while !self.queue.parked && self.queue.pause.is_none() && !self.queue.waiting.is_empty() {
            let known = *self.leadership.borrow();
            let term = self.queue.waiting.front().and_then(|first| first.term);
            if term.is_some_and(|term| !known.is_leader || known.term != term) {
                refuse(self.next_batch(), Refused::NotLeader);
                continue;
            }
            match route(&known) {
                Route::Here => self.propose(term, ctx),
                Route::Member(leader) if self.queue.forwards < FORWARDS_MAX => self.forward(leader, ctx),
                Route::Member(_) | Route::Nowhere => return,
            }
        }
    }

    /// The first commands, as far as they go the same way.
    fn next_batch(&mut self) -> Vec<Waiting> {
        let waiting = &mut self.queue.waiting;
        let term = waiting.front().and_then(|first| first.term);
        let alike = waiting.iter().take_while(|waiting| waiting.term == term);
        let length = batch_len(alike.map(|waiting| waiting.command.len()), self.batch_commands_max);
        waiting.drain(..length).collect()
    }

    fn propose(&mut self, term: Option<Term>, ctx: &mut Context<Proposer>) {
        failpoint!("raftBeforeLeaderSend");
        let commands = self.next_batch();
        let batch = packed(&commands);
        let me = ctx.address();
        let hear = Callback::new(move |result: ClientWriteResult<Types>| {
            let fate = fate_of_write(&result);
            if fate != Fate::Silence {
                me.do_send(Ended { commands, fate });
            }
        });
        let raft = self.raft.clone();
        let mut call = async move {
            match term {
                Some(term) => raft.write(batch).responder(hear).with_leader(leader_of(term)).await,
                None => raft.client_write_ff(batch, Some(hear)).await,
            }
        }
        .boxed();
        // tokio's budget would make a channel look full that is not, and a pending call must not be dropped.
        match tokio::task::unconstrained(&mut call).now_or_never() {
            Some(result) => handed_over(result),
            None => self.park(call, ctx),
        }
    }

    fn park(&mut self, call: impl Future<Output = Result<(), Fatal<Types>>> + 'static, ctx: &mut Context<Proposer>) {
        self.queue.parked = true;
        ctx.spawn(call.into_actor(self).map(|result, proposer, ctx| {
            handed_over(result);
            proposer.queue.parked = false;
            proposer.flush(ctx);
        }));
    }

    fn forward(&mut self, leader: u64, ctx: &mut Context<Proposer>) {
        self.queue.forwards += 1;
        let commands = self.next_batch();
        let frame = PeerMessage::with_body(&(), vec![packed(&commands).0]);
        let (peers, limit) = (self.peers.clone(), self.forward_limit);
        // On the shared runtime: connections must not live on this actor's thread.
        let call = async move {
            if planted!("forward-twice") {
                let _ = peers.call::<Forwarded>(leader, Purpose::Log, FORWARD, frame.clone(), limit).await;
            }
            peers.call(leader, Purpose::Log, FORWARD, frame, limit).await
        };
        let call = self.world.spawner.task(call);
        ctx.spawn(call.into_actor(self).map(move |answer, proposer, ctx| {
            let answer = answer.unwrap_or(Ok(Forwarded::Unknown));
            proposer.queue.forwards -= 1;
            if !matches!(answer, Ok(Forwarded::Committed)) {
                tracing::debug!(leader, ?answer, "a forwarded batch was not confirmed");
            }
            let fate = fate_of_forward(&answer);
            Handler::handle(proposer, Ended { commands, fate }, ctx);
            proposer.flush(ctx);
        }));
    }

    /// Puts commands that came back at the front again, unless they have waited too long. Commands that are bound to a
    /// term are not tried again, because later ones of that term must not overtake them.
    fn take_back(&mut self, commands: Vec<Waiting>, ctx: &mut Context<Proposer>) {
        let (commands, bound): (Vec<_>, Vec<_>) = commands.into_iter().partition(|waiting| waiting.term.is_none());
        refuse(bound, Refused::NotLeader);
        let now = self.world.clock.now();
        let (patient, tired): (Vec<_>, Vec<_>) =
            commands.into_iter().partition(|waiting| now < waiting.since + self.patience);
        refuse(tired, Refused::NoLeader);
        patient.into_iter().rev().for_each(|waiting| self.queue.waiting.push_front(waiting));
        if self.queue.pause.is_none() {
            self.queue.pause = Some(ctx.run_later(RETRY, |proposer, ctx| {
                proposer.queue.pause = None;
                proposer.flush(ctx);
            }));
        }
    }

    /// Refuses what has waited for a leader too long.
    fn expire(&mut self) {
        if route(&self.leadership.borrow()) != Route::Nowhere {
            return;
        }
        let now = self.world.clock.now();
        let tired = self.queue.waiting.iter().take_while(|waiting| waiting.since + self.patience <= now).count();
        refuse(self.queue.waiting.drain(..tired), Refused::NoLeader);
    }
}

fn packed(commands: &[Waiting]) -> CommandBatch {
    pack(commands.iter().map(|waiting| &waiting.command))
}

fn handed_over(result: Result<(), Fatal<Types>>) {
    if let Err(error) = result {
        tracing::warn!(%error, "consensus has stopped and took no batch");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::config::BATCH_COMMANDS_MAX;
    use crate::world::NodeId;

    #[test]
    fn a_batch_is_bounded_and_never_empty() {
        assert_eq!(batch_len(std::iter::repeat_n(10, 1_000), BATCH_COMMANDS_MAX), BATCH_COMMANDS_MAX);
        assert_eq!(batch_len([BATCH_BYTES_MAX / 2, BATCH_BYTES_MAX / 2, 1].into_iter(), BATCH_COMMANDS_MAX), 2);
        assert_eq!(batch_len([BATCH_BYTES_MAX * 4, 1].into_iter(), BATCH_COMMANDS_MAX), 1);
    }

    #[test]
    fn commands_go_to_the_leader() {
        let known =
            |leader: Option<u64>, is_leader| Leadership { leader: leader.map(NodeId), term: Term(1), is_leader };
        assert_eq!(route(&known(Some(1), true)), Route::Here);
        assert_eq!(route(&known(Some(2), false)), Route::Member(2));
        assert_eq!(route(&known(None, false)), Route::Nowhere);
    }

    #[test]
    fn only_what_surely_did_not_happen_comes_back() {
        let unreached = CallError::Unreached { target: 1, reason: String::new() };
        let failed = |code| CallError::Failed { target: 1, status: tonic::Status::new(code, "") };
        for (answer, fate) in [
            (Ok(Forwarded::Committed), Fate::Silence),
            (Ok(Forwarded::Unknown), Fate::Silence),
            (Ok(Forwarded::NotLeader), Fate::Back),
            (Ok(Forwarded::Busy), Fate::Refused(Refused::Busy)),
            (Ok(Forwarded::Malformed), Fate::Refused(Refused::Malformed)),
            (Err(unreached), Fate::Back),
            (Err(failed(tonic::Code::Unavailable)), Fate::Silence),
            (Err(failed(tonic::Code::FailedPrecondition)), Fate::Back),
            (Err(CallError::Timeout { target: 1, limit: Duration::ZERO }), Fate::Silence),
        ] {
            assert_eq!(fate_of_forward(&answer), fate, "{answer:?}");
        }
    }
}
