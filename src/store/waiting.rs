//! Proposals of this member that wait until its own state machine applies them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chorus_proto::etcdserverpb as pb;
use tokio::sync::oneshot;

use super::Error;
use super::command::Answer;
use crate::world::NodeId;

/// The outcome of a proposal. With an error of the state machine it did not happen.
pub type Outcome = Result<Answer, Error>;

/// The proposals under way, by request ID. No two proposals of a cluster have the same name: it is made of the member,
/// which of its runs this is, and the count of the proposal in this run.
#[derive(Debug)]
pub struct Waiting {
    member: NodeId,
    run: u64,
    next: AtomicU64,
    max: usize,
    waiters: Mutex<BTreeMap<u64, oneshot::Sender<Outcome>>>,
}

/// The low bits of an ID count proposals, those above count runs. Both counts wrap around only after so many that no
/// proposal of the first round can still be under way.
const COUNTER_BITS: u32 = 40;

impl Waiting {
    /// `run` differs from that of every earlier run of `member`.
    pub fn new(member: NodeId, run: u64, max: usize) -> Waiting {
        Waiting { member, run, next: AtomicU64::new(1), max, waiters: Mutex::default() }
    }

    /// A fresh request ID and where its outcome will arrive.
    pub fn register(&self) -> Result<(u64, oneshot::Receiver<Outcome>), Error> {
        let counter = self.next.fetch_add(1, Ordering::Relaxed) & ((1 << COUNTER_BITS) - 1);
        let id = self.run << COUNTER_BITS | counter;
        let (sender, receiver) = oneshot::channel();
        let mut waiters = self.lock();
        if waiters.len() >= self.max {
            return Err(Error::TooManyRequests);
        }
        waiters.insert(id, sender);
        Ok((id, receiver))
    }

    /// The header of the proposal `id` of this member.
    pub fn header(&self, id: u64) -> pb::RequestHeader {
        pb::RequestHeader { id, proposer: self.member.0, ..Default::default() }
    }

    /// The ID of the command with this header, if a client of this member waits for it.
    pub fn waits(&self, header: Option<&pb::RequestHeader>) -> Option<u64> {
        let header = header.filter(|header| header.proposer == self.member.0)?;
        self.lock().contains_key(&header.id).then_some(header.id)
    }

    pub fn answer(&self, id: u64, outcome: Outcome) {
        // The client may have stopped waiting.
        let _ = self.forget(id).map(|waiter| waiter.send(outcome));
    }

    pub fn answer_all(&self, outcomes: impl IntoIterator<Item = (u64, Outcome)>) {
        let mut waiters = self.lock();
        for (id, outcome) in outcomes {
            let _ = waiters.remove(&id).map(|waiter| waiter.send(outcome));
        }
    }

    pub fn forget(&self, id: u64) -> Option<oneshot::Sender<Outcome>> {
        self.lock().remove(&id)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Outcome>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_reaches_the_one_who_waits_for_it() {
        let waiting = Waiting::new(NodeId(1), 1, 2);
        let (one, mut first) = waiting.register().unwrap();
        let (two, mut second) = waiting.register().unwrap();
        assert_eq!(waiting.register().unwrap_err(), Error::TooManyRequests);
        assert_eq!(waiting.waits(Some(&waiting.header(one))), Some(one));
        assert_eq!(waiting.waits(Some(&waiting.header(one ^ 1 << 63))), None);
        waiting.answer_all([(two, Ok(Answer::Done)), (7, Ok(Answer::Done))]);
        assert!(first.try_recv().is_err());
        assert_eq!(second.try_recv().unwrap(), Ok(Answer::Done));
        waiting.forget(one);
        assert_eq!(waiting.waits(Some(&waiting.header(one))), None);
    }

    #[test]
    fn members_and_runs_tell_their_proposals_apart() {
        let waiting = Waiting::new(NodeId(1), 1, 2);
        let (id, _outcome) = waiting.register().unwrap();
        let (other, next_run) = (Waiting::new(NodeId(2), 1, 2), Waiting::new(NodeId(1), 2, 2));
        let (theirs, _unheard) = other.register().unwrap();
        assert_eq!(theirs, id, "alike but for the member");
        assert_eq!(waiting.waits(Some(&other.header(theirs))), None);
        assert_eq!(waiting.waits(Some(&pb::RequestHeader { id, ..Default::default() })), None);
        assert_ne!(next_run.register().unwrap().0, id);
    }
}
