//! Since when other members have been reachable without a break, as this member sees it. A change of the membership
//! must not rest on members that may be gone.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::world::Instant;

/// Since when, and when last.
#[derive(Clone, Copy, Debug)]
struct Heard {
    since: Instant,
    last: Instant,
}

/// What was heard of each member.
#[derive(Debug)]
pub(super) struct Activity {
    heard: Mutex<BTreeMap<u64, Heard>>,
    /// Silence for so long is a break.
    silence_max: Duration,
}

impl Activity {
    pub fn new(silence_max: Duration) -> Activity {
        Activity { heard: Mutex::default(), silence_max }
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<u64, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `id` has answered.
    pub fn hear(&self, id: u64, now: Instant) {
        let mut heard = self.heard();
        let entry = heard.entry(id).or_insert(Heard { since: now, last: now });
        if now >= entry.last + self.silence_max {
            entry.since = now;
        }
        entry.last = now;
    }

    /// No connection to `id` can be made.
    pub fn lose(&self, id: u64) {
        self.heard().remove(&id);
    }

    /// Lets go of members that are no more.
    pub fn keep(&self, known: impl Fn(u64) -> bool) {
        self.heard().retain(|id, _| known(*id));
    }

    /// Since when `id` has been reachable, if it is.
    pub fn since(&self, id: u64, now: Instant) -> Option<Instant> {
        self.heard().get(&id).filter(|heard| now < heard.last + self.silence_max).map(|heard| heard.since)
    }

    /// `id` has been reachable without a break from `start` until `now`.
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
        let activity = Activity::new(Duration::from_secs(2));
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
}
