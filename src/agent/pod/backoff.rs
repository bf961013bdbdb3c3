//! How long to wait before trying again: 10 s, doubled each time to 5 min, forgotten after 10 quiet minutes. The same
//! figures hold for restarts, pulls and everything else of a pod that may fail again and again.

use jiff::{SignedDuration, Timestamp};

pub const FIRST: SignedDuration = SignedDuration::from_secs(10);
pub const LONGEST: SignedDuration = SignedDuration::from_mins(5);
/// After so long without a failure the next failure counts as the first.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// The backoff of one operation that may fail repeatedly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff(Option<Tried>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tried {
    delay: SignedDuration,
    at: Timestamp,
}

impl Backoff {
    /// When the next attempt may follow a failure at `failed`; `None` means now: the first failure has no backoff.
    pub fn wait_until(&self, failed: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let tried = self.0?;
        let ready = failed + tried.delay;
        (!tried.forgotten(failed) && now < ready).then_some(ready)
    }

    /// Records an attempt at `now` after a failure at `failed`; returns the wait after the next failure.
    pub fn note(&mut self, failed: Timestamp, now: Timestamp) -> SignedDuration {
        let delay = match self.0 {
            Some(tried) if !tried.forgotten(failed) => (tried.delay * 2).min(LONGEST),
            _ => FIRST,
        };
        self.0 = Some(Tried { delay, at: now });
        delay
    }

    /// The wait after a failure now.
    pub fn delay(&self) -> SignedDuration {
        self.0.map_or(SignedDuration::ZERO, |tried| tried.delay)
    }
}

impl Tried {
    fn forgotten(&self, failed: Timestamp) -> bool {
        failed.duration_since(self.at) > FORGOTTEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn waits_double_to_five_minutes() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait_until(at(0), at(0)), None, "the first restart is immediate");
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..7 {
            waits.push(backoff.note(now, now).as_secs());
            now = backoff.wait_until(now, now).unwrap();
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_quiet_while_forgets_all() {
        let mut backoff = Backoff::default();
        backoff.note(at(0), at(0));
        backoff.note(at(10), at(10));
        assert_eq!(backoff.wait_until(at(15), at(16)), Some(at(35)));
        assert_eq!(backoff.wait_until(at(620), at(620)), None);
        assert_eq!(backoff.note(at(620), at(620)), FIRST);
    }
}
