//! Auto compaction: when the leader compacts by itself, as in etcd. Pure.
//!
//! Periodic mode notes the revision ten times in an interval, which is the period or an hour, whichever is shorter; the
//! oldest note is as old as the period. The first compaction waits for a whole period, each later one for an interval
//! after the last that succeeded.

use std::collections::VecDeque;
use std::time::Duration;

use super::config::AutoCompaction;
use crate::world::Instant;

const HOUR: Duration = Duration::from_secs(3600);

/// How often the leader looks in revision mode.
const REVISIONS_INTERVAL: Duration = Duration::from_secs(300);

/// Notes in one interval of periodic mode, and tries to compact.
const NOTES_PER_INTERVAL: u32 = 10;

/// Decides what the leader compacts, and when.
#[derive(Debug)]
pub struct Schedule {
    mode: AutoCompaction,
    /// Revisions of the past, oldest first; periodic mode.
    notes: VecDeque<i64>,
    /// When it looks again.
    next: Option<Instant>,
    succeeded_at: Option<Instant>,
    /// The revision that was compacted last, 0 before the first time.
    compacted: i64,
}

impl Schedule {
    pub fn new(mode: AutoCompaction) -> Schedule {
        Schedule { mode, notes: VecDeque::new(), next: None, succeeded_at: None, compacted: 0 }
    }

    /// The mode, as log lines name it.
    pub fn mode(&self) -> &'static str {
        match self.mode {
            AutoCompaction::Off => "disabled",
            AutoCompaction::Periodic(_) => "periodic",
            AutoCompaction::Revisions(_) => "revision",
        }
    }

    /// The revision to compact now, if any; call [`succeeded`](Schedule::succeeded) once it is compacted. Followers
    /// call this, too: they note revisions for when they lead.
    pub fn due(&mut self, now: Instant, revision: i64, leads: bool) -> Option<i64> {
        let pause = match self.mode {
            AutoCompaction::Off => return None,
            AutoCompaction::Revisions(_) => REVISIONS_INTERVAL,
            AutoCompaction::Periodic(period) => period.min(HOUR) / NOTES_PER_INTERVAL,
        };
        let began = self.next.is_none();
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now + pause);
        let past = match self.mode {
            AutoCompaction::Periodic(period) => self.note(now, revision, period, pause, began)?,
            AutoCompaction::Revisions(kept) => (!began).then_some(revision - kept)?,
            AutoCompaction::Off => return None,
        };
        (leads && past > 0 && past != self.compacted).then_some(past)
    }

    /// Notes the present revision, and gives the noted one to compact, if it is time.
    fn note(&mut self, now: Instant, revision: i64, period: Duration, pause: Duration, began: bool) -> Option<i64> {
        let interval = if self.compacted == 0 { period } else { period.min(HOUR) };
        let due = now.saturating_duration_since(*self.succeeded_at.get_or_insert(now)) >= interval;
        let past = self.notes.front().copied().filter(|_| due && !began);
        self.notes.push_back(revision);
        let notes_max = (period.as_nanos() / pause.as_nanos().max(1)) as usize + 1;
        if self.notes.len() > notes_max {
            self.notes.pop_front();
        }
        past
    }

    /// `revision` is compacted, by this schedule or before it.
    pub fn succeeded(&mut self, now: Instant, revision: i64) {
        self.compacted = revision;
        self.succeeded_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a leader compacts within `minutes`, as (minute, revision); one revision is written a minute.
    async fn compacted(mode: AutoCompaction, minutes: u64) -> Vec<(u64, i64)> {
        let start = Instant::now();
        let mut schedule = Schedule::new(mode);
        let mut compacted = Vec::new();
        for minute in 0..=minutes {
            let now = start + Duration::from_secs(60 * minute);
            if let Some(revision) = schedule.due(now, 1 + minute as i64, true) {
                schedule.succeeded(now, revision);
                compacted.push((minute, revision));
            }
        }
        compacted
    }

    #[tokio::test(start_paused = true)]
    async fn each_mode_keeps_what_it_promises() {
        assert_eq!(compacted(AutoCompaction::Off, 1000).await, []);
        assert_eq!(compacted(AutoCompaction::Revisions(4), 12).await, [(5, 2), (10, 7)]);
        let ten_minutes = AutoCompaction::Periodic(Duration::from_secs(600));
        assert_eq!(compacted(ten_minutes, 30).await, [(10, 1), (20, 10), (30, 20)]);
        let three_hours = AutoCompaction::Periodic(3 * HOUR);
        assert_eq!(compacted(three_hours, 300).await, [(180, 1), (240, 55), (300, 115)]);
    }

    #[tokio::test(start_paused = true)]
    async fn followers_compact_nothing_and_what_failed_is_tried_again() {
        let mut schedule = Schedule::new(AutoCompaction::Revisions(0));
        let start = Instant::now();
        assert_eq!(schedule.due(start, 9, false), None);
        assert_eq!(schedule.due(start + REVISIONS_INTERVAL, 9, false), None);
        assert_eq!(schedule.due(start + 2 * REVISIONS_INTERVAL, 9, true), Some(9));
        assert_eq!(schedule.due(start + 3 * REVISIONS_INTERVAL, 9, true), Some(9));
        schedule.succeeded(start + 3 * REVISIONS_INTERVAL, 9);
        assert_eq!(schedule.due(start + 4 * REVISIONS_INTERVAL, 9, true), None, "there is nothing new to compact");
    }
}
