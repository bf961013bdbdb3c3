//! A pod as the scheduler sees it: what it requests and where it may run, worked out once.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use super::resources::Requests;
use super::terms::{AffinityTerm, NodeSelectorTerm, SpreadConstraint};
use crate::kube::object::Key;
use crate::kube::selector::Labels;

/// Tells two pods of one name apart.
pub type Uid = Arc<str>;

/// All that scheduling depends on: two versions of a pod that compare equal are scheduled alike.
#[derive(Clone, Debug, PartialEq)]
pub struct PodInfo {
    pub key: Key,
    pub uid: Uid,
    pub labels: Labels,
    pub priority: i32,
    pub may_preempt: bool,
    /// The names of its scheduling gates.
    pub scheduling_gates: Vec<String>,
    pub requests: Requests,
    pub ports: Vec<HostPort>,
    pub node_selector: Labels,
    /// One of these has to match; `None` where any node does.
    pub required_node_terms: Option<Vec<NodeSelectorTerm>>,
    pub preferred_node_terms: Vec<(i64, NodeSelectorTerm)>,
    pub tolerations: Vec<core::Toleration>,
    pub affinity: Vec<AffinityTerm>,
    pub anti_affinity: Vec<AffinityTerm>,
    /// Preferred affinity with positive weights, preferred anti-affinity with negative ones.
    pub preferred_affinity: Vec<(i64, AffinityTerm)>,
    pub spread_constraints: Vec<SpreadConstraint>,
    /// The uid of its controller.
    pub owner: Option<Uid>,
    /// Seconds since the epoch; decides between victims of preemption.
    pub start_time: i64,
    /// Its deletion has begun.
    pub terminating: bool,
}

/// A port of the node's own addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub port: i32,
    pub protocol: String,
    /// Empty for every address.
    pub ip: String,
}

impl HostPort {
    pub fn collides(&self, other: &HostPort) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip.is_empty() || other.ip.is_empty() || self.ip == other.ip)
    }
}

impl PodInfo {
    pub fn new(pod: &core::Pod) -> PodInfo {
        let (none, no_status) = (core::PodSpec::default(), core::PodStatus::default());
        let (spec, status) = (pod.spec.as_ref().unwrap_or(&none), pod.status.as_ref().unwrap_or(&no_status));
        let key = Key::of(&pod.metadata);
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let affinity = spec.affinity.clone().unwrap_or_default();
        let nodes = affinity.node_affinity.unwrap_or_default();
        let (near, far) = (affinity.pod_affinity.unwrap_or_default(), affinity.pod_anti_affinity.unwrap_or_default());
        let terms = |terms: &Option<Vec<core::PodAffinityTerm>>| {
            terms.iter().flatten().map(|term| AffinityTerm::new(term, &key.namespace)).collect()
        };
        PodInfo {
            uid: pod.metadata.uid.clone().unwrap_or_default().into(),
            priority: spec.priority.unwrap_or(0),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
            scheduling_gates: spec.scheduling_gates.iter().flatten().map(|gate| gate.name.clone()).collect(),
            requests: Requests::of(pod),
            ports: host_ports(spec),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            required_node_terms: nodes
                .required_during_scheduling_ignored_during_execution
                .map(|required| required.node_selector_terms.iter().map(NodeSelectorTerm::new).collect()),
            preferred_node_terms: preferred_nodes(nodes.preferred_during_scheduling_ignored_during_execution),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            affinity: terms(&near.required_during_scheduling_ignored_during_execution),
            anti_affinity: terms(&far.required_during_scheduling_ignored_during_execution),
            preferred_affinity: [
                (1, near.preferred_during_scheduling_ignored_during_execution),
                (-1, far.preferred_during_scheduling_ignored_during_execution),
            ]
            .into_iter()
            .flat_map(|(sign, terms)| terms.into_iter().flatten().map(move |term| (sign, term)))
            .map(|(sign, t)| (sign * i64::from(t.weight), AffinityTerm::new(&t.pod_affinity_term, &key.namespace)))
            .collect(),
            spread_constraints: spec
                .topology_spread_constraints
                .iter()
                .flatten()
                .map(|s| SpreadConstraint::new(s, &labels))
                .collect(),
            owner: controller_uid(pod),
            start_time: status.start_time.as_ref().map_or(i64::MAX, |time| time.0.as_second()),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            labels,
            key,
        }
    }

    /// Whether its labels, fields and selectors allow a node of this name and these labels.
    pub fn matches_node(&self, name: &str, labels: &Labels) -> bool {
        self.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.required_node_terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }
}

fn host_ports(spec: &core::PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let host_port = |port: &core::ContainerPort| {
        // Pods in the node's own network take every port they name.
        let own = (spec.host_network == Some(true)).then_some(port.container_port);
        let number = port.host_port.filter(|port| *port > 0).or(own)?;
        let ip = port.host_ip.clone().filter(|ip| ip != "0.0.0.0" && ip != "::").unwrap_or_default();
        Some(HostPort { port: number, protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), ip })
    };
    ports.filter_map(host_port).collect()
}

fn preferred_nodes(terms: Option<Vec<core::PreferredSchedulingTerm>>) -> Vec<(i64, NodeSelectorTerm)> {
    let terms = terms.into_iter().flatten().filter(|term| term.weight > 0);
    terms.map(|term| (i64::from(term.weight), NodeSelectorTerm::new(&term.preference))).collect()
}

fn controller_uid(pod: &core::Pod) -> Option<Uid> {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str().into())
}
