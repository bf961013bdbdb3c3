//! When to compact without being asked. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::config::AutoCompaction;
use crate::world::Instant;

const HOUR: Duration = Duration::from_secs(3600);

/// How often the leader looks in revision mode; as in etcd.
const REVISIONS_INTERVAL: Duration = Duration::from_secs(300);

/// Revisions are noted this often in one interval of periodic mode.
const SAMPLES_PER_INTERVAL: u32 = 10;

/// Decides what the leader compacts, and when.
#[derive(Debug)]
pub struct Schedule {
    mode: AutoCompaction,
    /// Revisions of the past, oldest first; periodic mode.
    samples: VecDeque<(Instant, i64)>,
    next_sample: Option<Instant>,
    next_compaction: Option<Instant>,
}

impl Schedule {
    pub fn new(mode: AutoCompaction) -> Schedule {
        Schedule { mode, samples: VecDeque::new(), next_sample: None, next_compaction: None }
    }

    /// The revision to compact now, if any. Followers call it as well, so that a new leader knows the past.
    pub fn due(&mut self, now: Instant, revision: i64, leads: bool) -> Option<i64> {
        let due = match self.mode {
            AutoCompaction::Off => None,
            AutoCompaction::Revisions(kept) => self.due_by_revision(now, revision, kept),
            AutoCompaction::Periodic(period) => self.due_by_time(now, revision, period),
        };
        due.filter(|revision| leads && *revision > 0)
    }

    fn due_by_revision(&mut self, now: Instant, revision: i64, kept: i64) -> Option<i64> {
        let due = self.next_compaction.get_or_insert(now + REVISIONS_INTERVAL);
        if now < *due {
            return None;
        }
        *due = now + REVISIONS_INTERVAL;
        Some(revision - kept)
    }

    /// Periods of an hour and more are compacted hourly, shorter ones once in a period.
    fn due_by_time(&mut self, now: Instant, revision: i64, period: Duration) -> Option<i64> {
        let interval = period.min(HOUR);
        if self.next_sample.is_some_and(|next| now < next) {
            return None;
        }
        self.next_sample = Some(now + interval / SAMPLES_PER_INTERVAL);
        self.samples.push_back((now, revision));
        let mut past = None;
        while let Some((_, revision)) = self.samples.pop_front_if(|(at, _)| *at + period <= now) {
            past = Some(revision);
        }
        let (due, past) = (self.next_compaction.get_or_insert(now + period), past?);
        if now < *due {
            // What was taken off is still the newest revision of that age.
            self.samples.push_front((now - period, past));
            return None;
        }
        *due = now + interval;
        Some(past)
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
            compacted.extend(schedule.due(now, 1 + minute as i64, true).map(|revision| (minute, revision)));
        }
        compacted
    }

    #[tokio::test(start_paused = true)]
    async fn each_mode_keeps_what_it_promises() {
        assert_eq!(compacted(AutoCompaction::Off, 1000).await, []);
        assert_eq!(compacted(AutoCompaction::Revisions(4), 12).await, [(5, 2), (10, 7)]);
        let ten_minutes = AutoCompaction::Periodic(Duration::from_secs(600));
        assert_eq!(compacted(ten_minutes, 30).await, [(10, 1), (20, 11), (30, 21)]);
        let three_hours = AutoCompaction::Periodic(3 * HOUR);
        assert_eq!(compacted(three_hours, 300).await, [(180, 1), (240, 61), (300, 121)]);
    }

    #[tokio::test(start_paused = true)]
    async fn followers_compact_nothing() {
        let mut schedule = Schedule::new(AutoCompaction::Revisions(0));
        let start = Instant::now();
        assert_eq!(schedule.due(start, 9, false), None);
        assert_eq!(schedule.due(start + REVISIONS_INTERVAL, 9, false), None);
    }
}
