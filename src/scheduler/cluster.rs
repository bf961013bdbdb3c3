//! The cluster as the scheduler knows it: nodes, and every pod that is on one or is assumed to be. Changed in place as
//! changes arrive, never copied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::node::{NodeInfo, NodeObject};
use super::pod::{PodInfo, Uid};
use crate::kube::selector::Labels;

#[derive(Debug, Default)]
pub struct Cluster {
    nodes: Vec<NodeInfo>,
    places: BTreeMap<String, usize>,
    pods: BTreeMap<Uid, Placed>,
    namespaces: BTreeMap<String, Labels>,
    /// Placed pods by namespace, for those that choose by labels.
    by_namespace: BTreeMap<String, BTreeSet<Uid>>,
    /// Placed pods that keep others away.
    repelling: BTreeSet<Uid>,
    /// Placed pods that prefer some pods near or far.
    preferring: BTreeSet<Uid>,
    /// Of each controller's pods, how many are on which node.
    by_owner: BTreeMap<Uid, BTreeMap<String, i64>>,
    /// Pods for which room is being made, and where.
    nominated: BTreeMap<Uid, String>,
}

#[derive(Debug)]
struct Placed {
    pod: Arc<PodInfo>,
    node: String,
    /// Decided here, not yet seen in the API.
    assumed: bool,
}

impl Cluster {
    /// All nodes, those included that only pods name: these have no object.
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.places.get(name).map(|place| &self.nodes[*place])
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
        let place = self.place_of(name);
        let before = std::mem::replace(&mut self.nodes[place].object, object);
        self.drop_unused(place);
        before
    }

    /// Puts a pod on a node, taking it from where it was.
    pub fn put(&mut self, pod: Arc<PodInfo>, node: &str, assumed: bool) {
        self.take(&pod.uid);
        let place = self.place_of(node);
        self.nodes[place].add(pod.clone());
        self.by_namespace.entry(pod.key.namespace.clone()).or_default().insert(pod.uid.clone());
        if !pod.anti_affinity.is_empty() {
            self.repelling.insert(pod.uid.clone());
        }
        if !pod.preferred_affinity.is_empty() || !pod.affinity.is_empty() {
            self.preferring.insert(pod.uid.clone());
        }
        if let Some(owner) = &pod.owner {
            *self.by_owner.entry(owner.clone()).or_default().entry(node.to_owned()).or_default() += 1;
        }
        self.pods.insert(pod.uid.clone(), Placed { pod, node: node.to_owned(), assumed });
    }

    /// Takes a pod from its node; returns both.
    pub fn take(&mut self, uid: &str) -> Option<(Arc<PodInfo>, String)> {
        let Placed { pod, node, .. } = self.pods.remove(uid)?;
        let place = self.place_of(&node);
        self.nodes[place].remove(uid);
        if let Some(uids) = self.by_namespace.get_mut(&pod.key.namespace) {
            uids.remove(uid);
            if uids.is_empty() {
                self.by_namespace.remove(&pod.key.namespace);
            }
        }
        self.repelling.remove(uid);
        self.preferring.remove(uid);
        self.count_out(&pod, &node);
        self.drop_unused(place);
        Some((pod, node))
    }

    fn count_out(&mut self, pod: &PodInfo, node: &str) {
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

    pub fn placed(&self, uid: &str) -> Option<(&Arc<PodInfo>, &str)> {
        self.pods.get(uid).map(|placed| (&placed.pod, placed.node.as_str()))
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|placed| placed.assumed)
    }

    /// The placed pods of the namespaces for which `covers` holds, with their nodes.
    pub fn pods_in(&self, covers: impl Fn(&str) -> bool) -> impl Iterator<Item = (&Arc<PodInfo>, &NodeInfo)> {
        let covered = self.by_namespace.iter().filter(move |(namespace, _)| covers(namespace));
        covered.flat_map(|(_, uids)| uids).filter_map(|uid| self.with_node(uid))
    }

    /// The placed pods that keep others away, with their nodes.
    pub fn repelling(&self) -> impl Iterator<Item = (&Arc<PodInfo>, &NodeInfo)> {
        self.repelling.iter().filter_map(|uid| self.with_node(uid))
    }

    /// The placed pods that want some pods near or far, with their nodes.
    pub fn preferring(&self) -> impl Iterator<Item = (&Arc<PodInfo>, &NodeInfo)> {
        self.preferring.iter().filter_map(|uid| self.with_node(uid))
    }

    /// How many pods of one controller are on each node that has some.
    pub fn siblings(&self, owner: &str) -> impl Iterator<Item = (&NodeInfo, i64)> {
        let counts = self.by_owner.get(owner).into_iter().flatten();
        counts.filter_map(|(node, count)| Some((self.node(node)?, *count)))
    }

    /// Keeps room for a pod on a node, or on none.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: Option<&str>) {
        if let Some(before) = self.nominated.remove(&pod.uid) {
            let place = self.place_of(&before);
            self.nodes[place].nominated.retain(|nominated| nominated.uid != pod.uid);
            self.drop_unused(place);
        }
        if let Some(node) = node {
            let place = self.place_of(node);
            self.nodes[place].nominated.push(pod.clone());
            self.nominated.insert(pod.uid.clone(), node.to_owned());
        }
    }

    pub fn nomination(&self, uid: &str) -> Option<&str> {
        self.nominated.get(uid).map(String::as_str)
    }

    fn with_node(&self, uid: &str) -> Option<(&Arc<PodInfo>, &NodeInfo)> {
        let placed = self.pods.get(uid)?;
        Some((&placed.pod, self.node(&placed.node)?))
    }

    fn place_of(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.nodes.push(NodeInfo::new(name));
        self.places.insert(name.to_owned(), self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn drop_unused(&mut self, place: usize) {
        if self.nodes[place].is_unused() {
            let dropped = self.nodes.swap_remove(place);
            self.places.remove(&dropped.name);
            if let Some(moved) = self.nodes.get(place) {
                self.places.insert(moved.name.clone(), place);
            }
        }
    }
}
