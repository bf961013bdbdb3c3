//! How long other members have been reachable without a break, as this member sees it. A change of the membership must
//! not count on members that may be gone.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::world::Instant;

/// When a member became reachable, and when it answered last.
#[derive(Clone, Copy, Debug)]
struct Heard {
    since: Instant,
    last: Instant,
    /// Connecting to it has failed since then.
    lost: bool,
    /// It was reachable before, then unreachable for a while.
    returned: bool,
}

/// When each member answered.
#[derive(Debug)]
pub(super) struct Activity {
    /// When this member began to watch the others.
    begun: Instant,
    heard: Mutex<BTreeMap<u64, Heard>>,
    /// Silence of this length is a break.
    silence_max: Duration,
}

impl Activity {
    pub fn new(begun: Instant, silence_max: Duration) -> Activity {
        Activity { begun, heard: Mutex::default(), silence_max }
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<u64, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `id` has answered.
    pub fn hear(&self, id: u64, now: Instant) {
        let mut heard = self.heard();
        let entry = heard.entry(id).or_insert(Heard { since: now, last: now, lost: false, returned: false });
        if entry.lost || now >= entry.last + self.silence_max {
            *entry = Heard { since: now, last: now, lost: false, returned: true };
        }
        entry.last = now;
    }

    /// No connection to `id` can be made.
    pub fn lose(&self, id: u64) {
        if let Some(heard) = self.heard().get_mut(&id) {
            heard.lost = true;
        }
    }

    /// Forgets those that are no longer members.
    pub fn keep(&self, known: impl Fn(u64) -> bool) {
        self.heard().retain(|id, _| known(*id));
    }

    fn reachable(&self, id: u64, now: Instant) -> Option<Heard> {
        self.heard().get(&id).copied().filter(|heard| !heard.lost && now < heard.last + self.silence_max)
    }

    /// When `id` became reachable; `None` when it is not.
    pub fn since(&self, id: u64, now: Instant) -> Option<Instant> {
        self.reachable(id, now).map(|heard| heard.since)
    }

    /// Whether `id` is reachable and was not lost within `interval`. A member that was only just added has missed
    /// nothing.
    pub fn is_steady(&self, id: u64, interval: Duration, now: Instant) -> bool {
        self.reachable(id, now).is_some_and(|heard| {
            let unbroken = if heard.returned { heard.since } else { self.begun };
            unbroken + interval <= now
        })
    }

    /// Whether `id` has been reachable without a break from `start` until `now`.
    pub fn throughout(&self, id: u64, start: Instant, now: Instant) -> bool {
        self.since(id, now).is_some_and(|since| since <= start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_a_lost_connection_begin_anew() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let activity = Activity::new(start, Duration::from_secs(2));
        activity.hear(1, at(0));
        activity.hear(1, at(1));
        assert_eq!(activity.since(1, at(2)), Some(at(0)));
        assert_eq!(activity.since(1, at(3)), None);
        activity.hear(1, at(4));
        assert_eq!(activity.since(1, at(5)), Some(at(4)));
        assert!(activity.throughout(1, at(4), at(5)) && !activity.throughout(1, at(3), at(5)));
        assert!(!activity.throughout(1, at(4), at(6)));
        activity.lose(1);
        assert_eq!((activity.since(1, at(5)), activity.since(2, at(5))), (None, None));
    }

    #[test]
    fn who_comes_is_steady_at_once_and_who_comes_back_is_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let activity = Activity::new(start, Duration::from_secs(2));
        let steady = |id, seconds| activity.is_steady(id, Duration::from_secs(5), at(seconds));
        (1..=4).for_each(|seconds| activity.hear(1, at(seconds)));
        assert!(!steady(1, 4), "this member has not looked for long enough to tell");
        activity.hear(1, at(5));
        activity.lose(2);
        assert!(steady(1, 5) && !steady(2, 5));
        activity.hear(2, at(6));
        assert!(steady(2, 6), "it was not there before it came");
        activity.lose(2);
        assert!(!steady(2, 6));
        (7..=12).for_each(|seconds| activity.hear(2, at(seconds)));
        assert!(!steady(2, 11) && steady(2, 12));
        assert!(!steady(2, 14), "it is silent");
    }
}
