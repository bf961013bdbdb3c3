//! The frontend's counters: its calls, and how they ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Code;

use super::rpc::{Kind, Rpc};
use crate::actor::metrics::{Counter, Exposition, Gauge, Histogram};
use crate::world::{Clock, Instant};

/// gRPC's codes, 0 to 16, as metrics spell them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Clients name their version themselves; more different names than this are counted as one.
const CLIENT_VERSIONS_MAX: usize = 100;
const OTHER_VERSION: &str = "other";

/// Bounds in seconds, as Prometheus's client libraries set them.
const HANDLING: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counters of one frontend. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Metrics(Arc<Counters>);

struct Counters {
    calls: Vec<Calls>,
    client_requests: Mutex<BTreeMap<&'static str, BTreeMap<String, u64>>>,
    health: [AtomicU64; 2],
    client_bytes: Bytes,
    scrapes: Scrapes,
    checks: Checks,
    /// Set if the durations of calls are counted, too.
    handling: Option<(Clock, Vec<Histogram>)>,
}

/// Checks of a probe, by its name and theirs: failures, successes, and whether the last one succeeded.
type Checks = Mutex<BTreeMap<(&'static str, &'static str), ([u64; 2], bool)>>;

/// Bytes of the messages of clients.
#[derive(Default)]
struct Bytes {
    received: Counter,
    sent: Counter,
}

/// Requests for metrics.
#[derive(Default)]
struct Scrapes {
    answered: Counter,
    under_way: Gauge,
}

/// The calls of one RPC.
#[derive(Default)]
struct Calls {
    started: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    handled: [AtomicU64; CODES.len()],
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            calls: Rpc::ALL.iter().map(|_| Calls::default()).collect(),
            client_requests: Mutex::default(),
            health: Default::default(),
            client_bytes: Bytes::default(),
            scrapes: Scrapes::default(),
            checks: Checks::default(),
            handling: None,
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A request for metrics.
pub(super) struct Scrape<'a>(&'a Scrapes);

impl Drop for Scrape<'_> {
    fn drop(&mut self) {
        self.0.under_way.add(-1);
        self.0.answered.inc();
    }
}

impl Metrics {
    /// With `clock`, the durations of calls are counted, too.
    pub fn new(clock: Option<Clock>) -> Metrics {
        let handling =
            clock.map(|clock| (clock, Rpc::ALL.iter().map(|_| Histogram::between(HANDLING.into())).collect()));
        Metrics(Arc::new(Counters { handling, ..Counters::default() }))
    }

    /// A call has begun; it is counted as handled when the result ends, or as canceled when it is dropped before.
    pub fn start(&self, rpc: Rpc) -> Counted {
        add(&self.0.calls[rpc as usize].started);
        let started = self.0.handling.as_ref().map(|(clock, _)| clock.now());
        Counted { counters: self.0.clone(), rpc, ended: false, started }
    }

    /// A message of so many bytes.
    pub fn received(&self, rpc: Rpc, bytes: usize) {
        add(&self.0.calls[rpc as usize].received);
        self.0.client_bytes.received.add(bytes as u64);
    }

    /// Somebody asks for metrics; ends when the answer is dropped.
    pub fn scrape(&self) -> Scrape<'_> {
        self.0.scrapes.under_way.add(1);
        Scrape(&self.0.scrapes)
    }

    pub fn client_request(&self, rpc: Rpc, client_api_version: &str) {
        let kind = if rpc.kind() == Kind::Unary { "unary" } else { "stream" };
        let mut requests = self.0.client_requests.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = requests.entry(kind).or_default();
        if let Some(count) = versions.get_mut(client_api_version) {
            *count += 1;
        } else {
            let version = if versions.len() < CLIENT_VERSIONS_MAX { client_api_version } else { OTHER_VERSION };
            *versions.entry(version.into()).or_default() += 1;
        }
    }

    /// One check of a probe.
    pub fn checked(&self, probe: &'static str, name: &'static str, succeeded: bool) {
        let mut checks = self.0.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let (counts, last) = checks.entry((probe, name)).or_default();
        counts[usize::from(succeeded)] += 1;
        *last = succeeded;
    }

    pub fn health(&self, healthy: bool) {
        add(&self.0.health[usize::from(healthy)]);
    }

    /// Appends all counters to `text`.
    pub fn expose(&self, text: &mut Exposition) {
        self.expose_calls(text, "grpc_server_started_total", "RPCs started on the server.", |calls| &calls.started);
        self.expose_calls(text, "grpc_server_msg_received_total", "RPC messages received.", |calls| &calls.received);
        self.expose_calls(text, "grpc_server_msg_sent_total", "RPC messages sent.", |calls| &calls.sent);
        self.expose_handled(text);
        self.expose_handling(text);
        self.expose_checks(text);
        self.expose_client_requests(text);
        self.expose_traffic(text);
        expose_absent(text);
        for (name, healthy) in [("etcd_server_health_failures", 0), ("etcd_server_health_success", 1)] {
            text.counter(name, "Health checks of this member by their outcome.", read(&self.0.health[healthy]));
        }
    }

    fn expose_calls(&self, text: &mut Exposition, name: &str, help: &str, pick: fn(&Calls) -> &AtomicU64) {
        text.family(name, "counter", help);
        for rpc in Rpc::ALL {
            text.sample(name, &labels(*rpc), read(pick(&self.0.calls[*rpc as usize])));
        }
    }

    fn expose_handled(&self, text: &mut Exposition) {
        let name = "grpc_server_handled_total";
        text.family(name, "counter", "RPCs completed on the server, whatever their outcome.");
        for rpc in Rpc::ALL {
            for (code, handled) in CODES.iter().zip(&self.0.calls[*rpc as usize].handled) {
                let [method, service, kind] = labels(*rpc);
                let count = read(handled);
                if count > 0 || *code == "OK" {
                    text.sample(name, &[("grpc_code", code), method, service, kind], count);
                }
            }
        }
    }

    fn expose_traffic(&self, text: &mut Exposition) {
        let bytes = &self.0.client_bytes;
        let name = "etcd_network_client_grpc_received_bytes_total";
        text.counter(name, "Bytes of the messages of clients.", bytes.received.get());
        let name = "etcd_network_client_grpc_sent_bytes_total";
        text.counter(name, "Bytes of the messages to clients.", bytes.sent.get());
        let scrapes = &self.0.scrapes;
        let name = "promhttp_metric_handler_requests_in_flight";
        text.gauge(name, "Requests for metrics under way.", scrapes.under_way.get());
        let name = "promhttp_metric_handler_requests_total";
        text.family(name, "counter", "Requests for metrics by HTTP status.");
        text.sample(name, &[("code", "200")], scrapes.answered.get());
        for code in ["500", "503"] {
            text.sample(name, &[("code", code)], 0);
        }
    }

    fn expose_handling(&self, text: &mut Exposition) {
        let Some((_, handling)) = &self.0.handling else { return };
        let name = "grpc_server_handling_seconds";
        text.family(name, "histogram", "Time from the start of an RPC to its end.");
        for (rpc, took) in Rpc::ALL.iter().zip(handling) {
            text.buckets(name, &labels(*rpc), took);
        }
    }

    fn expose_checks(&self, text: &mut Exposition) {
        let checks = self.0.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let name = "etcd_server_healthcheck";
        text.family(name, "gauge", "Whether the last check of its kind succeeded.");
        for ((probe, check), (_, last)) in checks.iter() {
            text.sample(name, &[("name", check), ("type", probe)], u8::from(*last));
        }
        let name = "etcd_server_healthchecks_total";
        text.family(name, "counter", "Checks by kind and outcome.");
        for ((probe, check), (counts, _)) in checks.iter() {
            for (count, status) in counts.iter().zip(["error", "success"]).filter(|(count, _)| **count > 0) {
                text.sample(name, &[("name", check), ("status", status), ("type", probe)], *count);
            }
        }
    }

    fn expose_client_requests(&self, text: &mut Exposition) {
        let name = "etcd_server_client_requests_total";
        text.family(name, "counter", "Client requests by client version.");
        let requests = self.0.client_requests.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, versions) in requests.iter() {
            for (version, count) in versions {
                text.sample(name, &[("client_api_version", version), ("type", kind)], *count);
            }
        }
    }
}

fn labels(rpc: Rpc) -> [(&'static str, &'static str); 3] {
    [("grpc_method", rpc.method()), ("grpc_service", rpc.service()), ("grpc_type", rpc.kind().label())]
}

/// Steps of etcd's that this frontend does not have, and parts of the proxy that is another process.
fn expose_absent(text: &mut Exposition) {
    for part in
        ["watch_stream_duration", "watch_stream_duration_per_event", "control_stream_duration", "progress_duration"]
    {
        let name = format!("etcd_debugging_server_watch_send_loop_{part}_seconds");
        text.histogram(&name, "A step that this server does not have.", &Histogram::doubling(0.001, 14));
    }
    for name in ["cache_hits", "cache_misses", "events_coalescing"] {
        text.counter(&format!("etcd_grpc_proxy_{name}_total"), "Of a gRPC proxy, which this is not.", 0);
    }
    for name in ["cache_keys", "watchers_coalescing"] {
        text.gauge(&format!("etcd_grpc_proxy_{name}_total"), "Of a gRPC proxy, which this is not.", 0);
    }
}

/// One call under way.
pub(super) struct Counted {
    counters: Arc<Counters>,
    rpc: Rpc,
    ended: bool,
    started: Option<Instant>,
}

impl Counted {
    /// A message of so many bytes.
    pub fn sent(&self, bytes: usize) {
        add(&self.counters.calls[self.rpc as usize].sent);
        self.counters.client_bytes.sent.add(bytes as u64);
    }

    /// Counts the call as handled, once.
    pub fn end(&mut self, code: Code) {
        if !std::mem::replace(&mut self.ended, true) {
            add(&self.counters.calls[self.rpc as usize].handled[code as usize]);
            if let (Some((clock, handling)), Some(started)) = (&self.counters.handling, self.started) {
                handling[self.rpc as usize].observe(clock.now() - started);
            }
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        let mut text = Exposition::default();
        metrics.expose(&mut text);
        text.into_text()
    }

    #[test]
    fn a_call_that_is_dropped_counts_as_canceled() {
        let metrics = Metrics::default();
        drop(metrics.start(Rpc::Watch));
        metrics.start(Rpc::Put).end(Code::Ok);
        let text = text(&metrics);
        for line in [
            "grpc_server_handled_total{grpc_code=\"Canceled\",grpc_method=\"Watch\",grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"} 1\n",
            "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1\n",
            "grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn client_versions_are_bounded_and_escaped() {
        let metrics = Metrics::default();
        metrics.client_request(Rpc::Put, "a\"b\\");
        for i in 0..200 {
            metrics.client_request(Rpc::Put, &format!("3.{i}"));
        }
        let text = text(&metrics);
        assert!(
            text.contains("etcd_server_client_requests_total{client_api_version=\"a\\\"b\\\\\",type=\"unary\"} 1\n")
        );
        assert!(text.contains("etcd_server_client_requests_total{client_api_version=\"other\",type=\"unary\"} 101\n"));
    }
}
