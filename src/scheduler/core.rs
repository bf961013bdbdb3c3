//! The scheduler without its surroundings: changes of the cluster go in, decisions come out. No I/O, no clock.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;

use super::cache::Cache;
use super::diagnosis::Diagnosis;
use super::filters;
use super::node::{NodeInfo, NodeObject};
use super::pod::PodInfo;
use super::preemption::{self, Victims};
use super::queue::SchedulingQueue;
use super::rejection::Filter;
use super::scores;
use super::topology::{self, Topology};
use crate::kube::informer::Change;
use crate::kube::selector::Labels;
use crate::world::Instant;

/// A smaller cluster is searched whole. In a larger one the search ends when it has found a share of the nodes
/// feasible, and at least this many.
const FEASIBLE_NODES_MIN: usize = 100;

/// What to do with a pod.
#[derive(Debug)]
pub enum Decision {
    /// Bind it; the cache assumes it on the node already.
    Bind { pod: Arc<PodInfo>, node: String },
    /// No node can take it: report why, and evict the victims, if there are any.
    Reject { pod: Arc<PodInfo>, diagnosis: Diagnosis, victims: Option<Victims> },
}

/// The scheduler's state and decisions.
pub struct Core {
    name: String,
    cache: Cache,
    queue: SchedulingQueue,
    /// The index at which the next search begins.
    next_start_node: usize,
}

impl Core {
    /// A scheduler for pods whose `schedulerName` is `name`.
    pub fn new(name: &str) -> Core {
        Core { name: name.to_owned(), cache: Cache::default(), queue: SchedulingQueue::default(), next_start_node: 0 }
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    pub fn namespace_changed(&mut self, change: &Change<api::Namespace>, now: Instant) {
        let name = change.object().metadata.name.clone().unwrap_or_default();
        let labels = change.new().map(|namespace| namespace.metadata.labels.clone().unwrap_or_default());
        self.cache.set_namespace(&name, labels);
        self.queue.wake(now, |_, rejected_by| rejected_by.depends_on_other_pods());
    }

    pub fn node_changed(&mut self, change: &Change<api::Node>, now: Instant) {
        let name = change.object().metadata.name.clone().unwrap_or_default();
        let object = change.new().map(|node| NodeObject::new(node));
        let labels = |object: &Option<NodeObject>| {
            object.as_ref().map(|object: &NodeObject| -> Labels { object.labels.clone() })
        };
        let labels_after = labels(&object);
        let unchanged = self.cache.node(&name).is_some_and(|node| node.object == object);
        if unchanged {
            return;
        }
        let before = self.cache.set_node(&name, object);
        let moved = labels(&before) != labels_after;
        let node = self.cache.node(&name);
        self.queue.wake(now, |pod, rejected_by| {
            moved && rejected_by.depends_on_other_pods()
                || node.is_some_and(|node| filters::check_node(pod, node).is_ok())
        });
    }

    pub fn pod_changed(&mut self, change: &Change<api::Pod>, now: Instant) {
        let uid = change.object().metadata.uid.clone().unwrap_or_default();
        let Some(pod) = change.new().filter(|pod| !is_finished(pod)) else { return self.pod_removed(&uid, now) };
        let info = Arc::new(PodInfo::new(pod));
        match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty()) {
            Some(node) => self.pod_assigned(info, node, now),
            None if pod.metadata.deletion_timestamp.is_some() => self.pod_removed(&uid, now),
            None if self.is_ours(pod) && !self.cache.is_assumed(&uid) => {
                // A version of the pod from before its nomination must not undo it.
                if let Some(node) = nominated_node(pod) {
                    self.cache.nominate(&info, Some(node));
                }
                self.queue.add(info, now);
            }
            None => {}
        }
    }

    fn is_ours(&self, pod: &api::Pod) -> bool {
        let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        name.unwrap_or("default-scheduler") == self.name
    }

    fn pod_assigned(&mut self, pod: Arc<PodInfo>, node: &str, now: Instant) {
        self.queue.remove(&pod.uid);
        self.cache.nominate(&pod, None);
        // An assumed pod woke nobody yet: its arrival may help others now.
        let was_here = match self.cache.assigned(&pod.uid) {
            Some((before, on)) if on == node && !self.cache.is_assumed(&pod.uid) => Some(before.clone()),
            _ => None,
        };
        self.cache.add_pod(pod.clone(), node, false);
        match was_here {
            None => self.wake_for_arrival(&pod, now),
            Some(before) if *before != *pod => {
                self.wake_for_departure(&before, node, now);
                self.wake_for_arrival(&pod, now);
            }
            Some(_) => {}
        }
    }

    fn pod_removed(&mut self, uid: &str, now: Instant) {
        if let Some(pod) = self.queue.remove(uid) {
            let freed = self.cache.nominated_node(uid).map(str::to_owned);
            self.cache.nominate(&pod, None);
            if let Some(node) = freed {
                self.wake_for_departure(&pod, &node, now);
            }
        }
        if let Some((pod, node)) = self.cache.remove_pod(uid) {
            self.wake_for_departure(&pod, &node, now);
        }
    }

    /// Wakes the pods that the arrival of `pod` may help.
    fn wake_for_arrival(&mut self, pod: &PodInfo, now: Instant) {
        let cache = &self.cache;
        self.queue.wake(now, |waiting, rejected_by| topology::arrival_helps(cache, waiting, rejected_by, pod));
    }

    /// Wakes the pods that the departure of `pod` may help: it freed resources, or its anti-affinity kept them away.
    fn wake_for_departure(&mut self, pod: &PodInfo, node: &str, now: Instant) {
        let (cache, node) = (&self.cache, self.cache.node(node));
        self.queue.wake(now, |waiting, rejected_by| {
            let wants_room = rejected_by.contains(Filter::NodeResourcesFit) || rejected_by.contains(Filter::NodePorts);
            wants_room && node.is_some_and(|node| filters::check_node(waiting, node).is_ok())
                || topology::departure_helps(cache, waiting, rejected_by, pod)
        });
    }

    /// Decides on the next pod. `pick` draws a number below its argument, to choose between equally good nodes.
    pub fn schedule_one(&mut self, now: Instant, pick: impl FnMut(usize) -> usize) -> Option<Decision> {
        let pod = self.queue.pop(now)?;
        Some(match self.find_feasible_node(&pod, pick) {
            Ok(index) => {
                let node = self.cache.nodes()[index].name.clone();
                self.cache.nominate(&pod, None);
                self.cache.add_pod(pod.clone(), &node, true);
                Decision::Bind { pod, node }
            }
            Err(mut diagnosis) => {
                let filters = diagnosis.filters();
                let victims = preemption::preempt(&self.cache, &pod, &mut diagnosis);
                if let Some(victims) = &victims {
                    self.cache.nominate(&pod, Some(&victims.node));
                }
                self.queue.reject(&pod.uid, filters, now);
                Decision::Reject { pod, diagnosis, victims }
            }
        })
    }

    /// A binding was rejected or got no answer: the cache no longer assumes the pod on its node.
    pub fn bind_failed(&mut self, pod: &PodInfo, now: Instant) {
        if self.cache.is_assumed(&pod.uid) {
            let (_, node) = self.cache.remove_pod(&pod.uid).expect("an assumed pod is on a node");
            self.queue.fail(&pod.uid, now);
            self.wake_for_departure(pod, &node, now);
        }
    }

    /// The report of a rejection failed: the pod is decided on again.
    pub fn report_failed(&mut self, pod: &PodInfo, now: Instant) {
        if self.cache.assigned(&pod.uid).is_none() {
            self.queue.fail(&pod.uid, now);
        }
    }

    /// A binding succeeded. The pod stays assumed until the watch shows it on its node.
    pub fn bound(&mut self, pod: &PodInfo) {
        self.queue.remove(&pod.uid);
    }

    fn find_feasible_node(&mut self, pod: &PodInfo, mut pick: impl FnMut(usize) -> usize) -> Result<usize, Diagnosis> {
        let topology = Topology::new(&self.cache, pod);
        let nodes = self.cache.nodes();
        let mut diagnosis = Diagnosis::default();
        let enough = feasible_nodes_to_find(nodes.len());
        let mut feasible: Vec<usize> = Vec::new();
        let mut checked = 0;
        for index in (0..nodes.len()).map(|step| (self.next_start_node + step) % nodes.len()) {
            checked += 1;
            if nodes[index].object.is_none() {
                continue;
            }
            diagnosis.nodes_total += 1;
            match filters::check(pod, &nodes[index], &topology) {
                Ok(()) => feasible.push(index),
                Err(rejection) => diagnosis.reject(index, rejection),
            }
            if feasible.len() >= enough {
                break;
            }
        }
        self.next_start_node = if nodes.is_empty() { 0 } else { (self.next_start_node + checked) % nodes.len() };
        if feasible.is_empty() {
            return Err(diagnosis);
        }
        let candidates: Vec<&NodeInfo> = feasible.iter().map(|index| &nodes[*index]).collect();
        Ok(feasible[select_node(&scores::score(&self.cache, pod, &candidates), &mut pick)])
    }
}

/// The index of the highest score, or of one of them.
fn select_node(scores: &[i64], pick: &mut impl FnMut(usize) -> usize) -> usize {
    let highest = scores.iter().max().expect("there is a feasible node");
    let ties: Vec<usize> = (0..scores.len()).filter(|index| scores[*index] == *highest).collect();
    if ties.len() == 1 { ties[0] } else { ties[pick(ties.len())] }
}

/// How many feasible nodes are enough to choose from.
fn feasible_nodes_to_find(nodes: usize) -> usize {
    let percent = 50_usize.saturating_sub(nodes / 125).max(5);
    if nodes < FEASIBLE_NODES_MIN { nodes } else { (nodes * percent / 100).max(FEASIBLE_NODES_MIN) }
}

/// Such a pod no longer uses resources.
fn is_finished(pod: &api::Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn nominated_node(pod: &api::Pod) -> Option<&str> {
    pod.status.as_ref()?.nominated_node_name.as_deref().filter(|node| !node.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn large_clusters_are_searched_in_part() {
        for (nodes, enough) in [(0, 0), (1, 1), (99, 99), (100, 100), (500, 230), (5000, 500), (20_000, 1000)] {
            assert_eq!(feasible_nodes_to_find(nodes), enough, "{nodes} nodes");
        }
    }

    #[test]
    fn many_pods_are_spread_over_many_nodes_and_none_is_overfull() {
        let (mut core, now) = (Core::new("default-scheduler"), Instant::now());
        for number in 0..150 {
            let node = json!({
                "metadata": {"name": format!("n{number}"), "labels": {"kubernetes.io/hostname": format!("n{number}")}},
                "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
            });
            core.node_changed(&Change::Added(Arc::new(serde_json::from_value(node).unwrap())), now);
        }
        for number in 0..1600 {
            let pod = json!({
                "metadata": {"namespace": "default", "name": format!("p{number}"), "uid": format!("p{number}")},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]},
            });
            core.pod_changed(&Change::Added(Arc::new(serde_json::from_value(pod).unwrap())), now);
        }
        let (mut placed, mut rejected): (BTreeMap<String, usize>, usize) = (BTreeMap::new(), 0);
        while let Some(decision) = core.schedule_one(now, |_| 0) {
            match decision {
                Decision::Bind { node, .. } => *placed.entry(node).or_default() += 1,
                Decision::Reject { diagnosis, .. } => {
                    assert!(diagnosis.to_string().starts_with("0/150 nodes are available: 150 Too many pods."));
                    rejected += 1;
                }
            }
        }
        assert_eq!((placed.len(), rejected), (150, 100));
        assert!(placed.values().all(|pods| *pods == 10));
    }
}
