//! The frontend's counters: its calls, and how they ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Code;

use super::rpc::{Kind, Rpc};
use crate::actor::metrics::Exposition;

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

/// Clients name their version themselves; so many different ones are told apart.
const CLIENT_VERSIONS_MAX: usize = 100;
const OTHER_VERSION: &str = "other";

/// Counters of one frontend. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Metrics(Arc<Counters>);

struct Counters {
    calls: Vec<Calls>,
    client_requests: Mutex<BTreeMap<&'static str, BTreeMap<String, u64>>>,
    health: [AtomicU64; 2],
}

/// What happened to the calls of one RPC.
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
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Metrics {
    /// A call has begun; it is counted as handled when the result ends, or as canceled when it is dropped before.
    pub fn start(&self, rpc: Rpc) -> Counted {
        add(&self.0.calls[rpc as usize].started);
        Counted { counters: self.0.clone(), rpc, ended: false }
    }

    pub fn received(&self, rpc: Rpc) {
        add(&self.0.calls[rpc as usize].received);
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

    pub fn health(&self, healthy: bool) {
        add(&self.0.health[usize::from(healthy)]);
    }

    /// Appends all counters to `text`.
    pub fn expose(&self, text: &mut Exposition) {
        self.expose_calls(text, "grpc_server_started_total", "RPCs started on the server.", |calls| &calls.started);
        self.expose_calls(text, "grpc_server_msg_received_total", "RPC messages received.", |calls| &calls.received);
        self.expose_calls(text, "grpc_server_msg_sent_total", "RPC messages sent.", |calls| &calls.sent);
        self.expose_handled(text);
        self.expose_client_requests(text);
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

/// One call under way.
pub(super) struct Counted {
    counters: Arc<Counters>,
    rpc: Rpc,
    ended: bool,
}

impl Counted {
    pub fn sent(&self) {
        add(&self.counters.calls[self.rpc as usize].sent);
    }

    /// Counts the call as handled, once.
    pub fn end(&mut self, code: Code) {
        if !std::mem::replace(&mut self.ended, true) {
            add(&self.counters.calls[self.rpc as usize].handled[code as usize]);
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
