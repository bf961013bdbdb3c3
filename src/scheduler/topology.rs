//! PodTopologySpread and InterPodAffinity: pods counted by topology domain, once for a pod before its nodes are
//! checked.

use std::collections::{BTreeMap, BTreeSet};

use super::cache::Cache;
use super::node::NodeInfo;
use super::pod::PodInfo;
use super::rejection::{Filter, Filters, Reason, Rejection};
use super::terms::{self, AffinityTerm, SpreadConstraint};

/// Counts by the value of a node label.
type ByDomain = BTreeMap<String, i64>;

/// What these two filters count for one pod. It is empty, and costs nothing to check, where neither the pod nor any
/// other has required terms or constraints.
#[derive(Debug, Default)]
pub struct Topology {
    /// For each of the pod's affinity terms: pods that match all of them, by domain.
    affinity: Vec<ByDomain>,
    /// No pod matches yet, but the pod matches its own terms: it may be the first.
    may_be_first: bool,
    /// For each of the pod's anti-affinity terms: the domains with pods that match it.
    anti_affinity: Vec<BTreeSet<String>>,
    /// The domains, by label and value, from which the anti-affinity of pods there keeps this one away.
    existing_anti_affinity: BTreeSet<(String, String)>,
    spread: Vec<SpreadCounts>,
}

/// The pods that one spread constraint counts.
#[derive(Debug)]
struct SpreadCounts {
    constraint: SpreadConstraint,
    counts: ByDomain,
    /// In the domain that has the fewest.
    min_match: i64,
    /// Whether the constraint counts the pod itself: 1 or 0.
    self_match: i64,
}

impl Topology {
    pub fn new(cache: &Cache, pod: &PodInfo) -> Topology {
        let mut topology = Topology::default();
        topology.count_affinity(cache, pod);
        topology.count_anti_affinity(cache, pod);
        topology.collect_existing_anti_affinity(cache, pod);
        for constraint in pod.spread_constraints.iter().filter(|constraint| constraint.required) {
            topology.spread.push(SpreadCounts::new(cache, pod, constraint));
        }
        topology
    }

    fn count_affinity(&mut self, cache: &Cache, pod: &PodInfo) {
        if pod.affinity.is_empty() {
            return;
        }
        let namespaces = cache.namespaces();
        self.affinity = vec![ByDomain::new(); pod.affinity.len()];
        let matches_all =
            |other: &PodInfo| pod.affinity.iter().all(|t| t.matches(&other.key.namespace, &other.labels, namespaces));
        let covers = |namespace: &str| pod.affinity.iter().all(|term| term.covers(namespace, namespaces));
        for (_, node) in cache.pods_in(covers).filter(|(other, _)| matches_all(other)) {
            for (term, counts) in pod.affinity.iter().zip(&mut self.affinity) {
                if let Some(domain) = node.label(&term.topology_key) {
                    *counts.entry(domain.to_owned()).or_default() += 1;
                }
            }
        }
        self.may_be_first = self.affinity.iter().all(BTreeMap::is_empty) && matches_all(pod);
    }

    fn count_anti_affinity(&mut self, cache: &Cache, pod: &PodInfo) {
        let namespaces = cache.namespaces();
        for term in &pod.anti_affinity {
            let covered = cache.pods_in(|namespace| term.covers(namespace, namespaces));
            let matching = covered.filter(|(o, _)| term.matches(&o.key.namespace, &o.labels, namespaces));
            let domains = matching.filter_map(|(_, node)| node.label(&term.topology_key));
            self.anti_affinity.push(domains.map(str::to_owned).collect());
        }
    }

    fn collect_existing_anti_affinity(&mut self, cache: &Cache, pod: &PodInfo) {
        for (other, node) in cache.with_required_anti_affinity() {
            for term in &other.anti_affinity {
                let Some(domain) = node.label(&term.topology_key) else { continue };
                if term.matches(&pod.key.namespace, &pod.labels, cache.namespaces()) {
                    self.existing_anti_affinity.insert((term.topology_key.clone(), domain.to_owned()));
                }
            }
        }
    }

    pub fn check(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let reject = |filter, reason, resolvable| Err(Rejection { filter, reasons: vec![reason], resolvable });
        for counts in &self.spread {
            match counts.skew_at(node) {
                None => return reject(Filter::PodTopologySpread, Reason::MissingTopologyLabel, false),
                Some(skew) if skew > counts.constraint.max_skew => {
                    return reject(Filter::PodTopologySpread, Reason::PodTopologySpread, true);
                }
                Some(_) => {}
            }
        }
        if !self.affinity_holds(pod, node) {
            return reject(Filter::InterPodAffinity, Reason::PodAffinity, false);
        }
        let terms = pod.anti_affinity.iter().zip(&self.anti_affinity);
        if terms.into_iter().any(|(t, taken)| node.label(&t.topology_key).is_some_and(|domain| taken.contains(domain)))
        {
            return reject(Filter::InterPodAntiAffinity, Reason::PodAntiAffinity, true);
        }
        if self.existing_anti_affinity.iter().any(|(key, domain)| node.label(key) == Some(domain)) {
            return reject(Filter::InterPodAntiAffinity, Reason::ExistingPodAntiAffinity, true);
        }
        Ok(())
    }

    fn affinity_holds(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        pod.affinity.iter().zip(&self.affinity).all(|(term, counts)| {
            node.label(&term.topology_key).is_some_and(|domain| self.may_be_first || counts.contains_key(domain))
        })
    }
}

impl SpreadCounts {
    fn new(cache: &Cache, pod: &PodInfo, constraint: &SpreadConstraint) -> SpreadCounts {
        let all_keys = |node: &NodeInfo| {
            let required = pod.spread_constraints.iter().filter(|c| c.required);
            required.into_iter().all(|c| node.label(&c.topology_key).is_some())
        };
        let mut counts = ByDomain::new();
        for node in cache.nodes().iter().filter(|node| all_keys(node) && counts_in(pod, constraint, node)) {
            if let Some(domain) = node.label(&constraint.topology_key) {
                let matching = node.pods.values().filter(|other| is_counted(pod, constraint, other)).count();
                *counts.entry(domain.to_owned()).or_default() += matching as i64;
            }
        }
        let enough = counts.len() >= constraint.min_domains;
        let min_match = if enough { counts.values().copied().min().unwrap_or(0) } else { 0 };
        let self_match = i64::from(constraint.selector.matches(&pod.labels));
        SpreadCounts { constraint: constraint.clone(), counts, min_match, self_match }
    }

    /// The skew with the pod on `node`; `None` where the node is in no domain.
    fn skew_at(&self, node: &NodeInfo) -> Option<i64> {
        let domain = node.label(&self.constraint.topology_key)?;
        Some(self.counts.get(domain).copied().unwrap_or(0) + self.self_match - self.min_match)
    }
}

/// Whether the arrival of `other` on a node may help `pod`, for which `rejected_by` rejected all nodes.
pub fn arrival_helps(cache: &Cache, pod: &PodInfo, rejected_by: Filters, other: &PodInfo) -> bool {
    let is_wanted = || pod.affinity.iter().any(|term| matches(cache, term, other));
    rejected_by.contains(Filter::InterPodAffinity) && is_wanted() || changes_spread(pod, rejected_by, other)
}

/// Whether the departure of `other` from a node may help `pod`, for which `rejected_by` rejected all nodes.
pub fn departure_helps(cache: &Cache, pod: &PodInfo, rejected_by: Filters, other: &PodInfo) -> bool {
    let is_avoided = || pod.anti_affinity.iter().any(|term| matches(cache, term, other));
    let avoids = || other.anti_affinity.iter().any(|term| matches(cache, term, pod));
    rejected_by.contains(Filter::InterPodAntiAffinity) && (is_avoided() || avoids())
        || changes_spread(pod, rejected_by, other)
}

fn matches(cache: &Cache, term: &AffinityTerm, pod: &PodInfo) -> bool {
    term.matches(&pod.key.namespace, &pod.labels, cache.namespaces())
}

fn changes_spread(pod: &PodInfo, rejected_by: Filters, other: &PodInfo) -> bool {
    rejected_by.contains(Filter::PodTopologySpread)
        && pod.spread_constraints.iter().any(|constraint| is_counted(pod, constraint, other))
}

/// Whether a constraint of `pod` counts the pods of `node`.
pub fn counts_in(pod: &PodInfo, constraint: &SpreadConstraint, node: &NodeInfo) -> bool {
    node.object.as_ref().is_some_and(|object| {
        (!constraint.honors_affinity || pod.matches_node(&node.name, &object.labels))
            && (!constraint.honors_taints || terms::all_tolerated(&pod.tolerations, &object.taints))
    })
}

/// Whether a constraint of `pod` counts `other`.
pub fn is_counted(pod: &PodInfo, constraint: &SpreadConstraint, other: &PodInfo) -> bool {
    other.key.namespace == pod.key.namespace && constraint.selector.matches(&other.labels)
}
