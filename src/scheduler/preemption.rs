//! DefaultPreemption: which pods of lower priority have to end, on which node, so that a pod fits.

use std::cmp::Reverse;
use std::sync::Arc;

use super::cache::Cache;
use super::diagnosis::{Diagnosis, Preemption};
use super::filters;
use super::node::NodeInfo;
use super::pod::PodInfo;
use super::rejection::{Filter, Reason};

/// Candidate nodes: at most a tenth of those where preemption could help, and at least this many.
const CANDIDATES_MIN: usize = 100;

/// The pods that have to end, and their node.
#[derive(Clone, Debug)]
pub struct Victims {
    pub node: String,
    /// The highest priority first.
    pub pods: Vec<Arc<PodInfo>>,
}

/// Finds victims for a pod that no node can take, or writes into `diagnosis` why there are none.
pub fn preempt(cache: &Cache, pod: &PodInfo, diagnosis: &mut Diagnosis) -> Option<Victims> {
    if diagnosis.nodes_total == 0 {
        return None;
    }
    if !pod.may_preempt {
        diagnosis.preemption = Some(Preemption::NotEligible("not eligible due to preemptionPolicy=Never."));
        return None;
    }
    if awaits_its_victims(cache, pod) {
        let why = "not eligible due to a terminating pod on the nominated node.";
        diagnosis.preemption = Some(Preemption::NotEligible(why));
        return None;
    }
    let in_question = diagnosis.rejections.iter().filter(|(_, rejection)| rejection.resolvable).count();
    let enough = (in_question / 10).max(CANDIDATES_MIN);
    let (mut candidates, mut unhelpful) = (Vec::new(), Vec::new());
    for (index, rejection) in &diagnosis.rejections {
        if !rejection.resolvable {
            unhelpful.push(vec![Reason::PreemptionUnhelpful]);
            continue;
        }
        match select_victims(&cache.nodes()[*index], pod, rejection.filter) {
            Ok(victims) => candidates.push(victims),
            Err(reasons) => unhelpful.push(reasons),
        }
        if candidates.len() >= enough {
            break;
        }
    }
    let chosen = candidates.into_iter().min_by_key(|victims| disruption(&victims.pods));
    if chosen.is_none() {
        diagnosis.preemption = Some(Preemption::Unhelpful(unhelpful));
    }
    chosen
}

/// The pod has preempted already, and some of its victims are still ending.
fn awaits_its_victims(cache: &Cache, pod: &PodInfo) -> bool {
    let node = cache.nominated_node(&pod.uid).and_then(|node| cache.node(node));
    node.is_some_and(|node| node.pods.values().any(|other| other.priority < pod.priority && other.terminating))
}

/// The fewest and least important pods whose end lets `pod` fit on `node`.
fn select_victims(node: &NodeInfo, pod: &PodInfo, rejected_by: Filter) -> Result<Victims, Vec<Reason>> {
    let mut less_important: Vec<Arc<PodInfo>> =
        node.pods.values().filter(|other| other.priority < pod.priority).cloned().collect();
    if less_important.is_empty() {
        return Err(vec![Reason::NoVictims]);
    }
    // Preemption frees a node's own resources only; what other pods' topology domains would allow without the victims
    // is not worked out.
    if matches!(rejected_by, Filter::PodTopologySpread | Filter::InterPodAntiAffinity) {
        return Err(vec![Reason::PreemptionUnhelpful]);
    }
    let mut trial = node.clone();
    for other in &less_important {
        trial.remove(&other.uid);
    }
    filters::check_node(pod, &trial).map_err(|rejection| rejection.reasons)?;
    less_important.sort_by_key(|other| (Reverse(other.priority), other.start_time));
    let mut pods = Vec::new();
    for other in less_important {
        trial.add(other.clone());
        if filters::check_node(pod, &trial).is_err() {
            trial.remove(&other.uid);
            pods.push(other);
        }
    }
    Ok(Victims { node: node.name.clone(), pods })
}

/// How bad it is to lose these pods: by the highest priority, then the sum of priorities, then their number; pods that
/// started later are lost more easily.
fn disruption(victims: &[Arc<PodInfo>]) -> (i32, i64, usize, Reverse<i64>) {
    let highest = victims.first().map_or(i32::MIN, |pod| pod.priority);
    // Every priority is shifted above zero, so that more victims always weigh more.
    let sum = victims.iter().map(|pod| i64::from(pod.priority) + i64::from(i32::MAX) + 1).sum();
    let earliest = victims.iter().filter(|pod| pod.priority == highest).map(|pod| pod.start_time).min();
    (highest, sum, victims.len(), Reverse(earliest.unwrap_or(i64::MAX)))
}
