//! A queue of keys to work on: each key is queued at most once, never worked on twice at a time, and tried again after
//! a growing pause when it failed. Pure: the caller passes the time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::world::Instant;

/// How much at once, and how long to wait after failures.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Keys worked on at the same time.
    pub parallel_max: usize,
    /// Distinct keys held; further ones are refused.
    pub keys_max: usize,
    /// The pause after a first failure; each further one doubles it.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            parallel_max: 5,
            keys_max: 100_000,
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_secs(60),
        }
    }
}

/// The queue has no room for another key: note that something was missed, and go through everything later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work queue is full")]
pub struct Full;

/// How work on a key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Done for now; look again after this time.
    Again(Duration),
    Failed,
}

/// Keys waiting, being worked on, and waiting for a time to come.
#[derive(Debug)]
pub struct WorkQueue<T> {
    limits: Limits,
    ready: VecDeque<T>,
    /// The keys in `ready`, and since when.
    queued: BTreeMap<T, Instant>,
    /// Keys that wait, and the order in which they come due.
    waiting: BTreeMap<T, Instant>,
    due: BTreeSet<(Instant, T)>,
    /// Keys that are worked on; `true` where the key was added again since.
    running: BTreeMap<T, bool>,
    failures: BTreeMap<T, u32>,
}

impl<T: Ord + Clone> WorkQueue<T> {
    pub fn new(limits: Limits) -> WorkQueue<T> {
        WorkQueue {
            limits,
            ready: VecDeque::new(),
            queued: BTreeMap::new(),
            waiting: BTreeMap::new(),
            due: BTreeSet::new(),
            running: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Asks for work on `key` as soon as possible. A key that is being worked on comes again afterwards.
    pub fn add(&mut self, key: T, now: Instant) -> Result<(), Full> {
        if !self.holds(&key) && self.is_full() {
            return Err(Full);
        }
        self.make_ready(key, now);
        Ok(())
    }

    /// Schedules `key` for a time, unless it is scheduled for an earlier one.
    pub fn add_at(&mut self, key: T, at: Instant) -> Result<(), Full> {
        let earlier = self.waiting.get(&key).is_some_and(|waiting| *waiting <= at);
        if earlier || self.queued.contains_key(&key) {
            return Ok(());
        }
        if !self.holds(&key) && self.is_full() {
            return Err(Full);
        }
        self.wait(key, at);
        Ok(())
    }

    /// The next key to work on, where there is one and not too many are being worked on. Answer with
    /// [`done`](WorkQueue::done).
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        self.promote(now);
        if self.running.len() >= self.limits.parallel_max {
            return None;
        }
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.running.insert(key.clone(), false);
        Some(key)
    }

    /// Ends the work on a key that was popped.
    pub fn done(&mut self, key: &T, now: Instant, outcome: Outcome) {
        let Some(again) = self.running.remove(key) else { return };
        let pause = match outcome {
            Outcome::Failed => Some(self.count_failure(key)),
            Outcome::Again(after) => {
                self.failures.remove(key);
                Some(after)
            }
            Outcome::Done => {
                self.failures.remove(key);
                None
            }
        };
        match pause {
            Some(after) if !again || outcome == Outcome::Failed => {
                self.wait(key.clone(), now + after);
            }
            _ if again => self.make_ready(key.clone(), now),
            _ => {}
        }
    }

    /// Gives a popped key back untouched, to come first again.
    pub fn give_back(&mut self, key: &T, now: Instant) {
        if self.running.remove(key).is_some() {
            self.stop_waiting(key);
            self.queued.insert(key.clone(), now);
            self.ready.push_front(key.clone());
        }
    }

    /// When [`pop`](WorkQueue::pop) has to be tried again although nothing was added or done.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Keys that are ready to be worked on.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Since when the key has waited that comes next.
    pub fn oldest(&self) -> Option<Instant> {
        self.queued.get(self.ready.front()?).copied()
    }

    /// Keys held in any way.
    pub fn len(&self) -> usize {
        self.ready.len() + self.waiting.len() + self.running.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_full(&self) -> bool {
        self.len() >= self.limits.keys_max
    }

    fn count_failure(&mut self, key: &T) -> Duration {
        let failures = self.failures.entry(key.clone()).or_default();
        let pause = self.limits.backoff_min.saturating_mul(1 << (*failures).min(31));
        *failures = failures.saturating_add(1);
        pause.min(self.limits.backoff_max)
    }

    fn wait(&mut self, key: T, at: Instant) {
        self.stop_waiting(&key);
        self.due.insert((at, key.clone()));
        self.waiting.insert(key, at);
    }

    fn stop_waiting(&mut self, key: &T) {
        if let Some(at) = self.waiting.remove(key) {
            self.due.remove(&(at, key.clone()));
        }
    }

    fn promote(&mut self, now: Instant) {
        while let Some((_, key)) = self.due.first().filter(|(at, _)| *at <= now).cloned() {
            self.make_ready(key, now);
        }
    }

    fn make_ready(&mut self, key: T, now: Instant) {
        self.stop_waiting(&key);
        if let Some(again) = self.running.get_mut(&key) {
            *again = true;
        } else if let Entry::Vacant(entry) = self.queued.entry(key) {
            self.ready.push_back(entry.key().clone());
            entry.insert(now);
        }
    }

    fn holds(&self, key: &T) -> bool {
        self.queued.contains_key(key) || self.running.contains_key(key) || self.waiting.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn queue(parallel_max: usize) -> WorkQueue<&'static str> {
        WorkQueue::new(Limits { parallel_max, backoff_min: SECOND, backoff_max: SECOND * 4, ..Limits::default() })
    }

    #[test]
    fn a_key_is_held_once_and_worked_on_by_one() {
        let (mut queue, now) = (queue(5), Instant::now());
        queue.add("a", now).unwrap();
        queue.add("a", now).unwrap();
        assert_eq!((queue.pop(now), queue.pop(now)), (Some("a"), None));
        queue.add("a", now).unwrap();
        assert_eq!(queue.pop(now), None, "still being worked on");
        queue.done(&"a", now, Outcome::Done);
        assert_eq!(queue.pop(now), Some("a"), "it was added meanwhile");
        queue.done(&"a", now, Outcome::Done);
        assert!(queue.is_empty());
    }

    #[test]
    fn failures_wait_longer_each_time() {
        let (mut queue, mut now) = (queue(1), Instant::now());
        queue.add("a", now).unwrap();
        for pause in [1, 2, 4, 4] {
            assert_eq!(queue.pop(now), Some("a"));
            queue.done(&"a", now, Outcome::Failed);
            assert_eq!(queue.next_due(), Some(now + SECOND * pause));
            assert_eq!(queue.pop(now), None);
            now += SECOND * pause;
        }
        assert_eq!(queue.pop(now), Some("a"));
        queue.done(&"a", now, Outcome::Again(SECOND * 9));
        queue.add("a", now).unwrap();
        assert_eq!(queue.next_due(), None, "asked for at once");
        queue.pop(now).unwrap();
        queue.done(&"a", now, Outcome::Failed);
        assert_eq!(queue.next_due(), Some(now + SECOND), "success forgets the failures before");
    }

    #[test]
    fn limits_hold() {
        let (mut queue, now) = (queue(2), Instant::now());
        queue.limits.keys_max = 3;
        for key in ["a", "b", "c"] {
            queue.add(key, now).unwrap();
        }
        assert_eq!(queue.add("d", now), Err(Full));
        assert_eq!(queue.add("a", now), Ok(()), "held already");
        assert_eq!((queue.pop(now), queue.pop(now), queue.pop(now)), (Some("a"), Some("b"), None));
        queue.give_back(&"b", now);
        assert_eq!(queue.pop(now), Some("b"));
        assert_eq!(queue.oldest(), Some(now), "c has waited since then");
    }

    proptest! {
        /// Whatever happens, the last request for a key is followed by work on it, and never two at once.
        #[test]
        fn no_request_is_lost(steps in proptest::collection::vec((0_u8..6, 0_u8..4), 1..200)) {
            let mut queue = WorkQueue::new(Limits { parallel_max: 2, ..Limits::default() });
            let (mut wanted, mut running, mut now) = (BTreeSet::new(), BTreeSet::new(), Instant::now());
            for (what, key) in steps {
                match what {
                    0 => { queue.add(key, now).unwrap(); wanted.insert(key); }
                    1 => { queue.add_at(key, now + SECOND).unwrap(); wanted.insert(key); }
                    2 => if let Some(key) = queue.pop(now) {
                        prop_assert!(running.insert(key) && running.len() <= 2);
                        wanted.remove(&key);
                    },
                    3 => now += SECOND,
                    4 => if running.remove(&key) { queue.done(&key, now, Outcome::Done) },
                    _ => if running.remove(&key) { queue.done(&key, now, Outcome::Failed); wanted.insert(key); },
                }
            }
            for key in running { queue.done(&key, now, Outcome::Done); }
            now += SECOND * 100;
            while let Some(key) = queue.pop(now) { wanted.remove(&key); queue.done(&key, now, Outcome::Done); }
            prop_assert!(wanted.is_empty(), "{wanted:?}");
        }
    }
}
