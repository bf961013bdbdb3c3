//! Pods without a node: each is tried now, a little later, or once something changes that may help it.
//!
//! ```text
//!   add ──▶ active ──pop──▶ in flight ─▶ bound, removed
//!             ▲ ▲              │ no node            │ failed to bind
//!             │ │   wake,      ▼                    ▼
//!             │ └─ 5 min ── unschedulable        backoff (1 s, doubling, to 10 s)
//!             └────────────── time is up ───────────┘
//! ```
//!
//! Ordered by priority, then by how long a pod has waited, as by PrioritySort. Pure: the caller passes the time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::pod::{PodInfo, Uid};
use super::rejection::Filters;
use crate::world::Instant;

const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod is tried again after this time even if nothing has changed.
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

/// The pods that wait for a node.
#[derive(Debug, Default)]
pub struct SchedulingQueue {
    pods: BTreeMap<Uid, QueuedPod>,
    active: BTreeSet<(Reverse<i32>, u64, Uid)>,
    backoff: BTreeSet<(Instant, Uid)>,
    unschedulable: BTreeSet<(Instant, Uid)>,
    /// The number of the last pod that was added.
    added: u64,
}

#[derive(Debug)]
struct QueuedPod {
    pod: Arc<PodInfo>,
    position: Position,
    /// Pods of one priority are tried in this order.
    number: u64,
    attempts: u32,
    last_attempt: Instant,
    /// What rejected it at the last attempt.
    rejected_by: Filters,
    /// The last attempt ended in an error, not in a rejection: then nothing cuts its backoff short.
    failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Active,
    /// Until then.
    Backoff(Instant),
    /// Since then.
    Unschedulable(Instant),
    /// Held by its scheduling gates.
    Gated,
    /// Popped: the scheduler decides on it.
    InFlight,
}

impl SchedulingQueue {
    /// Adds a pod, or replaces it by its new version.
    pub fn add(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let uid = pod.uid.clone();
        let position = if pod.scheduling_gates.is_empty() { Position::Active } else { Position::Gated };
        match self.pods.get_mut(&uid) {
            None => {
                self.added += 1;
                let entry = QueuedPod {
                    pod,
                    position: Position::Gated,
                    number: self.added,
                    attempts: 0,
                    last_attempt: now,
                    rejected_by: Filters::default(),
                    failed: false,
                };
                self.pods.insert(uid.clone(), entry);
                self.move_to(&uid, position);
            }
            Some(entry) if *entry.pod == *pod => {}
            Some(entry) if entry.position == Position::InFlight => entry.pod = pod,
            Some(_) => {
                self.unlink(&uid);
                self.queued(&uid).pod = pod;
                self.move_to(&uid, position);
            }
        }
    }

    /// Forgets a pod: it has a node, or is gone.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        self.unlink(uid);
        self.pods.remove(uid).map(|entry| entry.pod)
    }

    /// The next pod to decide on. Answer with [`remove`](SchedulingQueue::remove), [`reject`](SchedulingQueue::reject)
    /// or [`fail`](SchedulingQueue::fail).
    pub fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.flush(now);
        let uid = match self.active.first() {
            Some((_, _, uid)) => uid.clone(),
            // There is nothing better to do than to try a rejected pod again already.
            None => self.backoff.iter().map(|(_, uid)| uid).find(|uid| !self.pods[*uid].failed)?.clone(),
        };
        self.move_to(&uid, Position::InFlight);
        let entry = self.queued(&uid);
        entry.attempts = entry.attempts.saturating_add(1);
        entry.last_attempt = now;
        Some(entry.pod.clone())
    }

    /// No node can take a popped pod; it waits for a change that concerns what rejected it.
    pub fn reject(&mut self, uid: &str, by: Filters, now: Instant) {
        if let Some(entry) = self.pods.get_mut(uid) {
            (entry.rejected_by, entry.failed) = (by, false);
            self.move_to(uid, Position::Unschedulable(now));
        }
    }

    /// An error kept a popped pod from being decided on or bound; it is tried again after its backoff.
    pub fn fail(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.pods.get_mut(uid) {
            entry.failed = true;
            let until = now + backoff(entry.attempts);
            self.move_to(uid, Position::Backoff(until));
        }
    }

    /// Tries those unschedulable pods again for which `may_help` holds, after a change.
    pub fn wake(&mut self, now: Instant, may_help: impl Fn(&PodInfo, Filters) -> bool) {
        let helped = |uid: &&Uid| {
            let entry = &self.pods[*uid];
            may_help(&entry.pod, entry.rejected_by)
        };
        let woken: Vec<Uid> = self.unschedulable.iter().map(|(_, uid)| uid).filter(helped).cloned().collect();
        for uid in woken {
            self.wake_pod(&uid, now);
        }
    }

    fn wake_pod(&mut self, uid: &str, now: Instant) {
        let entry = self.queued(uid);
        let until = entry.last_attempt + backoff(entry.attempts);
        self.move_to(uid, if until > now { Position::Backoff(until) } else { Position::Active });
    }

    /// When [`pop`](SchedulingQueue::pop) has to be tried again although nothing changed.
    pub fn next_due(&self) -> Option<Instant> {
        let flush = self.unschedulable.first().map(|(since, _)| *since + UNSCHEDULABLE_MAX);
        let backoff = self.backoff.first().map(|(until, _)| *until);
        [flush, backoff].into_iter().flatten().min()
    }

    fn flush(&mut self, now: Instant) {
        while let Some((_, uid)) = self.backoff.first().filter(|(until, _)| *until <= now).cloned() {
            self.move_to(&uid, Position::Active);
        }
        while let Some((_, uid)) = self.unschedulable.first().filter(|(s, _)| *s + UNSCHEDULABLE_MAX <= now).cloned() {
            self.wake_pod(&uid, now);
        }
    }

    fn queued(&mut self, uid: &str) -> &mut QueuedPod {
        self.pods.get_mut(uid).expect("a pod that has a position is in the queue")
    }

    fn move_to(&mut self, uid: &str, position: Position) {
        self.unlink(uid);
        let entry = self.queued(uid);
        entry.position = position;
        let (priority, number, uid) = (Reverse(entry.pod.priority), entry.number, entry.pod.uid.clone());
        match position {
            Position::Active => drop(self.active.insert((priority, number, uid))),
            Position::Backoff(until) => drop(self.backoff.insert((until, uid))),
            Position::Unschedulable(since) => drop(self.unschedulable.insert((since, uid))),
            Position::Gated | Position::InFlight => {}
        }
    }

    fn unlink(&mut self, uid: &str) {
        let Some(entry) = self.pods.get(uid) else { return };
        let uid = entry.pod.uid.clone();
        match entry.position {
            Position::Active => drop(self.active.remove(&(Reverse(entry.pod.priority), entry.number, uid))),
            Position::Backoff(until) => drop(self.backoff.remove(&(until, uid))),
            Position::Unschedulable(since) => drop(self.unschedulable.remove(&(since, uid))),
            Position::Gated | Position::InFlight => {}
        }
    }
}

fn backoff(attempts: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << attempts.saturating_sub(1).min(8)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pod(name: &str, priority: i32, gates: &[&str]) -> Arc<PodInfo> {
        let gates: Vec<_> = gates.iter().map(|name| json!({ "name": name })).collect();
        let value = json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"priority": priority, "schedulingGates": gates, "containers": []},
        });
        Arc::new(PodInfo::new(&serde_json::from_value(value).unwrap()))
    }

    fn popped(queue: &mut SchedulingQueue, now: Instant) -> Option<String> {
        queue.pop(now).map(|pod| pod.key.name.clone())
    }

    #[test]
    fn the_most_important_pod_comes_first_then_the_oldest() {
        let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
        for (name, priority) in [("a", 0), ("b", 10), ("c", 10), ("d", -5)] {
            queue.add(pod(name, priority, &[]), now);
        }
        let order: Vec<String> = std::iter::from_fn(|| popped(&mut queue, now)).collect();
        assert_eq!(order, ["b", "c", "a", "d"]);
    }

    #[test]
    fn a_gated_pod_waits_for_its_gates_to_go() {
        let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
        queue.add(pod("a", 0, &["quota"]), now);
        assert_eq!(popped(&mut queue, now), None);
        queue.add(pod("a", 0, &[]), now);
        assert_eq!(popped(&mut queue, now).as_deref(), Some("a"));
    }

    #[test]
    fn a_rejected_pod_waits_for_help_or_five_minutes() {
        let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
        queue.add(pod("a", 0, &[]), now);
        queue.pop(now).unwrap();
        queue.reject("a", Filters::default(), now);
        queue.wake(now, |_, _| false);
        assert_eq!(popped(&mut queue, now + SECOND * 299), None);
        queue.wake(now, |_, _| true);
        assert_eq!(queue.backoff.len(), 1, "it was tried a moment ago");
        assert_eq!(popped(&mut queue, now).as_deref(), Some("a"), "but there is nothing else to do");
        queue.reject("a", Filters::default(), now);
        assert_eq!(queue.next_due(), Some(now + SECOND * 300));
        assert_eq!(popped(&mut queue, now + SECOND * 300).as_deref(), Some("a"));
    }

    #[test]
    fn a_failed_pod_waits_longer_each_time() {
        let (mut queue, mut now) = (SchedulingQueue::default(), Instant::now());
        queue.add(pod("a", 0, &[]), now);
        for seconds in [1, 2, 4, 8, 10, 10] {
            queue.pop(now).unwrap();
            queue.fail("a", now);
            assert_eq!(popped(&mut queue, now), None, "an error is not hurried");
            assert_eq!(queue.next_due(), Some(now + SECOND * seconds));
            now += SECOND * seconds;
        }
        assert_eq!(queue.remove("a").map(|pod| pod.key.name.clone()).as_deref(), Some("a"));
        assert_eq!((popped(&mut queue, now), queue.pods.len()), (None, 0));
    }

    #[test]
    fn a_new_version_of_a_waiting_pod_is_tried_at_once() {
        let (mut queue, now) = (SchedulingQueue::default(), Instant::now());
        queue.add(pod("a", 0, &[]), now);
        queue.pop(now).unwrap();
        queue.reject("a", Filters::default(), now);
        queue.add(pod("a", 0, &[]), now);
        assert_eq!(popped(&mut queue, now), None, "nothing that matters changed");
        queue.add(pod("a", 7, &[]), now);
        assert_eq!(popped(&mut queue, now).as_deref(), Some("a"));
    }
}
