//! A node as the scheduler sees it: what matters of its object, and the sums over the pods on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use super::pod::{HostPort, PodInfo, Uid};
use super::resources::{NonZeroRequests, Resources};
use crate::kube::quantity::Quantity;
use crate::kube::selector::Labels;

/// A pod that tolerates this taint may run on a node with `spec.unschedulable`.
pub const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

/// What the scheduler reads from a Node object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeObject {
    pub labels: Labels,
    pub taints: Vec<core::Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub pods_max: i64,
}

/// A node with the pods on it, those assumed to be there included.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub name: String,
    /// `None` if no Node object was seen, only pods that name it.
    pub object: Option<NodeObject>,
    pub pods: BTreeMap<Uid, Arc<PodInfo>>,
    pub requested: Resources,
    pub non_zero_requested: NonZeroRequests,
    /// Host ports in use, and by how many pods.
    pub ports: BTreeMap<HostPort, u32>,
    /// Pods whose nominated node this is.
    pub nominated: Vec<Arc<PodInfo>>,
}

impl NodeObject {
    pub fn new(node: &core::Node) -> NodeObject {
        let spec = node.spec.clone().unwrap_or_default();
        let status = node.status.clone().unwrap_or_default();
        let allocatable = status.allocatable.or(status.capacity).unwrap_or_default();
        NodeObject {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.taints.unwrap_or_default(),
            unschedulable: spec.unschedulable.unwrap_or(false),
            pods_max: allocatable.get("pods").and_then(|pods| Quantity::try_from(pods).ok()).map_or(0, |q| q.units()),
            allocatable: Resources::of(Some(&allocatable)),
        }
    }
}

impl NodeInfo {
    pub fn new(name: &str) -> NodeInfo {
        NodeInfo { name: name.to_owned(), ..NodeInfo::default() }
    }

    /// Adds a pod and its requests.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests.fit);
        self.non_zero_requested.add(pod.requests.non_zero);
        for port in &pod.ports {
            *self.ports.entry(port.clone()).or_default() += 1;
        }
        let before = self.pods.insert(pod.uid.clone(), pod);
        assert!(before.is_none(), "a pod is counted on a node once");
    }

    /// Removes a pod and its requests.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(uid)?;
        self.requested.subtract(&pod.requests.fit);
        self.non_zero_requested.subtract(pod.requests.non_zero);
        for port in &pod.ports {
            if let Some(users) = self.ports.get_mut(port) {
                *users -= 1;
                if *users == 0 {
                    self.ports.remove(port);
                }
            }
        }
        Some(pod)
    }

    pub fn labels(&self) -> Option<&Labels> {
        self.object.as_ref().map(|object| &object.labels)
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels()?.get(key).map(String::as_str)
    }

    pub fn is_unused(&self) -> bool {
        self.object.is_none() && self.pods.is_empty() && self.nominated.is_empty()
    }
}
