//! Proposals of this member that wait until its own state machine applies them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Error;
use super::command::Answer;
use crate::world::{NodeId, Random};

/// What a proposal came to. An error of the state machine did not happen.
pub type Outcome = Result<Answer, Error>;

/// The proposals under way, by request ID.
#[derive(Debug)]
pub struct Waiting {
    /// The upper bits are drawn at start, so that no other member, nor this one before a restart, gives the same IDs.
    next: AtomicU64,
    prefix: u64,
    max: usize,
    waiters: Mutex<BTreeMap<u64, oneshot::Sender<Outcome>>>,
}

/// IDs of one run of one member share the bits above these.
const COUNTER_BITS: u32 = 40;

/// Carries the low bits of a number to the high ones: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Waiting {
    pub fn new(random: &Random, node: NodeId, max: usize) -> Waiting {
        // Members of a simulation may draw the same numbers; their own IDs set them apart.
        let prefix = (random.u64() ^ node.0.wrapping_mul(SPREAD)) >> COUNTER_BITS;
        Waiting { next: AtomicU64::new(1), prefix, max, waiters: Mutex::default() }
    }

    /// A fresh request ID and where its outcome will arrive.
    pub fn register(&self) -> Result<(u64, oneshot::Receiver<Outcome>), Error> {
        let counter = self.next.fetch_add(1, Ordering::Relaxed) & ((1 << COUNTER_BITS) - 1);
        let id = self.prefix << COUNTER_BITS | counter;
        let (sender, receiver) = oneshot::channel();
        let mut waiters = self.lock();
        if waiters.len() >= self.max {
            return Err(Error::TooManyRequests);
        }
        waiters.insert(id, sender);
        Ok((id, receiver))
    }

    /// Whether someone here waits for `id`.
    pub fn waits(&self, id: u64) -> bool {
        id >> COUNTER_BITS == self.prefix && self.lock().contains_key(&id)
    }

    pub fn answer(&self, id: u64, outcome: Outcome) {
        // Whoever stopped waiting does not want it.
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
        let waiting = Waiting::new(&Random::from_seed(1), NodeId(1), 2);
        let (one, mut first) = waiting.register().unwrap();
        let (two, mut second) = waiting.register().unwrap();
        assert_eq!(waiting.register().unwrap_err(), Error::TooManyRequests);
        assert!(waiting.waits(one) && waiting.waits(two) && !waiting.waits(one ^ 1 << 63));
        waiting.answer_all([(two, Ok(Answer::Done)), (7, Ok(Answer::Done))]);
        assert!(first.try_recv().is_err());
        assert_eq!(second.try_recv().unwrap(), Ok(Answer::Done));
        waiting.forget(one);
        assert!(!waiting.waits(one));
        let other = Waiting::new(&Random::from_seed(1), NodeId(2), 2);
        assert!(!other.waits(one), "members tell their requests apart even when they draw the same numbers");
        assert_ne!(other.register().unwrap().0, one);
    }
}
