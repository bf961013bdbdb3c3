//! The metrics that `/metrics` shows.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::world::net;

/// One frontend's metrics.
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    durations: Family<VerbLabel, Histogram>,
    watches: Gauge,
    connections: Connections,
}

/// Metrics of the connections to this process, as of the last scrape.
#[derive(Clone, Default)]
struct Connections {
    open: Gauge,
    max: Gauge,
    refused: Counter,
    displaced: Counter,
    abandoned: Counter,
}

impl Connections {
    fn register(&self, registry: &mut Registry) {
        registry.register("chorus_connections", "Connections that clients have open", self.open.clone());
        registry.register("chorus_connections_max", "How many there may be", self.max.clone());
        registry.register("chorus_connections_refused", "Refused, because there were too many", self.refused.clone());
        registry.register("chorus_connections_displaced", "Idle ones that gave way", self.displaced.clone());
        registry.register("chorus_connections_abandoned", "Closed: they said nothing", self.abandoned.clone());
    }

    fn look(&self, clients: &net::Connections) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.open.set(gauge(clients.open()));
        self.max.set(gauge(clients.max()));
        for (counter, count) in [
            (&self.refused, clients.refused()),
            (&self.displaced, clients.displaced()),
            (&self.abandoned, clients.abandoned()),
        ] {
            counter.inner().store(count, Ordering::Relaxed);
        }
    }
}

/// A watch that is open; counted until it is dropped.
pub struct OpenWatch(Gauge);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    verb: &'static str,
    group: String,
    resource: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerbLabel {
    verb: &'static str,
}

const BUCKETS: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::default();
        let requests = Family::<Labels, Counter<u64, AtomicU64>>::default();
        let durations = Family::<VerbLabel, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let watches = Gauge::default();
        // The counter's suffix `_total` is added when it is written.
        registry.register("apiserver_request", "Requests by verb, resource and code", requests.clone());
        registry.register("apiserver_request_duration_seconds", "Time to the answer", durations.clone());
        registry.register("apiserver_longrunning_requests", "Watches and streams that are open", watches.clone());
        let connections = Connections::default();
        connections.register(&mut registry);
        Metrics { registry, requests, durations, watches, connections }
    }
}

impl Metrics {
    /// A request was answered. Only known resources have their own labels, so that clients cannot grow the set of
    /// labels.
    pub fn answered(&self, verb: &'static str, group: &str, resource: &str, code: u16, seconds: f64) {
        let labels = Labels { verb, group: group.to_owned(), resource: resource.to_owned(), code };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&VerbLabel { verb }).observe(seconds);
    }

    /// A watch was opened.
    pub fn opened(&self) -> OpenWatch {
        self.watches.inc();
        OpenWatch(self.watches.clone())
    }

    /// All of them, as scrapers read them.
    pub fn text(&self, clients: &net::Connections) -> String {
        self.connections.look(clients);
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}
