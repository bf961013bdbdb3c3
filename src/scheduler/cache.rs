//! The scheduler's cache of the cluster: nodes, and every pod that is assigned to one or assumed to be. It changes in
//! place as changes arrive, and is never copied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::node::{NodeInfo, NodeObject};
use super::pod::{PodInfo, Uid};
use crate::kube::selector::Labels;

#[derive(Debug, Default)]
pub struct Cache {
    nodes: Vec<NodeInfo>,
    index_by_name: BTreeMap<String, usize>,
    pods: BTreeMap<Uid, PodState>,
    namespaces: BTreeMap<String, Labels>,
    /// Assigned pods by namespace, for terms that select by labels.
    by_namespace: BTreeMap<String, BTreeSet<Uid>>,
    /// Assigned pods with required anti-affinity terms, which keep others away.
    with_required_anti_affinity: BTreeSet<Uid>,
    /// Assigned pods with other affinity terms, which count in scores.
    with_affinity: BTreeSet<Uid>,
    /// How many pods of each controller are on which node.
    by_owner: BTreeMap<Uid, BTreeMap<String, i64>>,
    /// Pods that wait for their victims to end, and the node nominated for each.
    nominated: BTreeMap<Uid, String>,
}

#[derive(Debug)]
struct PodState {
    pod: Arc<PodInfo>,
    node: String,
    /// Bound by this scheduler, and not yet seen so in the API.
    assumed: bool,
}

impl Cache {
    /// All nodes, those included that only pods name: these have no object.
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index_by_name.get(name).map(|index| &self.nodes[*index])
    }

    pub fn namespaces(&self) -> &BTreeMap<String, Labels> {
        &self.namespaces
    }

    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels),
            None => self.namespaces.remove(name),
        };
    }

    /// Replaces what is known of a Node object; returns what was known before.
    pub fn set_node(&mut self, name: &str, object: Option<NodeObject>) -> Option<NodeObject> {
        let index = self.index_of(name);
        let before = std::mem::replace(&mut self.nodes[index].object, object);
        self.drop_if_unused(index);
        before
    }

    /// Adds a pod to a node, and removes it from the one where it was.
    pub fn add_pod(&mut self, pod: Arc<PodInfo>, node: &str, assumed: bool) {
        self.remove_pod(&pod.uid);
        let index = self.index_of(node);
        self.nodes[index].add(pod.clone());
        self.by_namespace.entry(pod.key.namespace.clone()).or_default().insert(pod.uid.clone());
        if !pod.anti_affinity.is_empty() {
            self.with_required_anti_affinity.insert(pod.uid.clone());
        }
        if !pod.preferred_affinity.is_empty() || !pod.affinity.is_empty() {
            self.with_affinity.insert(pod.uid.clone());
        }
        if let Some(owner) = &pod.owner {
            *self.by_owner.entry(owner.clone()).or_default().entry(node.to_owned()).or_default() += 1;
        }
        self.pods.insert(pod.uid.clone(), PodState { pod, node: node.to_owned(), assumed });
    }

    /// Removes a pod from its node; returns both.
    pub fn remove_pod(&mut self, uid: &str) -> Option<(Arc<PodInfo>, String)> {
        let PodState { pod, node, .. } = self.pods.remove(uid)?;
        let index = self.index_of(&node);
        self.nodes[index].remove(uid);
        if let Some(uids) = self.by_namespace.get_mut(&pod.key.namespace) {
            uids.remove(uid);
            if uids.is_empty() {
                self.by_namespace.remove(&pod.key.namespace);
            }
        }
        self.with_required_anti_affinity.remove(uid);
        self.with_affinity.remove(uid);
        self.uncount_owner(&pod, &node);
        self.drop_if_unused(index);
        Some((pod, node))
    }

    fn uncount_owner(&mut self, pod: &PodInfo, node: &str) {
        let Some(owner) = &pod.owner else { return };
        let Some(nodes) = self.by_owner.get_mut(owner) else { return };
        if let Some(count) = nodes.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                nodes.remove(node);
            }
        }
        if nodes.is_empty() {
            self.by_owner.remove(owner);
        }
    }

    pub fn assigned(&self, uid: &str) -> Option<(&Arc<PodInfo>, &str)> {
        self.pods.get(uid).map(|state| (&state.pod, state.node.as_str()))
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|state| state.assumed)
    }

    /// The assigned pods of the namespaces for which `covers` holds, with their nodes.
    pub fn pods_in(&self, covers: impl Fn(&str) -> bool) -> impl Iterator<Item = (&Arc<PodInfo>, &NodeInfo)> {
        let covered = self.by_namespace.iter().filter(move |(namespace, _)| covers(namespace));
        covered.flat_map(|(_, uids)| uids).filter_map(|uid| self.with_node(uid))
    }

    /// The assigned pods with required anti-affinity terms, with their nodes.
    pub fn with_required_anti_affinity(&self) -> impl Iterator<Item = (&Arc<PodInfo>, &NodeInfo)> {
        self.with_required_anti_affinity.iter().filter_map(|uid| self.with_node(uid))
    }

    /// The assigned pods with other affinity terms, with their nodes.
    pub fn with_affinity(&self) -> impl Iterator<Item = (&Arc<PodInfo>, &NodeInfo)> {
        self.with_affinity.iter().filter_map(|uid| self.with_node(uid))
    }

    /// How many pods of one controller are on each node that has some.
    pub fn siblings(&self, owner: &str) -> impl Iterator<Item = (&NodeInfo, i64)> {
        let counts = self.by_owner.get(owner).into_iter().flatten();
        counts.filter_map(|(node, count)| Some((self.node(node)?, *count)))
    }

    /// Nominates a node for a pod, or none.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: Option<&str>) {
        if let Some(before) = self.nominated.remove(&pod.uid) {
            let index = self.index_of(&before);
            self.nodes[index].nominated.retain(|nominated| nominated.uid != pod.uid);
            self.drop_if_unused(index);
        }
        if let Some(node) = node {
            let index = self.index_of(node);
            self.nodes[index].nominated.push(pod.clone());
            self.nominated.insert(pod.uid.clone(), node.to_owned());
        }
    }

    pub fn nominated_node(&self, uid: &str) -> Option<&str> {
        self.nominated.get(uid).map(String::as_str)
    }

    fn with_node(&self, uid: &str) -> Option<(&Arc<PodInfo>, &NodeInfo)> {
        let state = self.pods.get(uid)?;
        Some((&state.pod, self.node(&state.node)?))
    }

    fn index_of(&mut self, name: &str) -> usize {
        if let Some(index) = self.index_by_name.get(name) {
            return *index;
        }
        self.nodes.push(NodeInfo::new(name));
        self.index_by_name.insert(name.to_owned(), self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn drop_if_unused(&mut self, index: usize) {
        if self.nodes[index].is_unused() {
            let dropped = self.nodes.swap_remove(index);
            self.index_by_name.remove(&dropped.name);
            if let Some(moved) = self.nodes.get(index) {
                self.index_by_name.insert(moved.name.clone(), index);
            }
        }
    }
}
