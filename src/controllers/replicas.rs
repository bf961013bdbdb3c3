//! How many pods of one template there should be, and which of too many go first. Pure: the replication and the replica
//! set controller decide with it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::pods;

/// At most so many pods are created or deleted in one go; the rest follows in the next.
pub const BURST: usize = 500;

/// How to reach the number of pods wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub create: usize,
    /// Names, in the order of deletion.
    pub delete: Vec<String>,
}

/// Compares the active pods of an owner with the number wanted.
pub fn plan(wanted: usize, active: &[Arc<Pod>]) -> Plan {
    if active.len() <= wanted {
        return Plan { create: (wanted - active.len()).min(BURST), delete: Vec::new() };
    }
    let mut pods_of_node: BTreeMap<&str, usize> = BTreeMap::new();
    for node in active.iter().filter_map(|pod| node_of(pod)) {
        *pods_of_node.entry(node).or_default() += 1;
    }
    let mut ranked: Vec<&Arc<Pod>> = active.iter().collect();
    ranked.sort_by_cached_key(|pod| {
        let neighbours = node_of(pod).and_then(|node| pods_of_node.get(node)).copied().unwrap_or(0);
        Rank::of(pod, neighbours)
    });
    let excess = (active.len() - wanted).min(BURST);
    let names = ranked.into_iter().take(excess).filter_map(|pod| pod.metadata.name.clone());
    Plan { create: 0, delete: names.collect() }
}

/// The order in which pods are deleted, the lowest first. The fields are in the order of upstream's rules.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    assigned: bool,
    phase: u8,
    ready: bool,
    deletion_cost: i32,
    /// Pods on crowded nodes go first.
    neighbours: Reverse<usize>,
    /// Of ready pods the one that became so last goes first.
    ready_since: Reverse<Option<Timestamp>>,
    restarts: Reverse<i32>,
    created: Reverse<Option<Timestamp>>,
    name: Option<String>,
}

impl Rank {
    fn of(pod: &Pod, neighbours: usize) -> Rank {
        let ready = pods::is_ready(pod);
        let since = pods::condition(pod, "Ready").and_then(|ready| ready.last_transition_time.as_ref());
        let containers = pod.status.iter().filter_map(|status| status.container_statuses.as_ref()).flatten();
        Rank {
            assigned: node_of(pod).is_some(),
            phase: match pods::phase(pod) {
                "Pending" => 0,
                "Unknown" => 1,
                _ => 2,
            },
            ready,
            deletion_cost: deletion_cost(pod),
            neighbours: Reverse(neighbours),
            ready_since: Reverse(since.filter(|_| ready).map(|time| time.0)),
            restarts: Reverse(containers.map(|container| container.restart_count).max().unwrap_or(0)),
            created: Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0)),
            name: pod.metadata.name.clone(),
        }
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get("controller.kubernetes.io/pod-deletion-cost"))
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

/// The counts that a status reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub replicas: i32,
    pub fully_labeled: i32,
    pub ready: i32,
    pub available: i32,
    /// Being deleted; these are not among the others.
    pub terminating: i32,
}

/// Counts the active pods of an owner.
pub fn count(
    active: &[Arc<Pod>],
    template_labels: &BTreeMap<String, String>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Counts {
    let number = |wanted: &dyn Fn(&Pod) -> bool| {
        i32::try_from(active.iter().filter(|pod| wanted(pod)).count()).unwrap_or(i32::MAX)
    };
    let labeled = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        template_labels.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    };
    Counts {
        replicas: number(&|_| true),
        fully_labeled: number(&labeled),
        ready: number(&pods::is_ready),
        available: number(&|pod| pods::is_available(pod, min_ready_seconds, now)),
        terminating: 0,
    }
}

/// When the next of the ready pods will be available.
pub fn next_available(active: &[Arc<Pod>], min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let left = active.iter().filter_map(|pod| pods::available_in(pod, min_ready_seconds, now));
    left.filter(|left| !left.is_zero()).min()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str, phase: &str, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        let value = json!({
            "metadata": {"name": name},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": status}]},
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn missing_pods_are_created_in_bursts() {
        assert_eq!(plan(3, &[]), Plan { create: 3, delete: vec![] });
        assert_eq!(plan(2000, &[]).create, BURST);
        assert_eq!(plan(1, &[pod("a", "n1", "Running", true)]), Plan::default());
    }

    #[test]
    fn unassigned_then_pending_then_unready_then_crowded_pods_go_first() {
        let pods = [
            pod("alone", "n2", "Running", true),
            pod("crowded-1", "n1", "Running", true),
            pod("crowded-2", "n1", "Running", true),
            pod("unready", "n3", "Running", false),
            pod("pending", "n3", "Pending", false),
            pod("unassigned", "", "Pending", false),
        ];
        let order = ["unassigned", "pending", "unready", "crowded-1", "crowded-2", "alone"];
        assert_eq!(plan(0, &pods).delete, order);
        assert_eq!(plan(4, &pods).delete, order[..2]);
    }
}
