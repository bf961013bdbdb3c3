//! What a replica counts, under etcd's names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::actor::metrics::{Counter, Exposition, Gauge, Histogram, Source};
use crate::world::{Clock, Instant};

/// Messages between this member and one other.
pub(super) struct Traffic {
    pub sent_bytes: Counter,
    pub received_bytes: Counter,
    /// Messages that may not have arrived.
    pub failures: Counter,
    pub round_trip: Histogram,
    snapshots_sent: Transfers,
    snapshots_received: Transfers,
}

/// Snapshots on their way in one direction.
pub(super) struct Transfers {
    succeeded: Counter,
    failed: Counter,
    under_way: Gauge,
    took: Histogram,
}

impl Transfers {
    fn new() -> Transfers {
        Transfers {
            succeeded: Counter::default(),
            failed: Counter::default(),
            under_way: Gauge::default(),
            took: Histogram::doubling(0.1, 10),
        }
    }
}

/// A snapshot on its way. It counts as failed unless it arrives.
pub(super) struct Transfer {
    traffic: Arc<Traffic>,
    which: fn(&Traffic) -> &Transfers,
    clock: Clock,
    started: Instant,
    arrived: bool,
}

impl Transfer {
    fn begin(traffic: Arc<Traffic>, which: fn(&Traffic) -> &Transfers, clock: &Clock) -> Transfer {
        which(&traffic).under_way.add(1);
        Transfer { traffic, which, clock: clock.clone(), started: clock.now(), arrived: false }
    }

    pub fn arrived(mut self) {
        self.arrived = true;
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let transfers = (self.which)(&self.traffic);
        transfers.under_way.add(-1);
        if self.arrived {
            transfers.succeeded.inc();
            transfers.took.observe(self.clock.now() - self.started);
        } else {
            transfers.failed.inc();
        }
    }
}

impl Traffic {
    fn new() -> Traffic {
        Traffic {
            sent_bytes: Counter::default(),
            received_bytes: Counter::default(),
            failures: Counter::default(),
            round_trip: Histogram::doubling(0.0001, 16),
            snapshots_sent: Transfers::new(),
            snapshots_received: Transfers::new(),
        }
    }
}

/// Counters of a replica's traffic with the other members.
#[derive(Default)]
pub(super) struct Metrics {
    traffic: Mutex<BTreeMap<u64, Arc<Traffic>>>,
    /// Heartbeats that were not answered in time.
    pub heartbeats_late: Counter,
}

impl Metrics {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Traffic>>> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn with(&self, id: u64) -> Arc<Traffic> {
        self.lock().entry(id).or_insert_with(|| Arc::new(Traffic::new())).clone()
    }

    pub fn snapshot_to(&self, id: u64, clock: &Clock) -> Transfer {
        Transfer::begin(self.with(id), |traffic| &traffic.snapshots_sent, clock)
    }

    pub fn snapshot_from(&self, id: u64, clock: &Clock) -> Transfer {
        Transfer::begin(self.with(id), |traffic| &traffic.snapshots_received, clock)
    }

    /// Forgets those that are no longer members.
    pub fn keep(&self, known: impl Fn(u64) -> bool) {
        self.lock().retain(|id, _| known(*id));
    }
}

impl Source for Metrics {
    fn expose(&self, text: &mut Exposition) {
        let traffic: Vec<_> = self.lock().iter().map(|(id, traffic)| (format!("{id:x}"), traffic.clone())).collect();
        bytes(text, &traffic);
        snapshots(text, &traffic);
        let name = "etcd_server_heartbeat_send_failures_total";
        let late = self.heartbeats_late.get();
        text.counter(name, "Heartbeats of this leader that were not answered in time.", late);
    }
}

/// The traffic with each member, by its ID in hexadecimal.
type All = [(String, Arc<Traffic>)];

fn bytes(text: &mut Exposition, traffic: &All) {
    if traffic.is_empty() {
        return;
    }
    for (name, label, help, pick) in [
        (
            "etcd_network_peer_sent_bytes_total",
            "To",
            "Bytes sent to another member.",
            (|with| &with.sent_bytes) as fn(&Traffic) -> &Counter,
        ),
        ("etcd_network_peer_received_bytes_total", "From", "Bytes received from another member.", |with| {
            &with.received_bytes
        }),
        (
            "etcd_network_peer_sent_failures_total",
            "To",
            "Messages to another member that may not have arrived.",
            |with| &with.failures,
        ),
    ] {
        text.family(name, "counter", help);
        for (id, with) in traffic {
            text.sample(name, &[(label, id)], pick(with).get());
        }
    }
    let name = "etcd_network_peer_round_trip_time_seconds";
    text.family(name, "histogram", "Time until another member has answered.");
    for (id, with) in traffic {
        text.buckets(name, &[("To", id)], &with.round_trip);
    }
}

fn snapshots(text: &mut Exposition, traffic: &All) {
    for (way, label, pick) in [
        ("send", "To", (|with| &with.snapshots_sent) as fn(&Traffic) -> &Transfers),
        ("receive", "From", |with| &with.snapshots_received),
    ] {
        let ended = |transfers: &Transfers| transfers.succeeded.get() + transfers.failed.get();
        let begun: Vec<_> = traffic
            .iter()
            .filter(|(_, with)| ended(pick(with)) > 0 || pick(with).under_way.get() > 0)
            .map(|(id, with)| (id.as_str(), pick(with)))
            .collect();
        if begun.is_empty() {
            continue;
        }
        for (outcome, help, count) in [
            ("success", "Snapshots that arrived.", (|of| &of.succeeded) as fn(&Transfers) -> &Counter),
            ("failures", "Snapshots that did not arrive.", |of| &of.failed),
        ] {
            let name = format!("etcd_network_snapshot_{way}_{outcome}");
            text.family(&name, "counter", help);
            begun.iter().for_each(|(id, of)| text.sample(&name, &[(label, id)], count(of).get()));
        }
        let name = format!("etcd_network_snapshot_{way}_inflights_total");
        text.family(&name, "gauge", "Snapshots on their way.");
        begun.iter().for_each(|(id, of)| text.sample(&name, &[(label, id)], of.under_way.get()));
        let name = format!("etcd_network_snapshot_{way}_total_duration_seconds");
        text.family(&name, "histogram", "Time that a snapshot took.");
        begun.iter().for_each(|(id, of)| text.buckets(&name, &[(label, id)], &of.took));
    }
}
