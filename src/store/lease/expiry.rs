//! When leases end. Only the leader knows: a follower keeps no time, and who comes to lead gives every lease its whole
//! lifetime anew, because it can't know when a client last renewed it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use imbl::ordmap::DiffItem;

use super::table::{Lease, Leases};
use crate::world::Instant;

/// How soon a revocation that has not come through is proposed again.
const RETRY: Duration = Duration::from_secs(3);

/// New leaders spread expiries so that no more than this many fall into one second: three quarters of what is revoked
/// in that time.
const EXPIRIES_PER_SECOND: u32 = 750;

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// For so many seconds.
    Renewed(i64),
    Unknown,
    /// Its revocation is under way: ask again, and it is unknown, or has a new life under another leader.
    Expired,
    /// This member does not lead.
    NotLeader,
}

/// The deadlines of all leases, while this member leads.
#[derive(Debug, Default)]
pub struct Expiry {
    leads: bool,
    /// The table as it was followed last.
    known: Leases,
    deadlines: BTreeMap<i64, Instant>,
    queue: BTreeSet<(Instant, i64)>,
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
                DiffItem::Add(id, lease) => self.set(*id, now + seconds(lease.ttl)),
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
            self.set(id, now + lifetime + grace + delay);
        }
    }

    pub fn leads(&self) -> bool {
        self.leads
    }

    pub fn demote(&mut self) {
        self.leads = false;
        self.deadlines.clear();
        self.queue.clear();
    }

    pub fn renew(&mut self, id: i64, now: Instant) -> Renewal {
        if !self.leads {
            return Renewal::NotLeader;
        }
        let (Some(lease), Some(deadline)) = (self.known.get(id), self.deadlines.get(&id)) else {
            return Renewal::Unknown;
        };
        if *deadline <= now {
            return Renewal::Expired;
        }
        let ttl = lease.ttl;
        self.set(id, now + seconds(ttl));
        Renewal::Renewed(ttl)
    }

    /// How long a lease still lives; `None` when unknown here.
    pub fn remaining(&self, id: i64, now: Instant) -> Option<Duration> {
        self.deadlines.get(&id).map(|deadline| deadline.saturating_duration_since(now))
    }

    /// All leases, those that end first before the others.
    pub fn by_expiry(&self) -> Vec<i64> {
        match self.leads {
            true => {
                let mut ids: Vec<_> = self.deadlines.iter().map(|(id, deadline)| (*deadline, *id)).collect();
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
            self.queue.remove(&(*at, *id));
            self.queue.insert((now + RETRY, *id));
        }
        due.into_iter().map(|(_, id)| id).collect()
    }

    fn set(&mut self, id: i64, deadline: Instant) {
        if let Some(before) = self.deadlines.insert(id, deadline) {
            self.queue.remove(&(before, id));
        }
        self.queue.insert((deadline, id));
    }

    fn clear(&mut self, id: i64) {
        if let Some(deadline) = self.deadlines.remove(&id) {
            // One whose revocation was proposed waits in the queue under a later time.
            if !self.queue.remove(&(deadline, id)) {
                self.queue.retain(|(_, queued)| *queued != id);
            }
        }
    }
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
        assert!(expiry.due(start + after(1000), 9).is_empty());
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
