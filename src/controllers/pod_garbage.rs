//! The pod garbage collector: deletes pods that no agent will delete: their node is gone, or they have none and are
//! being deleted.
//!
//! Owns what it has seen of absent nodes, by its own clock; speaks to the API.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::context::ControllerContext;
use super::not_found::ignore_not_found;
use super::pods;
use crate::kube::client::{Api, Client, DeleteOptions, PatchType};
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::status::Status;
use crate::kube::time;
use crate::world::{Instant, World};

/// A node that comes back within this time keeps its pods.
const QUARANTINE: Duration = Duration::from_secs(40);

struct PodGarbage {
    world: World,
    client: Client,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    absent: Mutex<Quarantine>,
}

pub fn start(context: &ControllerContext) {
    let nodes = Informer::of(&context.client.api::<Node>()).start(&context.world, &context.shutdown);
    let pods = context.pods.clone();
    let of_node = pods.clone();
    let controller = PodGarbage {
        world: context.world.clone(),
        client: context.client.clone(),
        pods: pods.clone(),
        nodes: nodes.clone(),
        absent: Mutex::default(),
    };
    Builder::new("PodGarbage", controller)
        .of(&pods)
        .watches(&nodes, move |node: &Node| {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            of_node.by_index("node", name).iter().map(|pod| Key::of(&pod.metadata)).collect()
        })
        .leadership(&context.leadership)
        .start(&context.world, &context.shutdown);
}

/// Nodes that have pods and are absent, and since when.
#[derive(Debug, Default)]
struct Quarantine(BTreeMap<String, Instant>);

impl Quarantine {
    /// How long an absent node may still come back.
    fn left(&mut self, node: &str, now: Instant) -> Duration {
        let since = *self.0.entry(node.to_owned()).or_insert(now);
        QUARANTINE.saturating_sub(now.saturating_duration_since(since))
    }

    /// Ends the quarantine of a node that is there, or has no pods any more.
    fn end(&mut self, node: &str) {
        self.0.remove(node);
    }
}

#[async_trait::async_trait]
impl Reconcile for PodGarbage {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let Some(pod) = self.pods.get(key) else { return Ok(Requeue::No) };
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) else {
            if pod.metadata.deletion_timestamp.is_some() {
                self.remove(&pod, key).await?;
            }
            return Ok(Requeue::No);
        };
        let left = match self.nodes.get(&Key::new("", node)) {
            Some(_) => {
                self.absent().end(node);
                return Ok(Requeue::No);
            }
            None => self.absent().left(node, self.world.clock.now()),
        };
        if !left.is_zero() {
            return Ok(Requeue::After(left));
        }
        // The cache may be behind: a pod is deleted only if the API itself has no such node.
        if self.client.api::<Node>().get_opt(node).await?.is_none() {
            self.fail(&pod, key).await?;
            self.remove(&pod, key).await?;
        }
        if self.pods.by_index("node", node).len() <= 1 {
            self.absent().end(node);
        }
        Ok(Requeue::No)
    }
}

impl PodGarbage {
    fn absent(&self) -> std::sync::MutexGuard<'_, Quarantine> {
        self.absent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn api(&self, key: &Key) -> Api<Pod> {
        self.client.api::<Pod>().namespaced(&key.namespace)
    }

    /// Marks the pod as failed, since no agent will report how it ended.
    async fn fail(&self, pod: &Pod, key: &Key) -> Result<(), Status> {
        if pods::is_finished(pod) {
            return Ok(());
        }
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": time::now(&self.world.clock),
        });
        let status = json!({"phase": "Failed", "conditions": [condition]});
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
        ignore_not_found(self.api(key).patch_status(&key.name, PatchType::Strategic, &patch).await).map(|_| ())
    }

    async fn remove(&self, pod: &Pod, key: &Key) -> Result<(), Status> {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            precondition_uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        ignore_not_found(self.api(key).delete(&key.name, options).await).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_absence_of_a_node_has_its_time() {
        let (mut absent, start) = (Quarantine::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(absent.left("n1", start), QUARANTINE);
        assert_eq!(absent.left("n2", after(30)), QUARANTINE);
        assert_eq!(absent.left("n1", after(30)), Duration::from_secs(10));
        assert_eq!(absent.left("n1", after(41)), Duration::ZERO);
        absent.end("n1");
        assert_eq!(absent.left("n1", after(42)), QUARANTINE, "it was back");
    }
}
