//! When leases end. Only the leader knows: a follower keeps no time, and who comes to lead gives every lease the lifetime
//! that is recorded for it, because it can't know when a client last renewed it. The leader records what is left of a
//! long life from time to time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use imbl::ordmap::DiffItem;

use super::table::{Lease, Leases};
use crate::world::Instant;
use crate::world::planted::planted;

/// How soon a revocation that has not come through is proposed again.
const RETRY: Duration = Duration::from_secs(3);

/// New leaders spread expiries so that no more than this many fall into one second: three quarters of what etcd revokes
/// in that time.
const EXPIRIES_PER_SECOND: u32 = 750;

/// What is left of a life is recorded this often; shorter lives are not worth it. As in etcd.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// For so many seconds.
    Renewed(i64),
    Unknown,
    /// A shorter life is recorded for it than it would now get: that goes first, then ask again.
    Recorded,
    /// Its revocation is under way: ask again, and it is unknown, or has a new life under another leader.
    Expired,
    /// This member does not lead.
    NotLeader,
}

/// When a lease ends, and what is to be done about it next.
#[derive(Clone, Copy, Debug)]
struct Timer {
    deadline: Instant,
    /// Where it stands in the queue of those to be revoked.
    queued: Instant,
    /// Where it stands in the queue of those to be recorded.
    checkpoint: Option<Instant>,
}

/// The deadlines of all leases, while this member leads.
#[derive(Debug, Default)]
pub struct Expiry {
    leads: bool,
    /// The table as it was followed last.
    known: Leases,
    timers: BTreeMap<i64, Timer>,
    queue: BTreeSet<(Instant, i64)>,
    checkpoints: BTreeSet<(Instant, i64)>,
}

impl Expiry {
    /// Takes in what was granted and revoked since the last call.
    pub fn follow(&mut self, leases: &Leases, now: Instant) {
        let before = std::mem::replace(&mut self.known, leases.clone());
        if !self.leads {
            return;
        }
        for change in before.diff(leases) {
            match change {
                DiffItem::Add(id, lease) => self.set(*id, now, now + seconds(lease.ttl)),
                DiffItem::Remove(id, _) => self.clear(*id),
                DiffItem::Update { .. } => {}
            }
        }
    }

    /// This member came to lead: every lease gets the lifetime that is recorded for it, and `grace` on top.
    pub fn promote(&mut self, leases: &Leases, now: Instant, grace: Duration) {
        self.demote();
        self.leads = true;
        self.known = leases.clone();
        let mut lifetimes: Vec<(Duration, i64)> = leases.iter().map(|(id, lease)| (lifetime(lease), id)).collect();
        lifetimes.sort_unstable();
        let (mut base, mut window_end, mut in_window) = (Duration::ZERO, Duration::ZERO, 0);
        for (lifetime, id) in lifetimes {
            if in_window == 0 || lifetime > window_end {
                (base, window_end, in_window) = (lifetime, lifetime + Duration::from_secs(1), 0);
            }
            in_window += 1;
            let mut delay = Duration::ZERO;
            if in_window > EXPIRIES_PER_SECOND {
                delay = (Duration::from_secs(1) * in_window / EXPIRIES_PER_SECOND).saturating_sub(lifetime - base);
                window_end = window_end.max(base + delay);
            }
            self.set(id, now, now + lifetime + grace + delay);
        }
    }

    pub fn leads(&self) -> bool {
        self.leads
    }

    pub fn demote(&mut self) {
        if planted!("two-lessors") {
            return;
        }
        self.leads = false;
        self.timers.clear();
        self.queue.clear();
        self.checkpoints.clear();
    }

    pub fn renew(&mut self, id: i64, now: Instant) -> Renewal {
        if !self.leads {
            return Renewal::NotLeader;
        }
        let (Some(lease), Some(timer)) = (self.known.get(id), self.timers.get(&id)) else {
            return Renewal::Unknown;
        };
        if timer.deadline <= now && !planted!("renew-expired") {
            return Renewal::Expired;
        }
        if lease.remaining_ttl > 0 {
            return Renewal::Recorded;
        }
        let ttl = lease.ttl;
        self.set(id, now, now + seconds(ttl));
        Renewal::Renewed(ttl)
    }

    /// How long a lease still lives; `None` when unknown here.
    pub fn remaining(&self, id: i64, now: Instant) -> Option<Duration> {
        self.timers.get(&id).map(|timer| timer.deadline.saturating_duration_since(now))
    }

    /// All leases, those that end first before the others.
    pub fn by_expiry(&self) -> Vec<i64> {
        match self.leads {
            true => {
                let mut ids: Vec<_> = self.timers.iter().map(|(id, timer)| (timer.deadline, *id)).collect();
                ids.sort_unstable();
                ids.into_iter().map(|(_, id)| id).collect()
            }
            false => self.known.iter().map(|(id, _)| id).collect(),
        }
    }

    /// Up to `max` leases that have ended and whose revocation is to be proposed now.
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

    /// Up to `max` leases of which it is time to record how many seconds they have left.
    pub fn due_records(&mut self, now: Instant, max: usize) -> Vec<(i64, i64)> {
        let due: Vec<(Instant, i64)> =
            self.checkpoints.iter().take_while(|(at, _)| *at <= now).take(max).copied().collect();
        let mut recorded = Vec::with_capacity(due.len());
        for (at, id) in due {
            self.checkpoints.remove(&(at, id));
            let timer = self.timers.get_mut(&id).expect("what is queued has a timer");
            let left = timer.deadline.saturating_duration_since(now);
            timer.checkpoint = next_checkpoint(now, timer.deadline);
            self.checkpoints.extend(timer.checkpoint.map(|at| (at, id)));
            if left > Duration::ZERO {
                // Rounded up: a lease must not end early.
                recorded.push((id, left.as_millis().div_ceil(1000) as i64));
            }
        }
        recorded
    }

    fn set(&mut self, id: i64, now: Instant, deadline: Instant) {
        self.clear(id);
        let checkpoint = next_checkpoint(now, deadline);
        self.timers.insert(id, Timer { deadline, queued: deadline, checkpoint });
        self.queue.insert((deadline, id));
        self.checkpoints.extend(checkpoint.map(|at| (at, id)));
    }

    fn clear(&mut self, id: i64) {
        let Some(timer) = self.timers.remove(&id) else { return };
        self.queue.remove(&(timer.queued, id));
        if let Some(at) = timer.checkpoint {
            self.checkpoints.remove(&(at, id));
        }
    }
}

fn next_checkpoint(now: Instant, deadline: Instant) -> Option<Instant> {
    (deadline.saturating_duration_since(now) > CHECKPOINT_INTERVAL).then(|| now + CHECKPOINT_INTERVAL)
}

fn lifetime(lease: &Lease) -> Duration {
    seconds(if lease.remaining_ttl > 0 { lease.remaining_ttl } else { lease.ttl })
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases(granted: &[(i64, i64)]) -> Leases {
        let mut leases = Leases::default();
        granted.iter().for_each(|(id, ttl)| leases.grant(*id, *ttl, 0).unwrap());
        leases
    }

    const fn after(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_unless_it_is_renewed() {
        let start = Instant::now();
        let mut expiry = Expiry::default();
        expiry.promote(&Leases::default(), start, after(1));
        expiry.follow(&leases(&[(1, 10), (2, 10)]), start);
        assert_eq!(expiry.renew(1, start + after(6)), Renewal::Renewed(10));
        assert_eq!(expiry.renew(3, start), Renewal::Unknown);
        assert_eq!(expiry.remaining(2, start + after(6)), Some(after(4)));
        assert_eq!(expiry.by_expiry(), [2, 1]);
        assert!(expiry.due(start + after(9), 9).is_empty());
        assert_eq!(expiry.due(start + after(10), 9), [2]);
        assert_eq!(expiry.renew(2, start + after(10)), Renewal::Expired);
        assert!(expiry.due(start + after(12), 9).is_empty());
        assert_eq!(expiry.due(start + after(13), 9), [2], "a revocation that did not come through is tried again");
        expiry.follow(&leases(&[(1, 10)]), start + after(14));
        assert_eq!(expiry.renew(2, start + after(14)), Renewal::Unknown);
        assert_eq!(expiry.due(start + after(99), 9), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_gives_every_lease_its_whole_life_and_an_old_one_ends_none() {
        let start = Instant::now();
        let mut expiry = Expiry::default();
        let mut table = leases(&[(1, 10), (2, 600)]);
        table.set_remaining(2, 60);
        expiry.follow(&table, start);
        assert!(expiry.due(start + after(1000), 9).is_empty(), "a follower ends no lease");
        assert_eq!(expiry.renew(1, start), Renewal::NotLeader);
        expiry.promote(&table, start + after(100), after(1));
        assert_eq!(expiry.remaining(1, start + after(100)), Some(after(11)));
        assert_eq!(expiry.remaining(2, start + after(100)), Some(after(61)));
        expiry.demote();
        assert!(expiry.due(start + after(1000), 9).is_empty(), "a former leader ends no lease");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_long_life_is_recorded_and_a_renewal_waits_for_that_to_go() {
        let start = Instant::now();
        let mut expiry = Expiry::default();
        expiry.promote(&leases(&[(1, 1000), (2, 200)]), start, Duration::ZERO);
        assert_eq!(expiry.due_records(start + after(299), 9), []);
        assert_eq!(expiry.due_records(start + after(300), 9), [(1, 700)], "a short life is not recorded");
        assert_eq!(expiry.due_records(start + after(301), 9), []);
        let mut table = leases(&[(1, 1000), (2, 200)]);
        table.set_remaining(1, 700);
        expiry.follow(&table, start + after(301));
        assert_eq!(expiry.renew(1, start + after(400)), Renewal::Recorded);
        table.set_remaining(1, 0);
        expiry.follow(&table, start + after(400));
        assert_eq!(expiry.renew(1, start + after(400)), Renewal::Renewed(1000));
        assert_eq!(expiry.due_records(start + after(699), 9), []);
        assert_eq!(expiry.due_records(start + after(700), 9), [(1, 700)]);
        expiry.follow(&Leases::default(), start + after(701));
        assert_eq!(expiry.due_records(start + after(9999), 9), []);
        assert!(expiry.due(start + after(9999), 9).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_spreads_expiries() {
        let start = Instant::now();
        let mut expiry = Expiry::default();
        let granted: Vec<(i64, i64)> = (1..=3000).map(|id| (id, 10)).collect();
        expiry.promote(&leases(&granted), start, Duration::ZERO);
        assert_eq!(expiry.due(start + after(10), 9999).len(), 750);
        let in_all: usize = (11..=14).map(|second| expiry.due(start + after(second), 751).len()).sum();
        assert!(in_all >= 2250, "{in_all}");
    }
}
