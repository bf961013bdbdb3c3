//! The time by which leases end, as far as the log tells it. Every member follows it, so that whoever comes to lead knows
//! how long a lease still has, however many leaders there were.
//!
//! A leader tells from time to time how long ago the last leader told it: members that heard both are then at the same
//! time. Between two tellings a member's own clock goes on from when it heard the last one. Every such guess is late, by
//! how long an entry takes to be applied; none is early.

use std::time::Duration;

use crate::world::Term;

/// How much time has passed for leases since this member began to count.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseTime {
    now: Duration,
    /// The last telling.
    told: Option<(Term, Duration)>,
    tellings: u64,
}

impl LeaseTime {
    pub fn now(&self) -> Duration {
        self.now
    }

    /// How often the time was told.
    pub fn tellings(&self) -> u64 {
        self.tellings
    }

    /// The leader of `term` says how much time has passed since the last telling of an earlier term. One who does not
    /// know that telling can't tell how much of it is news: for them no time passes.
    pub fn tell(&mut self, term: Term, passed: Duration) {
        let news = match self.told {
            Some((before, heard)) if before == term => passed.saturating_sub(heard),
            Some(_) => passed,
            None => Duration::ZERO,
        };
        self.now = self.now.saturating_add(news);
        let heard = self.told.filter(|(before, _)| *before == term).map_or(passed, |(_, heard)| heard.max(passed));
        self.told = Some((term, heard));
        self.tellings += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn time_passes_by_what_is_told_and_was_not_known() {
        let mut time = LeaseTime::default();
        for (term, passed, now) in
            [(1, 500, 0), (1, 503, 3), (1, 502, 3), (1, 504, 4), (2, 5, 9), (2, 7, 11), (4, 0, 11), (4, 1, 12)]
        {
            time.tell(Term(term), seconds(passed));
            assert_eq!(time.now(), seconds(now), "after {passed} s of term {term}");
        }
        assert_eq!(time.tellings(), 8);
    }
}
