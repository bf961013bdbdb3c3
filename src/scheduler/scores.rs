//! Which of the nodes that can take a pod is the best: upstream's scores, from 0 to 100 each, with its weights.

use std::collections::{BTreeMap, BTreeSet};

use ordered_float::OrderedFloat;

use super::cache::Cache;
use super::node::{NodeInfo, NodeObject};
use super::pod::PodInfo;
use super::terms;
use super::topology::{counts_in, is_counted};

const SCORE_MAX: i64 = 100;
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
/// A pod without spread constraints prefers these, key and `maxSkew`, for the pods of its controller.
const SYSTEM_DEFAULT_CONSTRAINTS: [(&str, i64); 2] = [(HOSTNAME, 3), (ZONE, 5)];

/// How much each plugin's score counts.
mod weight {
    pub const TAINT_TOLERATION: i64 = 3;
    pub const NODE_AFFINITY: i64 = 2;
    pub const INTER_POD_AFFINITY: i64 = 2;
    pub const POD_TOPOLOGY_SPREAD: i64 = 2;
    pub const NODE_RESOURCES_FIT: i64 = 1;
    pub const NODE_RESOURCES_BALANCED_ALLOCATION: i64 = 1;
}

/// The total score of each of `nodes`, which can all take `pod`.
pub fn score(cache: &Cache, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let mut totals: Vec<i64> = nodes.iter().map(|node| node_resources(pod, node)).collect();
    let mut add = |weight: i64, scores: Vec<i64>| {
        totals.iter_mut().zip(scores).for_each(|(total, score)| *total += weight * score);
    };
    if nodes.iter().any(|node| intolerable_taints(pod, node) > 0) {
        let counts = nodes.iter().map(|node| intolerable_taints(pod, node)).collect();
        add(weight::TAINT_TOLERATION, normalize_reversed(counts));
    }
    if !pod.preferred_node_terms.is_empty() {
        let sums = nodes.iter().map(|node| node_affinity(pod, node)).collect();
        add(weight::NODE_AFFINITY, normalize(sums));
    }
    let affinity = InterPodAffinity::new(cache, pod);
    if !affinity.0.is_empty() {
        let sums = nodes.iter().map(|node| affinity.at(node)).collect();
        add(weight::INTER_POD_AFFINITY, normalize_between_extremes(sums));
    }
    if let Some(scores) = pod_topology_spread(cache, pod, nodes) {
        add(weight::POD_TOPOLOGY_SPREAD, scores);
    }
    totals
}

/// NodeResourcesFit and NodeResourcesBalancedAllocation, the two scores that look at cpu and memory alone.
fn node_resources(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let Some(object) = &node.object else { return 0 };
    let least = least_allocated(pod, node, object);
    let asks = pod.requests.fit.milli_cpu > 0 || pod.requests.fit.memory > 0;
    let balanced = if asks { balanced_allocation(pod, node, object) } else { 0 };
    weight::NODE_RESOURCES_FIT * least + weight::NODE_RESOURCES_BALANCED_ALLOCATION * balanced
}

/// The share that stays free.
fn least_allocated(pod: &PodInfo, node: &NodeInfo, object: &NodeObject) -> i64 {
    let (has, used, more) = (&object.allocatable, node.non_zero_requested, pod.requests.non_zero);
    let pairs = [(has.milli_cpu, used.milli_cpu + more.milli_cpu), (has.memory, used.memory + more.memory)];
    let (mut sum, mut count) = (0, 0);
    for (has, used) in pairs.into_iter().filter(|(has, _)| *has > 0) {
        sum += (has - used).max(0) * SCORE_MAX / has;
        count += 1;
    }
    if count == 0 { 0 } else { sum / count }
}

/// How alike the used shares of cpu and memory are.
fn balanced_allocation(pod: &PodInfo, node: &NodeInfo, object: &NodeObject) -> i64 {
    let share = |has: i64, used: i64| (has > 0).then(|| (used as f64 / has as f64).min(1.0));
    let (has, used, more) = (&object.allocatable, &node.requested, &pod.requests.fit);
    let cpu = share(has.milli_cpu, used.milli_cpu + more.milli_cpu);
    let memory = share(has.memory, used.memory + more.memory);
    let deviation = match (cpu, memory) {
        (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2.0,
        _ => 0.0,
    };
    ((1.0 - deviation) * SCORE_MAX as f64) as i64
}

fn intolerable_taints(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let taints = node.object.iter().flat_map(|object| &object.taints);
    let prefer_no_schedule = taints.filter(|taint| taint.effect == "PreferNoSchedule");
    prefer_no_schedule.filter(|taint| !terms::tolerated(&pod.tolerations, taint)).count() as i64
}

fn node_affinity(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let Some(labels) = node.labels() else { return 0 };
    pod.preferred_node_terms.iter().filter(|(_, term)| term.matches(&node.name, labels)).map(|(weight, _)| weight).sum()
}

/// The weight of each topology domain, by label and value: what the pod's own terms give it, and what the terms of the
/// pods there do.
struct InterPodAffinity(BTreeMap<String, BTreeMap<String, i64>>);

impl InterPodAffinity {
    fn new(cache: &Cache, pod: &PodInfo) -> InterPodAffinity {
        let namespaces = cache.namespaces();
        let mut weights: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
        let mut add = |key: &str, node: &NodeInfo, weight: i64| {
            if let Some(domain) = node.label(key) {
                *weights.entry(key.to_owned()).or_default().entry(domain.to_owned()).or_default() += weight;
            }
        };
        for (weight, term) in &pod.preferred_affinity {
            let covered = cache.pods_in(|namespace| term.covers(namespace, namespaces));
            for (_, node) in covered.filter(|(o, _)| term.matches(&o.key.namespace, &o.labels, namespaces)) {
                add(&term.topology_key, node, *weight);
            }
        }
        for (other, node) in cache.with_affinity() {
            let required = other.affinity.iter().map(|term| (1, term));
            let preferred = other.preferred_affinity.iter().map(|(weight, term)| (*weight, term));
            for (weight, term) in required.chain(preferred) {
                if term.matches(&pod.key.namespace, &pod.labels, namespaces) {
                    add(&term.topology_key, node, weight);
                }
            }
        }
        InterPodAffinity(weights)
    }

    fn at(&self, node: &NodeInfo) -> i64 {
        self.0.iter().filter_map(|(key, domains)| domains.get(node.label(key)?)).sum()
    }
}

/// A spread constraint, and how many pods it counts in each topology domain.
struct ConstraintCounts<'a> {
    key: &'a str,
    max_skew: i64,
    counts: BTreeMap<&'a str, i64>,
}

/// The fewer pods count in a node's domains, the better; `None` where there is nothing to spread by.
fn pod_topology_spread(cache: &Cache, pod: &PodInfo, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
    let constraints = if pod.spread_constraints.is_empty() {
        system_default_constraints(cache, pod)?
    } else {
        schedule_anyway_constraints(cache, pod)
    };
    if constraints.is_empty() {
        return None;
    }
    let must_have_all = !pod.spread_constraints.is_empty();
    let has_all = |node: &NodeInfo| constraints.iter().all(|constraint| node.label(constraint.key).is_some());
    let raw: Vec<Option<OrderedFloat<f64>>> = {
        let weights: Vec<f64> = constraints.iter().map(|c| topology_normalizing_weight(c.key, nodes)).collect();
        let raw_score = |node: &&NodeInfo| {
            let considered = !must_have_all || has_all(node);
            let weighted = constraints.iter().zip(&weights);
            considered.then(|| weighted.map(|(constraint, weight)| constraint.at(node, *weight)).sum())
        };
        nodes.iter().map(raw_score).collect()
    };
    let rounded: Vec<Option<i64>> = raw.into_iter().map(|score| score.map(|score| score.round() as i64)).collect();
    let worst = rounded.iter().flatten().copied().max().unwrap_or(0);
    let best = rounded.iter().flatten().copied().min().unwrap_or(0);
    let normal = |score: i64| if worst == 0 { SCORE_MAX } else { SCORE_MAX * (worst + best - score) / worst };
    Some(rounded.into_iter().map(|score| score.map_or(0, normal)).collect())
}

impl ConstraintCounts<'_> {
    fn at(&self, node: &NodeInfo, weight: f64) -> OrderedFloat<f64> {
        let Some(domain) = node.label(self.key) else { return OrderedFloat(0.0) };
        let count = self.counts.get(domain).copied().unwrap_or(0);
        OrderedFloat(count as f64 * weight + (self.max_skew - 1) as f64)
    }
}

/// More domains weigh more, so that zones are not drowned out by nodes.
fn topology_normalizing_weight(key: &str, nodes: &[&NodeInfo]) -> f64 {
    let domains = if key == HOSTNAME {
        nodes.len()
    } else {
        nodes.iter().filter_map(|node| node.label(key)).collect::<BTreeSet<_>>().len()
    };
    ((domains + 2) as f64).ln()
}

/// Upstream's default constraints; they count the pods of the same controller. `None` where nothing controls the pod.
fn system_default_constraints<'a>(cache: &'a Cache, pod: &PodInfo) -> Option<Vec<ConstraintCounts<'a>>> {
    let owner = pod.owner.as_ref()?;
    let count = |(key, max_skew): (&'static str, i64)| {
        let mut counts = BTreeMap::new();
        for (node, count) in cache.siblings(owner) {
            if let Some(domain) = node.label(key) {
                *counts.entry(domain).or_default() += count;
            }
        }
        ConstraintCounts { key, max_skew, counts }
    };
    Some(SYSTEM_DEFAULT_CONSTRAINTS.into_iter().map(count).collect())
}

/// The pod's own constraints whose `whenUnsatisfiable` is `ScheduleAnyway`.
fn schedule_anyway_constraints<'a>(cache: &'a Cache, pod: &'a PodInfo) -> Vec<ConstraintCounts<'a>> {
    let count = |constraint: &'a super::terms::SpreadConstraint| {
        let mut counts = BTreeMap::new();
        for node in cache.nodes().iter().filter(|node| counts_in(pod, constraint, node)) {
            if let Some(domain) = node.label(&constraint.topology_key) {
                let matching = node.pods.values().filter(|other| is_counted(pod, constraint, other)).count();
                *counts.entry(domain).or_default() += matching as i64;
            }
        }
        ConstraintCounts { key: &constraint.topology_key, max_skew: constraint.max_skew, counts }
    };
    pod.spread_constraints.iter().filter(|constraint| !constraint.required).map(count).collect()
}

fn normalize(scores: Vec<i64>) -> Vec<i64> {
    let highest = scores.iter().copied().max().unwrap_or(0);
    scores.into_iter().map(|score| if highest == 0 { 0 } else { score * SCORE_MAX / highest }).collect()
}

fn normalize_reversed(scores: Vec<i64>) -> Vec<i64> {
    normalize(scores).into_iter().map(|score| SCORE_MAX - score).collect()
}

/// The lowest becomes 0 and the highest 100: for scores that may be negative.
fn normalize_between_extremes(scores: Vec<i64>) -> Vec<i64> {
    let lowest = scores.iter().copied().min().unwrap_or(0);
    let range = scores.iter().copied().max().unwrap_or(0) - lowest;
    scores.into_iter().map(|score| if range == 0 { 0 } else { (score - lowest) * SCORE_MAX / range }).collect()
}
