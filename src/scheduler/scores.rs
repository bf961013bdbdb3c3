//! Which of the nodes that can take a pod is the best: upstream's scores, from 0 to 100 each, with its weights.

use std::collections::{BTreeMap, BTreeSet};

use ordered_float::OrderedFloat;

use super::cluster::Cluster;
use super::node::{NodeInfo, NodeObject};
use super::pod::PodInfo;
use super::terms;
use super::topology::{counts_in, is_counted};

const SCORE_MAX: i64 = 100;
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Where a pod says nothing about spreading, its siblings are spread over these, as evenly as this, if it costs nothing.
const DEFAULT_SPREAD: [(&str, i64); 2] = [(HOSTNAME, 3), (ZONE, 5)];

mod weight {
    pub const TAINTS: i64 = 3;
    pub const NODE_AFFINITY: i64 = 2;
    pub const POD_AFFINITY: i64 = 2;
    pub const SPREAD: i64 = 2;
    pub const LEAST_ALLOCATED: i64 = 1;
    pub const BALANCED: i64 = 1;
}

/// The total score of each of `nodes`, which can all take `pod`.
pub fn score(cluster: &Cluster, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let mut totals: Vec<i64> = nodes.iter().map(|node| allocation(pod, node)).collect();
    let mut add = |weight: i64, scores: Vec<i64>| {
        totals.iter_mut().zip(scores).for_each(|(total, score)| *total += weight * score);
    };
    if nodes.iter().any(|node| untolerated_preferences(pod, node) > 0) {
        let untolerated = nodes.iter().map(|node| untolerated_preferences(pod, node)).collect();
        add(weight::TAINTS, highest_is_worst(untolerated));
    }
    if !pod.preferred_nodes.is_empty() {
        let preferred = nodes.iter().map(|node| node_preference(pod, node)).collect();
        add(weight::NODE_AFFINITY, highest_is_best(preferred));
    }
    let attraction = attraction(cluster, pod);
    if !attraction.is_empty() {
        let attracted = nodes.iter().map(|node| attraction_at(&attraction, node)).collect();
        add(weight::POD_AFFINITY, stretch(attracted));
    }
    if let Some(crowding) = crowding(cluster, pod, nodes) {
        add(weight::SPREAD, crowding);
    }
    totals
}

/// The two scores that look at cpu and memory alone.
fn allocation(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let Some(object) = &node.object else { return 0 };
    let least = least_allocated(pod, node, object);
    let asks = pod.requests.fit.milli_cpu > 0 || pod.requests.fit.memory > 0;
    let balanced = if asks { balanced(pod, node, object) } else { 0 };
    weight::LEAST_ALLOCATED * least + weight::BALANCED * balanced
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
fn balanced(pod: &PodInfo, node: &NodeInfo, object: &NodeObject) -> i64 {
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

fn untolerated_preferences(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let taints =
        node.object.iter().flat_map(|object| &object.taints).filter(|taint| taint.effect == "PreferNoSchedule");
    taints.filter(|taint| !terms::tolerated(&pod.tolerations, taint)).count() as i64
}

fn node_preference(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let Some(labels) = node.labels() else { return 0 };
    pod.preferred_nodes.iter().filter(|(_, term)| term.matches(&node.name, labels)).map(|(weight, _)| weight).sum()
}

/// How much each place (label, value) attracts the pod: by its own wishes and by those of the pods there.
fn attraction(cluster: &Cluster, pod: &PodInfo) -> BTreeMap<String, BTreeMap<String, i64>> {
    let namespaces = cluster.namespaces();
    let mut attraction: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    let mut attract = |key: &str, node: &NodeInfo, weight: i64| {
        if let Some(place) = node.label(key) {
            *attraction.entry(key.to_owned()).or_default().entry(place.to_owned()).or_default() += weight;
        }
    };
    for (weight, term) in &pod.preferred_pods {
        let covered = cluster.pods_in(|namespace| term.covers(namespace, namespaces));
        for (_, node) in covered.filter(|(o, _)| term.matches(&o.key.namespace, &o.labels, namespaces)) {
            attract(&term.topology_key, node, *weight);
        }
    }
    for (other, node) in cluster.preferring() {
        let required = other.affinity.iter().map(|term| (1, term));
        let preferred = other.preferred_pods.iter().map(|(weight, term)| (*weight, term));
        for (weight, term) in required.chain(preferred) {
            if term.matches(&pod.key.namespace, &pod.labels, namespaces) {
                attract(&term.topology_key, node, weight);
            }
        }
    }
    attraction
}

fn attraction_at(attraction: &BTreeMap<String, BTreeMap<String, i64>>, node: &NodeInfo) -> i64 {
    attraction.iter().filter_map(|(key, places)| places.get(node.label(key)?)).sum()
}

/// A wish for evenness: how many of the pod's kind are in each place.
struct Crowd<'a> {
    key: &'a str,
    max_skew: i64,
    counts: BTreeMap<&'a str, i64>,
}

/// Scores by how few of the pod's kind are near; `None` where it has no kind or nothing to spread over.
fn crowding(cluster: &Cluster, pod: &PodInfo, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
    let crowds = if pod.spread.is_empty() { siblings(cluster, pod)? } else { wished(cluster, pod) };
    if crowds.is_empty() {
        return None;
    }
    let must_have_all = !pod.spread.is_empty();
    let has_all = |node: &NodeInfo| crowds.iter().all(|crowd| node.label(crowd.key).is_some());
    let raw: Vec<Option<OrderedFloat<f64>>> = {
        let weights: Vec<f64> = crowds.iter().map(|crowd| places_weight(crowd.key, nodes)).collect();
        let crowdedness = |node: &&NodeInfo| {
            let considered = !must_have_all || has_all(node);
            considered.then(|| crowds.iter().zip(&weights).map(|(crowd, weight)| crowd.at(node, *weight)).sum())
        };
        nodes.iter().map(crowdedness).collect()
    };
    let rounded: Vec<Option<i64>> = raw.into_iter().map(|score| score.map(|score| score.round() as i64)).collect();
    let worst = rounded.iter().flatten().copied().max().unwrap_or(0);
    let best = rounded.iter().flatten().copied().min().unwrap_or(0);
    let normal = |score: i64| if worst == 0 { SCORE_MAX } else { SCORE_MAX * (worst + best - score) / worst };
    Some(rounded.into_iter().map(|score| score.map_or(0, normal)).collect())
}

impl Crowd<'_> {
    fn at(&self, node: &NodeInfo, weight: f64) -> OrderedFloat<f64> {
        let Some(place) = node.label(self.key) else { return OrderedFloat(0.0) };
        let count = self.counts.get(place).copied().unwrap_or(0);
        OrderedFloat(count as f64 * weight + (self.max_skew - 1) as f64)
    }
}

/// More places weigh more, so that zones are not drowned out by nodes.
fn places_weight(key: &str, nodes: &[&NodeInfo]) -> f64 {
    let places = if key == HOSTNAME {
        nodes.len()
    } else {
        nodes.iter().filter_map(|node| node.label(key)).collect::<BTreeSet<_>>().len()
    };
    ((places + 2) as f64).ln()
}

/// Pods of the same controller.
fn siblings<'a>(cluster: &'a Cluster, pod: &PodInfo) -> Option<Vec<Crowd<'a>>> {
    let owner = pod.owner.as_ref()?;
    let crowd = |(key, max_skew): (&'static str, i64)| {
        let mut counts = BTreeMap::new();
        for (node, count) in cluster.siblings(owner) {
            if let Some(place) = node.label(key) {
                *counts.entry(place).or_default() += count;
            }
        }
        Crowd { key, max_skew, counts }
    };
    Some(DEFAULT_SPREAD.into_iter().map(crowd).collect())
}

/// What the pod's own constraints ask for without insisting.
fn wished<'a>(cluster: &'a Cluster, pod: &'a PodInfo) -> Vec<Crowd<'a>> {
    let wishes = pod.spread.iter().filter(|constraint| !constraint.required);
    let crowd = |constraint: &'a super::terms::Spread| {
        let mut counts = BTreeMap::new();
        for node in cluster.nodes().iter().filter(|node| counts_in(pod, constraint, node)) {
            if let Some(place) = node.label(&constraint.topology_key) {
                let matching = node.pods.values().filter(|other| is_counted(pod, constraint, other)).count();
                *counts.entry(place).or_default() += matching as i64;
            }
        }
        Crowd { key: &constraint.topology_key, max_skew: constraint.max_skew, counts }
    };
    wishes.map(crowd).collect()
}

fn highest_is_best(scores: Vec<i64>) -> Vec<i64> {
    let highest = scores.iter().copied().max().unwrap_or(0);
    scores.into_iter().map(|score| if highest == 0 { 0 } else { score * SCORE_MAX / highest }).collect()
}

fn highest_is_worst(scores: Vec<i64>) -> Vec<i64> {
    highest_is_best(scores).into_iter().map(|score| SCORE_MAX - score).collect()
}

/// Lowest to 0, highest to 100: for scores that may be negative.
fn stretch(scores: Vec<i64>) -> Vec<i64> {
    let lowest = scores.iter().copied().min().unwrap_or(0);
    let range = scores.iter().copied().max().unwrap_or(0) - lowest;
    scores.into_iter().map(|score| if range == 0 { 0 } else { (score - lowest) * SCORE_MAX / range }).collect()
}
