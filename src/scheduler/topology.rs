//! What a pod has to know of where other pods are: counts by place, taken once before its nodes are looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::Cluster;

use super::node::NodeInfo;
use super::pod::PodInfo;
use super::rejection::{Filter, Filters, Reason, Rejection};
use super::terms::{self, PodTerm, Spread};

/// Counts by the value of a node label.
type ByPlace = BTreeMap<String, i64>;

/// The required part: what rules nodes out. Empty, and free to check, for pods without such rules in a cluster without.
#[derive(Debug, Default)]
pub struct Topology {
    /// For each of the pod's affinity terms: pods that match all of them, by place.
    affinity: Vec<ByPlace>,
    /// Nothing matches yet, but the pod matches its own terms: it may be the first.
    may_be_first: bool,
    /// For each of the pod's anti-affinity terms: places taken.
    anti_affinity: Vec<BTreeSet<String>>,
    /// Places from which pods that are there keep this one away.
    forbidden: BTreeSet<(String, String)>,
    spread: Vec<Domains>,
}

/// The places over which one constraint spreads.
#[derive(Debug)]
struct Domains {
    constraint: Spread,
    counts: ByPlace,
    least: i64,
    own: i64,
}

impl Topology {
    pub fn new(cluster: &Cluster, pod: &PodInfo) -> Topology {
        let mut topology = Topology::default();
        topology.count_affinity(cluster, pod);
        topology.count_anti_affinity(cluster, pod);
        topology.collect_forbidden(cluster, pod);
        for constraint in pod.spread.iter().filter(|constraint| constraint.required) {
            topology.spread.push(Domains::new(cluster, pod, constraint));
        }
        topology
    }

    fn count_affinity(&mut self, cluster: &Cluster, pod: &PodInfo) {
        if pod.affinity.is_empty() {
            return;
        }
        let namespaces = cluster.namespaces();
        self.affinity = vec![ByPlace::new(); pod.affinity.len()];
        let matches_all =
            |other: &PodInfo| pod.affinity.iter().all(|t| t.matches(&other.key.namespace, &other.labels, namespaces));
        let covers = |namespace: &str| pod.affinity.iter().all(|term| term.covers(namespace, namespaces));
        for (_, node) in cluster.pods_in(covers).filter(|(other, _)| matches_all(other)) {
            for (term, counts) in pod.affinity.iter().zip(&mut self.affinity) {
                if let Some(place) = node.label(&term.topology_key) {
                    *counts.entry(place.to_owned()).or_default() += 1;
                }
            }
        }
        self.may_be_first = self.affinity.iter().all(BTreeMap::is_empty) && matches_all(pod);
    }

    fn count_anti_affinity(&mut self, cluster: &Cluster, pod: &PodInfo) {
        let namespaces = cluster.namespaces();
        for term in &pod.anti_affinity {
            let covered = cluster.pods_in(|namespace| term.covers(namespace, namespaces));
            let matching = covered.filter(|(o, _)| term.matches(&o.key.namespace, &o.labels, namespaces));
            let places = matching.filter_map(|(_, node)| node.label(&term.topology_key));
            self.anti_affinity.push(places.map(str::to_owned).collect());
        }
    }

    fn collect_forbidden(&mut self, cluster: &Cluster, pod: &PodInfo) {
        for (other, node) in cluster.repelling() {
            for term in &other.anti_affinity {
                let Some(place) = node.label(&term.topology_key) else { continue };
                if term.matches(&pod.key.namespace, &pod.labels, cluster.namespaces()) {
                    self.forbidden.insert((term.topology_key.clone(), place.to_owned()));
                }
            }
        }
    }

    pub fn check(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let reject = |filter, reason, resolvable| Err(Rejection { filter, reasons: vec![reason], resolvable });
        for domains in &self.spread {
            match domains.skew_at(node) {
                None => return reject(Filter::PodTopologySpread, Reason::MissingTopologyLabel, false),
                Some(skew) if skew > domains.constraint.max_skew => {
                    return reject(Filter::PodTopologySpread, Reason::PodTopologySpread, true);
                }
                Some(_) => {}
            }
        }
        if !self.affinity_holds(pod, node) {
            return reject(Filter::InterPodAffinity, Reason::PodAffinity, false);
        }
        let repelled = pod.anti_affinity.iter().zip(&self.anti_affinity);
        if repelled.into_iter().any(|(t, taken)| node.label(&t.topology_key).is_some_and(|p| taken.contains(p))) {
            return reject(Filter::InterPodAntiAffinity, Reason::PodAntiAffinity, true);
        }
        if self.forbidden.iter().any(|(key, place)| node.label(key) == Some(place)) {
            return reject(Filter::InterPodAntiAffinity, Reason::ExistingPodAntiAffinity, true);
        }
        Ok(())
    }

    fn affinity_holds(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        pod.affinity.iter().zip(&self.affinity).all(|(term, counts)| {
            node.label(&term.topology_key).is_some_and(|place| self.may_be_first || counts.contains_key(place))
        })
    }
}

impl Domains {
    fn new(cluster: &Cluster, pod: &PodInfo, constraint: &Spread) -> Domains {
        let all_keys = |node: &NodeInfo| {
            let required = pod.spread.iter().filter(|c| c.required);
            required.into_iter().all(|c| node.label(&c.topology_key).is_some())
        };
        let mut counts = ByPlace::new();
        for node in cluster.nodes().iter().filter(|node| all_keys(node) && counts_in(pod, constraint, node)) {
            if let Some(place) = node.label(&constraint.topology_key) {
                let matching = node.pods.values().filter(|other| is_counted(pod, constraint, other)).count();
                *counts.entry(place.to_owned()).or_default() += matching as i64;
            }
        }
        let enough = counts.len() >= constraint.min_domains;
        let least = if enough { counts.values().copied().min().unwrap_or(0) } else { 0 };
        let own = i64::from(constraint.selector.matches(&pod.labels));
        Domains { constraint: constraint.clone(), counts, least, own }
    }

    /// How uneven it would be with the pod on `node`; `None` where the node is in no place.
    fn skew_at(&self, node: &NodeInfo) -> Option<i64> {
        let place = node.label(&self.constraint.topology_key)?;
        Some(self.counts.get(place).copied().unwrap_or(0) + self.own - self.least)
    }
}

/// Whether `other` on a node may let `pod`, which `rejected_by` kept from all, onto some node.
pub fn attracts(cluster: &Cluster, pod: &PodInfo, rejected_by: Filters, other: &PodInfo) -> bool {
    let wanted = || pod.affinity.iter().any(|term| is_meant(cluster, term, other));
    rejected_by.contains(Filter::InterPodAffinity) && wanted() || evens_out(pod, rejected_by, other)
}

/// Whether `other` going from a node may let `pod`, which `rejected_by` kept from all, onto some node.
pub fn repelled(cluster: &Cluster, pod: &PodInfo, rejected_by: Filters, other: &PodInfo) -> bool {
    let shunned = || pod.anti_affinity.iter().any(|term| is_meant(cluster, term, other));
    let shuns = || other.anti_affinity.iter().any(|term| is_meant(cluster, term, pod));
    rejected_by.contains(Filter::InterPodAntiAffinity) && (shunned() || shuns()) || evens_out(pod, rejected_by, other)
}

fn is_meant(cluster: &Cluster, term: &PodTerm, pod: &PodInfo) -> bool {
    term.matches(&pod.key.namespace, &pod.labels, cluster.namespaces())
}

fn evens_out(pod: &PodInfo, rejected_by: Filters, other: &PodInfo) -> bool {
    rejected_by.contains(Filter::PodTopologySpread)
        && pod.spread.iter().any(|constraint| is_counted(pod, constraint, other))
}

/// Whether a node's pods count for a constraint.
pub fn counts_in(pod: &PodInfo, constraint: &Spread, node: &NodeInfo) -> bool {
    node.object.as_ref().is_some_and(|object| {
        (!constraint.honors_affinity || pod.bears_node(&node.name, &object.labels))
            && (!constraint.honors_taints || terms::all_tolerated(&pod.tolerations, &object.taints))
    })
}

/// Whether a constraint of `pod` counts `other`.
pub fn is_counted(pod: &PodInfo, constraint: &Spread, other: &PodInfo) -> bool {
    other.key.namespace == pod.key.namespace && constraint.selector.matches(&other.labels)
}
