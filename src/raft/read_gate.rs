//! Linearizable reads that wait for their read index: how far the local state must be applied before they are answered.
//!
//! One confirmation of leadership serves every read that came before it began. When this member leads, it asks a
//! quorum, else it asks the leader. A read that comes while a confirmation is under way waits for the next one, because
//! the index of that confirmation may be older than the read. [`Limits::reads_max`](super::Limits) reads wait at most.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::{oneshot, watch};

use super::context::ReplicaContext;
use super::peers::{Peers, Purpose, empty};
use super::state_machine::Raft;
use super::types::position;
use super::wire::{READ_INDEX, ReadIndex};
use super::{Error, Leadership};
use crate::actor::{Gate, Permit};
use crate::world::planted::planted;
use crate::world::{Instant, World};

/// Pause before the leader, or the next one, is asked again.
const RETRY: Duration = Duration::from_millis(20);

/// Gives reads their index.
pub(super) struct ReadGate {
    world: World,
    raft: Raft,
    peers: Arc<Peers>,
    leadership: watch::Receiver<Leadership>,
    /// How long a confirmation waits for a leader.
    patience: Duration,
    /// For the leader's answer.
    call_limit: Duration,
    admission: Gate,
    queue: Mutex<Queue>,
}

/// A read without an index.
struct Read {
    deadline: Instant,
    reply: oneshot::Sender<Result<u64, Error>>,
    _permit: Permit,
}

/// The reads without an index.
#[derive(Default)]
struct Queue {
    /// For the next confirmation.
    waiting: Vec<Read>,
    /// For the confirmation that is under way.
    confirming: Vec<Read>,
    under_way: bool,
    stopped: bool,
}

impl Queue {
    /// Adds a read. Returns the deadline of a confirmation that begins now.
    fn add(&mut self, read: Read) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        self.waiting.push(read);
        if self.under_way { None } else { self.begin() }
    }

    /// Begins a confirmation for all reads that wait, unless nobody waits. Returns the latest of their deadlines.
    fn begin(&mut self) -> Option<Instant> {
        self.waiting.retain(|read| !read.reply.is_closed());
        let latest = self.waiting.iter().map(|read| read.deadline).max();
        self.confirming = std::mem::take(&mut self.waiting);
        self.under_way = latest.is_some();
        latest
    }

    /// Ends a confirmation, and begins the next one. Returns the reads that the ended one serves, and the deadline of
    /// the next one.
    fn turn(&mut self) -> (Vec<Read>, Option<Instant>) {
        (std::mem::take(&mut self.confirming), self.begin())
    }

    /// Takes no more reads. Returns those that wait.
    fn stop(&mut self) -> Vec<Read> {
        self.stopped = true;
        let mut reads = std::mem::take(&mut self.confirming);
        reads.append(&mut self.waiting);
        reads
    }
}

fn answer(reads: Vec<Read>, index: &Result<u64, Error>) {
    // A reader whose deadline passed has gone.
    reads.into_iter().for_each(|read| drop(read.reply.send(index.clone())));
}

impl ReadGate {
    pub fn new(context: &ReplicaContext, leadership: watch::Receiver<Leadership>, reads_max: usize) -> ReadGate {
        ReadGate {
            world: context.world.clone(),
            raft: context.raft.clone(),
            peers: context.peers.clone(),
            leadership,
            patience: context.timings.election.end,
            call_limit: context.timings.election.start,
            admission: Gate::new(reads_max),
            queue: Mutex::default(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index up to which everything was committed anywhere before the call. A confirmation ends at the latest
    /// deadline of its reads; the caller keeps its own.
    pub async fn read_index(self: &Arc<Self>, deadline: Instant) -> Result<u64, Error> {
        let permit = self.admission.enter().map_err(|_| Error::Busy)?;
        let (reply, index) = oneshot::channel();
        let begun = self.queue().add(Read { deadline, reply, _permit: permit });
        if let Some(latest) = begun {
            // In a task of its own, because it serves other reads, too: this one, and whoever asks, may be given up.
            self.world.spawner.detached(self.clone().confirm(latest));
        }
        index.await.map_err(|_| Error::Stopped)?
    }

    /// How many reads have no index yet.
    pub fn waiting(&self) -> usize {
        self.admission.measure()().waiting
    }

    /// Answers the reads that wait, and takes no more.
    pub fn stop(&self) {
        let reads = self.queue().stop();
        answer(reads, &Err(Error::Stopped));
    }

    /// Makes one confirmation after the other until no read waits.
    async fn confirm(self: Arc<Self>, mut latest: Instant) {
        loop {
            let index = self.confirmed_by(latest).await;
            let (reads, next) = self.queue().turn();
            answer(reads, &index);
            match next {
                Some(deadline) => latest = deadline,
                None => return,
            }
        }
    }

    /// Asks until there is an answer. Asking again is harmless: a read changes nothing.
    async fn confirmed_by(&self, latest: Instant) -> Result<u64, Error> {
        let mut leadership = self.leadership.clone();
        let mut leaderless_since = None;
        loop {
            let now = self.world.clock.now();
            if now >= latest {
                return Err(Error::Timeout);
            }
            let known = *leadership.borrow_and_update();
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
                None => self.pause(&mut leadership).await?,
            }
        }
    }

    async fn ask(&self, leader: u64) -> Option<u64> {
        let answer = self.peers.call(leader, Purpose::Control, READ_INDEX, empty(), self.call_limit).await;
        match answer {
            Ok(ReadIndex::At(index)) => Some(index),
            Ok(ReadIndex::NotLeader) => None,
            Err(error) => {
                tracing::debug!(leader, %error, "the leader gave no read index");
                None
            }
        }
    }

    /// Waits until leadership changes, or for a moment.
    async fn pause(&self, leadership: &mut watch::Receiver<Leadership>) -> Result<(), Error> {
        match self.world.clock.timeout(RETRY, leadership.changed()).await {
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

#[cfg(test)]
mod tests {
    use super::*;

    type Index = oneshot::Receiver<Result<u64, Error>>;

    fn read(admission: &Gate, deadline: Instant) -> (Read, Index) {
        let (reply, index) = oneshot::channel();
        (Read { deadline, reply, _permit: admission.enter().unwrap() }, index)
    }

    #[test]
    fn a_read_that_comes_during_a_confirmation_waits_for_the_next_one() {
        let (admission, soon) = (Gate::new(8), Instant::now());
        let later = soon + Duration::from_secs(1);
        let mut queue = Queue::default();
        let ((first, mut now), (second, mut next)) = (read(&admission, soon), read(&admission, later));
        let ((third, mut next_too), (fourth, _last)) = (read(&admission, soon), read(&admission, soon));
        assert_eq!(queue.add(first), Some(soon));
        assert_eq!((queue.add(second), queue.add(third)), (None, None), "a confirmation is under way");
        let (served, begun) = queue.turn();
        answer(served, &Ok(7));
        assert_eq!((now.try_recv(), begun), (Ok(Ok(7)), Some(later)));
        assert!(next.try_recv().is_err() && next_too.try_recv().is_err());
        let (served, begun) = queue.turn();
        answer(served, &Ok(9));
        assert_eq!((next.try_recv(), next_too.try_recv(), begun), (Ok(Ok(9)), Ok(Ok(9)), None));
        assert_eq!(queue.add(fourth), Some(soon), "no confirmation is under way");
    }

    #[test]
    fn a_reader_that_goes_away_makes_room_when_the_next_confirmation_begins() {
        let (admission, deadline) = (Gate::new(2), Instant::now());
        let mut queue = Queue::default();
        let ((first, _stays), (second, leaves)) = (read(&admission, deadline), read(&admission, deadline));
        queue.add(first);
        queue.add(second);
        drop(leaves);
        assert!(admission.enter().is_err(), "as many wait as may");
        let (served, begun) = queue.turn();
        assert_eq!((served.len(), begun), (1, None));
        assert!(admission.enter().is_ok());
    }

    #[test]
    fn a_stopped_gate_answers_every_read() {
        let (admission, deadline) = (Gate::new(8), Instant::now());
        let mut queue = Queue::default();
        let ((first, mut confirming), (second, mut waiting)) = (read(&admission, deadline), read(&admission, deadline));
        let (third, mut late) = read(&admission, deadline);
        queue.add(first);
        queue.add(second);
        answer(queue.stop(), &Err(Error::Stopped));
        assert_eq!((confirming.try_recv(), waiting.try_recv()), (Ok(Err(Error::Stopped)), Ok(Err(Error::Stopped))));
        assert_eq!(queue.add(third), None);
        assert_eq!(late.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let (served, begun) = queue.turn();
        assert!(served.is_empty() && begun.is_none());
    }
}
