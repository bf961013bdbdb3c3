//! Pods that have no node yet: to be tried now, a little later, or once something changes that may help them.
//!
//! ```text
//!   add ──▶ active ──pop──▶ deciding ──▶ bound, removed
//!             ▲ ▲              │ no node            │ failed to bind
//!             │ │   wake,      ▼                    ▼
//!             │ └─ 5 min ── unschedulable        backoff (1 s, doubling, to 10 s)
//!             └────────────── time is up ───────────┘
//! ```
//!
//! Ordered by priority, then by how long a pod waits. Pure: the caller tells the time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::pod::{PodInfo, Uid};
use super::rejection::Filters;
use crate::world::Instant;

const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How long a pod waits for something to change before it is tried all the same.
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

/// The pods that wait for a node.
#[derive(Debug, Default)]
pub struct Queue {
    entries: BTreeMap<Uid, Entry>,
    active: BTreeSet<(Reverse<i32>, u64, Uid)>,
    backoff: BTreeSet<(Instant, Uid)>,
    unschedulable: BTreeSet<(Instant, Uid)>,
    /// The number of the last pod that was added.
    added: u64,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    /// Pods of one priority are tried in this order.
    number: u64,
    attempts: u32,
    tried: Instant,
    /// What stood in the way at the last attempt.
    rejected_by: Filters,
    /// Whether the last attempt ended in an error, not in a refusal: then its backoff is kept to.
    failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    /// Until then.
    Backoff(Instant),
    /// Since then.
    Unschedulable(Instant),
    /// Held by its scheduling gates.
    Gated,
    /// Popped; its fate is being decided.
    Deciding,
}

impl Queue {
    /// Takes in a pod that is new, or whose version is.
    pub fn put(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let uid = pod.uid.clone();
        let place = if pod.scheduling_gates.is_empty() { Place::Active } else { Place::Gated };
        match self.entries.get_mut(&uid) {
            None => {
                self.added += 1;
                let entry = Entry {
                    pod,
                    place: Place::Gated,
                    number: self.added,
                    attempts: 0,
                    tried: now,
                    rejected_by: Filters::default(),
                    failed: false,
                };
                self.entries.insert(uid.clone(), entry);
                self.move_to(&uid, place);
            }
            Some(entry) if *entry.pod == *pod => {}
            Some(entry) if entry.place == Place::Deciding => entry.pod = pod,
            Some(_) => {
                self.unlink(&uid);
                self.entry(&uid).pod = pod;
                self.move_to(&uid, place);
            }
        }
    }

    /// Forgets a pod: it has a node, or is gone.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        self.unlink(uid);
        self.entries.remove(uid).map(|entry| entry.pod)
    }

    /// The next pod to decide on. Answer with [`remove`](Queue::remove), [`reject`](Queue::reject) or
    /// [`fail`](Queue::fail).
    pub fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.promote(now);
        let uid = match self.active.first() {
            Some((_, _, uid)) => uid.clone(),
            // There is nothing better to do than to try a refused pod again already.
            None => self.backoff.iter().map(|(_, uid)| uid).find(|uid| !self.entries[*uid].failed)?.clone(),
        };
        self.move_to(&uid, Place::Deciding);
        let entry = self.entry(&uid);
        entry.attempts = entry.attempts.saturating_add(1);
        entry.tried = now;
        Some(entry.pod.clone())
    }

    /// No node can take a popped pod; it waits for a change that concerns what rejected it.
    pub fn reject(&mut self, uid: &str, by: Filters, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            (entry.rejected_by, entry.failed) = (by, false);
            self.move_to(uid, Place::Unschedulable(now));
        }
    }

    /// Deciding on a popped pod, or binding it, failed; it is tried again after a pause.
    pub fn fail(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.failed = true;
            let until = now + pause(entry.attempts);
            self.move_to(uid, Place::Backoff(until));
        }
    }

    /// Something changed: unschedulable pods for which `may_help` holds are tried again.
    pub fn wake(&mut self, now: Instant, may_help: impl Fn(&PodInfo, Filters) -> bool) {
        let helped = |uid: &&Uid| {
            let entry = &self.entries[*uid];
            may_help(&entry.pod, entry.rejected_by)
        };
        let woken: Vec<Uid> = self.unschedulable.iter().map(|(_, uid)| uid).filter(helped).cloned().collect();
        for uid in woken {
            self.wake_one(&uid, now);
        }
    }

    fn wake_one(&mut self, uid: &str, now: Instant) {
        let entry = self.entry(uid);
        let until = entry.tried + pause(entry.attempts);
        self.move_to(uid, if until > now { Place::Backoff(until) } else { Place::Active });
    }

    /// When [`pop`](Queue::pop) has to be tried again although nothing changed.
    pub fn next_due(&self) -> Option<Instant> {
        let flush = self.unschedulable.first().map(|(since, _)| *since + UNSCHEDULABLE_MAX);
        let backoff = self.backoff.first().map(|(until, _)| *until);
        [flush, backoff].into_iter().flatten().min()
    }

    fn promote(&mut self, now: Instant) {
        while let Some((_, uid)) = self.backoff.first().filter(|(until, _)| *until <= now).cloned() {
            self.move_to(&uid, Place::Active);
        }
        while let Some((_, uid)) = self.unschedulable.first().filter(|(s, _)| *s + UNSCHEDULABLE_MAX <= now).cloned() {
            self.wake_one(&uid, now);
        }
    }

    fn entry(&mut self, uid: &str) -> &mut Entry {
        self.entries.get_mut(uid).expect("a linked pod has an entry")
    }

    fn move_to(&mut self, uid: &str, place: Place) {
        self.unlink(uid);
        let entry = self.entry(uid);
        entry.place = place;
        let (priority, number, uid) = (Reverse(entry.pod.priority), entry.number, entry.pod.uid.clone());
        match place {
            Place::Active => drop(self.active.insert((priority, number, uid))),
            Place::Backoff(until) => drop(self.backoff.insert((until, uid))),
            Place::Unschedulable(since) => drop(self.unschedulable.insert((since, uid))),
            Place::Gated | Place::Deciding => {}
        }
    }

    fn unlink(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else { return };
        let uid = entry.pod.uid.clone();
        match entry.place {
            Place::Active => drop(self.active.remove(&(Reverse(entry.pod.priority), entry.number, uid))),
            Place::Backoff(until) => drop(self.backoff.remove(&(until, uid))),
            Place::Unschedulable(since) => drop(self.unschedulable.remove(&(since, uid))),
            Place::Gated | Place::Deciding => {}
        }
    }
}

fn pause(attempts: u32) -> Duration {
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

    fn popped(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.pop(now).map(|pod| pod.key.name.clone())
    }

    #[test]
    fn the_most_important_pod_comes_first_then_the_oldest() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("a", 0), ("b", 10), ("c", 10), ("d", -5)] {
            queue.put(pod(name, priority, &[]), now);
        }
        let order: Vec<String> = std::iter::from_fn(|| popped(&mut queue, now)).collect();
        assert_eq!(order, ["b", "c", "a", "d"]);
    }

    #[test]
    fn a_gated_pod_waits_for_its_gates_to_go() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.put(pod("a", 0, &["quota"]), now);
        assert_eq!(popped(&mut queue, now), None);
        queue.put(pod("a", 0, &[]), now);
        assert_eq!(popped(&mut queue, now).as_deref(), Some("a"));
    }

    #[test]
    fn a_rejected_pod_waits_for_help_or_five_minutes() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.put(pod("a", 0, &[]), now);
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
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.put(pod("a", 0, &[]), now);
        for seconds in [1, 2, 4, 8, 10, 10] {
            queue.pop(now).unwrap();
            queue.fail("a", now);
            assert_eq!(popped(&mut queue, now), None, "an error is not hurried");
            assert_eq!(queue.next_due(), Some(now + SECOND * seconds));
            now += SECOND * seconds;
        }
        assert_eq!(queue.remove("a").map(|pod| pod.key.name.clone()).as_deref(), Some("a"));
        assert_eq!((popped(&mut queue, now), queue.entries.len()), (None, 0));
    }

    #[test]
    fn a_new_version_of_a_waiting_pod_is_tried_at_once() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.put(pod("a", 0, &[]), now);
        queue.pop(now).unwrap();
        queue.reject("a", Filters::default(), now);
        queue.put(pod("a", 0, &[]), now);
        assert_eq!(popped(&mut queue, now), None, "nothing that matters changed");
        queue.put(pod("a", 7, &[]), now);
        assert_eq!(popped(&mut queue, now).as_deref(), Some("a"));
    }
}
