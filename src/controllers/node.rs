//! The node controller: finds nodes that fell silent, taints them, and evicts the pods that don't tolerate the taints.
//!
//! Owns what it has seen of each node's heartbeats, by its own clock; speaks to the API. A controller that begins to
//! lead has seen no heartbeats yet, so it gives every node a whole grace period. Decisions are in
//! [`node_health`](super::node_health).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::context::ControllerContext;
use super::node_health::{self, Observation};
use super::not_found::ignore_not_found;
use super::pods;
use crate::kube::client::{Client, DeleteOptions, PatchType};
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::events::{Recorder, Severity};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::status::Status;
use crate::kube::time;
use crate::world::World;

/// Where nodes renew their leases.
const LEASES: &str = "kube-node-lease";

struct Nodes {
    world: World,
    client: Client,
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<Pod>,
    events: Recorder,
    grace: Duration,
    seen: Mutex<BTreeMap<String, Observation>>,
}

pub fn start(context: &ControllerContext, grace: Duration) {
    let nodes = Informer::of(&context.client.api::<Node>()).start(&context.world, &context.shutdown);
    let leases =
        Informer::of(&context.client.api::<Lease>().namespaced(LEASES)).start(&context.world, &context.shutdown);
    let controller = Nodes {
        world: context.world.clone(),
        client: context.client.clone(),
        nodes: nodes.clone(),
        leases: leases.clone(),
        pods: context.pods.clone(),
        events: context.recorder("node-controller"),
        grace,
        seen: Mutex::default(),
    };
    Builder::new("Node", controller)
        .of(&nodes)
        .watches(&leases, |lease: &Lease| vec![Key::new("", lease.metadata.name.clone().unwrap_or_default())])
        .watches(&context.pods, |pod: &Pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            node.map(|node| Key::new("", node)).into_iter().collect()
        })
        .leadership(&context.leadership)
        .start(&context.world, &context.shutdown);
}

#[async_trait::async_trait]
impl Reconcile for Nodes {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let Some(mut node) = self.nodes.get(key) else {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&key.name);
            return Ok(Requeue::No);
        };
        let observation = self.observe(&node);
        if observation.is_silent(self.grace, time::timestamp(&self.world.clock)) {
            node = self.mark_unknown(node).await?;
        }
        node = self.taint(node).await?;
        let mut again = self.grace / 4;
        if node_health::readiness(&node) != "True" {
            self.mark_pods_unready(&node).await?;
        }
        if let Some(next) = self.evict(&node).await? {
            again = again.min(next.max(Duration::from_millis(100)));
        }
        Ok(Requeue::After(again))
    }
}

impl Nodes {
    /// Observes the node's last heartbeat: its lease and its Ready condition.
    fn observe(&self, node: &Node) -> Observation {
        let name = node.metadata.name.clone().unwrap_or_default();
        let lease = self.leases.get(&Key::new(LEASES, name.clone()));
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0.to_string()));
        let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
        // A node that registers again has a fresh Ready condition before it renews its lease.
        let said = ready.filter(|ready| ready.status != "Unknown").and_then(|ready| ready.last_heartbeat_time.as_ref());
        let heartbeat =
            format!("{} {}", renewed.unwrap_or_default(), said.map(|time| time.0.to_string()).unwrap_or_default());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let observation = Observation::note(seen.get(&name), heartbeat, time::timestamp(&self.world.clock));
        seen.insert(name, observation.clone());
        observation
    }

    async fn mark_unknown(&self, node: Arc<Node>) -> Result<Arc<Node>, Status> {
        let Some(conditions) = node_health::unknown_conditions(&node, time::timestamp(&self.world.clock)) else {
            return Ok(node);
        };
        let name = node.metadata.name.as_deref().unwrap_or_default();
        self.events.event(&*node, Severity::Normal, "NodeNotReady", format!("Node {name} status is now: NodeNotReady"));
        tracing::warn!(node = name, "node is silent");
        // The resource version keeps this from overwriting a heartbeat that comes in meanwhile.
        let meta = json!({"resourceVersion": node.metadata.resource_version});
        let patch = json!({"metadata": meta, "status": {"conditions": conditions}});
        let written = self.client.api::<Node>().patch_status(name, PatchType::Strategic, &patch).await?;
        self.nodes.reached(&written.metadata).await;
        Ok(Arc::new(written))
    }

    async fn taint(&self, node: Arc<Node>) -> Result<Arc<Node>, Status> {
        let Some(taints) = node_health::taints(&node, time::timestamp(&self.world.clock)) else { return Ok(node) };
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints},
        });
        let written = self.client.api::<Node>().patch(name, PatchType::Merge, &patch).await?;
        self.nodes.reached(&written.metadata).await;
        Ok(Arc::new(written))
    }

    /// Marks the pods of a node that is not ready as not ready, so that services send them no requests.
    async fn mark_pods_unready(&self, node: &Node) -> Result<(), Status> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        for pod in self.pods.by_index("node", name) {
            if !pods::is_ready(&pod) {
                continue;
            }
            let key = Key::of(&pod.metadata);
            let condition = json!({
                "type": "Ready",
                "status": "False",
                "reason": "NodeNotReady",
                "message": "Node is not ready",
                "lastTransitionTime": time::now(&self.world.clock),
            });
            let meta = json!({"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version});
            let patch = json!({"metadata": meta, "status": {"conditions": [condition]}});
            let api = self.client.api::<Pod>().namespaced(&key.namespace);
            if let Some(written) = ignore_not_found(api.patch_status(&key.name, PatchType::Strategic, &patch).await)? {
                self.pods.reached(&written.metadata).await;
            }
        }
        Ok(())
    }

    /// Deletes the pods that don't tolerate the node's taints. Returns how long the next one tolerates them.
    async fn evict(&self, node: &Node) -> Result<Option<Duration>, Status> {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let now = time::timestamp(&self.world.clock);
        let mut next: Option<Duration> = None;
        for pod in self.pods.by_index("node", node.metadata.name.as_deref().unwrap_or_default()) {
            if !pods::is_active(&pod) {
                continue;
            }
            match node_health::time_until_eviction(&pod, taints, now) {
                None => {}
                Some(Duration::ZERO) => {
                    let key = Key::of(&pod.metadata);
                    let message = format!("Marking for deletion Pod {key}");
                    self.events.event(&*pod, Severity::Normal, "TaintManagerEviction", message);
                    let options = DeleteOptions { precondition_uid: pod.metadata.uid.clone(), ..Default::default() };
                    let api = self.client.api::<Pod>().namespaced(&key.namespace);
                    ignore_not_found(api.delete(&key.name, options).await)?;
                }
                Some(left) => next = Some(next.map_or(left, |next| next.min(left))),
            }
        }
        Ok(next)
    }
}
