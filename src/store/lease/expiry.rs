//! When leases end. Only the leader knows, because renewals do not go through the log. A new leader knows when those
//! leases end for which an earlier leader recorded it; all others get their whole TTL, because a client may just have
//! renewed them.
//!
//! ```text
//!   granted, or found when this member came to lead ──a moment──▶ recorded ──taken back──▶ renewed
//!                                                                    ▲                        │
//!                                                                    └──half of its life──────┘
//! ```
//!
//! So a client that renews in time costs the log nothing, and a lease that is not renewed is recorded once, even when
//! leaders change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use imbl::ordmap::DiffItem;

use super::table::{Lease, Leases, TIME, whole_seconds};
use crate::world::Instant;
use crate::world::planted::planted;

/// A revocation that was not applied by then is proposed again.
const RETRY: Duration = Duration::from_secs(3);

/// New leaders spread expiries so that no more than this many fall into one second: three quarters of what etcd revokes
/// in that time.
const EXPIRIES_PER_SECOND: u32 = 750;

/// A lease is recorded when it is not renewed for this long after it was granted, or after this member came to lead.
const RECORD_DELAY: Duration = Duration::from_secs(1);

/// The leader reports the time as often as this while the lease that ends first still lives, within bounds.
const REPORTS_PER_LIFE: u32 = 32;
const REPORT_INTERVAL_MIN: Duration = Duration::from_secs(1);
const REPORT_INTERVAL_MAX: Duration = Duration::from_secs(300);

/// Names one record of when a lease ends. No two records have the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordId(u64);

/// The outcome of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lives for this many seconds from now on.
    Renewed(i64),
    Unknown,
    /// Its end is recorded, or about to be: take the record back, then ask again with its number.
    Recorded(RecordId),
    /// Its revocation is under way: ask again, and it is unknown, or has a new life under another leader.
    Expired,
    /// This member does not lead.
    NotLeader,
}

/// Whether the log has a record of when a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    /// The end is to be recorded at this time.
    Due(Instant),
    /// The end is recorded, or a proposal to record it is under way.
    Made(RecordId),
}

/// When a lease ends, and what is to be done about it next.
#[derive(Clone, Copy, Debug)]
struct Timer {
    deadline: Instant,
    /// Its position in the queue of leases to be revoked.
    queued: Instant,
    record: Record,
}

/// Where the time of leases stood when this member came to lead, and when it reported the time since.
#[derive(Clone, Copy, Debug)]
struct Count {
    /// When this member last applied the time that an earlier leader reported.
    since: Instant,
    /// When this member last reported the time.
    reported: Option<Instant>,
}

/// The deadlines of all leases, while this member leads.
#[derive(Debug, Default)]
pub struct Expiry {
    leads: Option<Count>,
    /// The table as it was followed last.
    known: Leases,
    timers: BTreeMap<i64, Timer>,
    queue: BTreeSet<(Instant, i64)>,
    records: BTreeSet<(Instant, i64)>,
    recordings: u64,
}

impl Expiry {
    /// Takes in what was granted and revoked since the last call.
    pub fn follow(&mut self, leases: &Leases, now: Instant) {
        let before = std::mem::replace(&mut self.known, leases.clone());
        if self.leads.is_none() {
            return;
        }
        for change in before.diff(leases) {
            match change {
                DiffItem::Add(id, lease) => self.begin(*id, lease, now),
                DiffItem::Remove(id, _) => self.clear(*id),
                // Revoked and granted again.
                DiffItem::Update { old: (_, old), new: (id, lease) } if old.granted != lease.granted => {
                    self.begin(*id, lease, now);
                }
                DiffItem::Update { .. } => {}
            }
        }
    }

    fn begin(&mut self, id: i64, lease: &Lease, now: Instant) {
        self.set(id, now + seconds(lease.ttl), Record::Due(now + RECORD_DELAY));
    }

    /// This member came to lead and has applied everything of earlier leaders. It last applied the time of leases at
    /// `since`. A lease lives for `grace` at least: its client may have tried to renew it meanwhile.
    pub fn promote(&mut self, leases: &Leases, since: Instant, now: Instant, grace: Duration) {
        self.demote();
        self.leads = Some(Count { since, reported: None });
        self.known = leases.clone();
        let found = self.next_record();
        let left = |lease: &Lease| match leases.remaining(lease) {
            Some(remaining) => remaining.saturating_sub(now.saturating_duration_since(since)).max(grace),
            None => seconds(lease.ttl) + grace,
        };
        let mut lives: Vec<(Duration, i64)> = leases.iter().map(|(id, lease)| (left(lease), id)).collect();
        lives.sort_unstable();
        let (mut base, mut window_end, mut in_window) = (Duration::ZERO, Duration::ZERO, 0);
        for (life, id) in lives {
            if in_window == 0 || life > window_end {
                (base, window_end, in_window) = (life, life + Duration::from_secs(1), 0);
            }
            in_window += 1;
            let mut delay = Duration::ZERO;
            if in_window > EXPIRIES_PER_SECOND {
                delay = (Duration::from_secs(1) * in_window / EXPIRIES_PER_SECOND).saturating_sub(life - base);
                window_end = window_end.max(base + delay);
            }
            let is_recorded = leases.get(id).is_some_and(|lease| lease.deadline.is_some());
            let record = if is_recorded { Record::Made(found) } else { Record::Due(now + RECORD_DELAY) };
            self.set(id, now + life + delay, record);
        }
    }

    pub fn leads(&self) -> bool {
        self.leads.is_some()
    }

    pub fn demote(&mut self) {
        if planted!("two-lessors") {
            return;
        }
        self.leads = None;
        self.timers.clear();
        self.queue.clear();
        self.records.clear();
    }

    /// Renews a lease. `forgotten` is the recording that was taken back for that.
    pub fn renew(&mut self, id: i64, now: Instant, forgotten: Option<RecordId>) -> Renewal {
        if self.leads.is_none() {
            return Renewal::NotLeader;
        }
        let (Some(lease), Some(timer)) = (self.known.get(id), self.timers.get(&id)) else {
            return Renewal::Unknown;
        };
        if timer.deadline <= now && !planted!("renew-expired") {
            return Renewal::Expired;
        }
        match timer.record {
            Record::Made(record) if forgotten != Some(record) => return Renewal::Recorded(record),
            _ => {}
        }
        let ttl = lease.ttl;
        let idle = (seconds(ttl) / 2).max(RECORD_DELAY);
        self.set(id, now + seconds(ttl), Record::Due(now + idle));
        Renewal::Renewed(ttl)
    }

    /// How long a lease still lives; `None` when unknown here.
    pub fn remaining(&self, id: i64, now: Instant) -> Option<Duration> {
        self.timers.get(&id).map(|timer| timer.deadline.saturating_duration_since(now))
    }

    /// All leases, in the order in which they end.
    pub fn by_expiry(&self) -> Vec<i64> {
        match self.leads() {
            true => {
                let mut ids: Vec<_> = self.timers.iter().map(|(id, timer)| (timer.deadline, *id)).collect();
                ids.sort_unstable();
                ids.into_iter().map(|(_, id)| id).collect()
            }
            false => self.known.iter().map(|(id, _)| id).collect(),
        }
    }

    /// Up to `max` leases that have ended and are to be revoked now.
    pub fn due(&mut self, now: Instant, max: usize) -> Vec<i64> {
        let due: Vec<(Instant, i64)> = self.queue.iter().take_while(|(at, _)| *at <= now).take(max).copied().collect();
        for (at, id) in &due {
            let retry = now + RETRY;
            self.queue.remove(&(*at, *id));
            self.queue.insert((retry, *id));
            self.timers.get_mut(id).expect("what is queued has a timer").queued = retry;
        }
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// What is to be recorded now, as rows of a `LeaseCheckpoint`: the time, and the ends of up to `max` leases, which
    /// count from it. Nothing when no end is due and the time is known well enough.
    pub fn checkpoint(&mut self, now: Instant, max: usize) -> Vec<(i64, i64)> {
        let Some(Count { since, reported }) = self.leads else { return Vec::new() };
        let due: Vec<(Instant, i64)> =
            self.records.iter().take_while(|(at, _)| *at <= now).take(max).copied().collect();
        if due.is_empty() && !self.time_is_due(reported, now) {
            return Vec::new();
        }
        self.leads = Some(Count { since, reported: Some(now) });
        let passed = i64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(i64::MAX);
        let mut rows = vec![(TIME, passed)];
        let record = self.next_record();
        for (at, id) in due {
            self.records.remove(&(at, id));
            let timer = self.timers.get_mut(&id).expect("what is queued has a timer");
            timer.record = Record::Made(record);
            rows.push((id, whole_seconds(timer.deadline.saturating_duration_since(now)).max(1)));
        }
        rows
    }

    /// Whether followers may know too little of how much time has passed for the leases whose ends are recorded.
    fn time_is_due(&self, reported: Option<Instant>, now: Instant) -> bool {
        let any_recorded = self.timers.len() > self.records.len();
        let Some((first, _)) = self.queue.first().filter(|_| any_recorded) else { return false };
        let interval = first.saturating_duration_since(now) / REPORTS_PER_LIFE;
        reported.is_none_or(|reported| reported + interval.clamp(REPORT_INTERVAL_MIN, REPORT_INTERVAL_MAX) <= now)
    }

    fn next_record(&mut self) -> RecordId {
        self.recordings += 1;
        RecordId(self.recordings)
    }

    fn set(&mut self, id: i64, deadline: Instant, record: Record) {
        self.clear(id);
        self.timers.insert(id, Timer { deadline, queued: deadline, record });
        self.queue.insert((deadline, id));
        if let Record::Due(at) = record {
            self.records.insert((at, id));
        }
    }

    fn clear(&mut self, id: i64) {
        let Some(timer) = self.timers.remove(&id) else { return };
        self.queue.remove(&(timer.queued, id));
        if let Record::Due(at) = timer.record {
            self.records.remove(&(at, id));
        }
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Term;

    fn leases(granted: &[(i64, i64)]) -> Leases {
        let mut leases = Leases::default();
        granted.iter().for_each(|(id, ttl)| leases.grant(*id, *ttl, 1).unwrap());
        leases
    }

    const fn after(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Leads over `leases` from `start` on.
    fn leading(leases: &Leases, start: Instant) -> Expiry {
        let mut expiry = Expiry::default();
        expiry.promote(leases, start, start, Duration::ZERO);
        expiry
    }

    fn apply(leases: &mut Leases, term: u64, rows: &[(i64, i64)]) {
        rows.iter().for_each(|(id, remaining)| leases.checkpoint(Term(term), *id, *remaining));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_unless_it_is_renewed() {
        let start = Instant::now();
        let mut expiry = leading(&Leases::default(), start);
        expiry.follow(&leases(&[(1, 10), (2, 10)]), start);
        assert_eq!(expiry.renew(1, start + after(6), None), Renewal::Renewed(10));
        assert_eq!(expiry.renew(3, start, None), Renewal::Unknown);
        assert_eq!(expiry.remaining(2, start + after(6)), Some(after(4)));
        assert_eq!(expiry.by_expiry(), [2, 1]);
        assert!(expiry.due(start + after(9), 9).is_empty());
        assert_eq!(expiry.due(start + after(10), 9), [2]);
        assert_eq!(expiry.renew(2, start + after(10), None), Renewal::Expired);
        assert!(expiry.due(start + after(12), 9).is_empty());
        assert_eq!(expiry.due(start + after(13), 9), [2], "a revocation that did not come through is tried again");
        expiry.follow(&leases(&[(1, 10)]), start + after(14));
        assert_eq!(expiry.renew(2, start + after(14), None), Renewal::Unknown);
        assert_eq!(expiry.due(start + after(99), 9), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_was_granted_anew_has_a_life_of_its_own() {
        let start = Instant::now();
        let mut expiry = leading(&leases(&[(1, 10)]), start);
        let mut again = Leases::default();
        again.grant(1, 10, 2).unwrap();
        expiry.follow(&again, start + after(9));
        assert!(expiry.due(start + after(18), 9).is_empty());
        assert_eq!(expiry.due(start + after(19), 9), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_lead_ends_no_lease() {
        let start = Instant::now();
        let mut expiry = Expiry::default();
        let table = leases(&[(1, 10)]);
        expiry.follow(&table, start);
        assert!(expiry.due(start + after(1000), 9).is_empty());
        assert_eq!(expiry.renew(1, start, None), Renewal::NotLeader);
        expiry.promote(&table, start, start + after(100), after(1));
        assert_eq!(expiry.remaining(1, start + after(100)), Some(after(11)), "a client may just have renewed it");
        expiry.demote();
        assert!(expiry.due(start + after(1000), 9).is_empty(), "a former leader ends no lease");
        assert!(expiry.checkpoint(start + after(1000), 9).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_renews_in_time_costs_the_log_nothing() {
        let start = Instant::now();
        let mut expiry = leading(&Leases::default(), start);
        expiry.follow(&leases(&[(1, 60)]), start);
        for now in (0..600).map(|second| start + after(second)) {
            if (now - start).as_secs().is_multiple_of(20) {
                assert_eq!(expiry.renew(1, now, None), Renewal::Renewed(60));
            }
            assert_eq!(expiry.checkpoint(now, 9), []);
        }
        assert_eq!(expiry.checkpoint(start + after(609), 9), []);
        assert_eq!(expiry.checkpoint(start + after(610), 9), [(TIME, 610_000), (1, 30)], "half of its life is over");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_recorded_is_taken_back_before_a_renewal() {
        let start = Instant::now();
        let mut expiry = leading(&leases(&[(1, 60)]), start);
        assert_eq!(expiry.checkpoint(start, 9), []);
        assert_eq!(expiry.checkpoint(start + after(1), 9), [(TIME, 1_000), (1, 59)]);
        let renew = |expiry: &mut Expiry, second, forgotten| expiry.renew(1, start + after(second), forgotten);
        // Under way, or in the log by now: no matter.
        let Renewal::Recorded(record) = renew(&mut expiry, 2, None) else { panic!("it is recorded") };
        assert_eq!(renew(&mut expiry, 2, Some(record)), Renewal::Renewed(60));
        assert_eq!(renew(&mut expiry, 3, None), Renewal::Renewed(60));
        assert_eq!(expiry.checkpoint(start + after(33), 9), [(TIME, 33_000), (1, 30)]);
        assert_eq!(renew(&mut expiry, 34, Some(record)), Renewal::Recorded(RecordId(3)), "that was another recording");
        expiry.promote(&leases(&[(1, 60)]), start, start + after(40), Duration::ZERO);
        assert_eq!(renew(&mut expiry, 40, None), Renewal::Renewed(60));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_is_told_as_long_as_something_counts_from_it() {
        let start = Instant::now();
        let mut expiry = leading(&leases(&[(1, 3200)]), start);
        let tellings = |expiry: &mut Expiry, seconds: std::ops::Range<u64>| {
            seconds.filter(|second| !expiry.checkpoint(start + after(*second), 9).is_empty()).collect::<Vec<_>>()
        };
        assert_eq!(tellings(&mut expiry, 0..400), [1, 98, 192, 284, 373]);
        assert_eq!(tellings(&mut expiry, 3197..3200), [3197, 3198, 3199]);
        expiry.follow(&Leases::default(), start + after(3200));
        assert!(tellings(&mut expiry, 3200..9000).is_empty());
    }

    /// One member leads after the other, each for ten seconds; the last one was started anew meanwhile.
    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_on_time_however_many_leaders_there_were() {
        let start = Instant::now();
        let mut table = Leases::default();
        let (mut told, mut ended) = (start, None);
        for term in 1..20 {
            let mut expiry = Expiry::default();
            let came_to_lead = (term - 1) * 10;
            expiry.promote(&table, told, start + after(came_to_lead), after(1));
            for second in came_to_lead..came_to_lead + 8 {
                let now = start + after(second);
                if second == 0 {
                    table.grant(1, 60, 1).unwrap();
                }
                expiry.follow(&table, now);
                let rows = expiry.checkpoint(now, 9);
                if !rows.is_empty() {
                    apply(&mut table, term, &rows);
                    told = now;
                }
                if !expiry.due(now, 9).is_empty() {
                    ended = ended.or(Some(second));
                }
            }
        }
        assert_eq!(ended, Some(61), "a second for the election before it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_spreads_expiries() {
        let start = Instant::now();
        let granted: Vec<(i64, i64)> = (1..=3000).map(|id| (id, 10)).collect();
        let mut expiry = leading(&leases(&granted), start);
        assert_eq!(expiry.due(start + after(10), 9999).len(), 750);
        let in_all: usize = (11..=14).map(|second| expiry.due(start + after(second), 751).len()).sum();
        assert!(in_all >= 2250, "{in_all}");
    }
}
