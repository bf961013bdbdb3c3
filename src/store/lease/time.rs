//! The time by which leases end, as the log has it. Every member follows it, so that a new leader knows how long a
//! lease still lives, however many leaders there were.
//!
//! A leader reports from time to time how much time has passed since the last report of its predecessor. Members that
//! applied both reports are then at the same time. Between two reports a member's own clock goes on from when it
//! applied the last one. Such an estimate is late, by how long an entry takes to be applied, and never early.

use std::time::Duration;

use crate::world::Term;

/// How much time has passed for leases since this member began to count.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseTime {
    now: Duration,
    /// The last report: its term, and the time that had passed in it.
    last: Option<(Term, Duration)>,
    reports: u64,
}

impl LeaseTime {
    pub fn now(&self) -> Duration {
        self.now
    }

    /// How often the time was reported.
    pub fn reports(&self) -> u64 {
        self.reports
    }

    /// The leader of `term` reports how much time has passed since the last report of an earlier term. A member that
    /// does not know that earlier report can't tell how much of it is new to it: for this member no time passes.
    pub fn report(&mut self, term: Term, passed: Duration) {
        let news = match self.last {
            Some((before, counted)) if before == term => passed.saturating_sub(counted),
            Some(_) => passed,
            None => Duration::ZERO,
        };
        self.now = self.now.saturating_add(news);
        let counted =
            self.last.filter(|(before, _)| *before == term).map_or(passed, |(_, counted)| counted.max(passed));
        self.last = Some((term, counted));
        self.reports += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn time_passes_by_what_is_reported_and_was_not_known() {
        let mut time = LeaseTime::default();
        for (term, passed, now) in
            [(1, 500, 0), (1, 503, 3), (1, 502, 3), (1, 504, 4), (2, 5, 9), (2, 7, 11), (4, 0, 11), (4, 1, 12)]
        {
            time.report(Term(term), seconds(passed));
            assert_eq!(time.now(), seconds(now), "after {passed} s of term {term}");
        }
        assert_eq!(time.reports(), 8);
    }
}
