//! The pod garbage collector: removes pods that nobody else will, because their node is gone or they were never given
//! one and are to end.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};

use super::Kit;
use super::replication::ignore_gone;
use crate::kube::client::{Client, DeleteOptions};
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::status::Status;

/// A node that comes back within this time keeps its pods.
const QUARANTINE: Duration = Duration::from_secs(40);

struct PodGarbage {
    client: Client,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    world: crate::world::World,
}

pub fn start(kit: &Kit) {
    let nodes = Informer::of(&kit.client.api::<Node>()).start(&kit.world, &kit.shutdown);
    let pods = kit.pods.clone();
    let of_node = pods.clone();
    let controller =
        PodGarbage { client: kit.client.clone(), pods: pods.clone(), nodes: nodes.clone(), world: kit.world.clone() };
    Builder::new("PodGarbage", controller)
        .of(&pods)
        .watches(&nodes, move |node: &Node| {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            of_node.by_index("node", name).iter().map(|pod| Key::of(&pod.metadata)).collect()
        })
        .leadership(&kit.leadership)
        .start(&kit.world, &kit.shutdown);
}

#[async_trait::async_trait]
impl Reconcile for PodGarbage {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let Some(pod) = self.pods.get(key) else { return Ok(Requeue::No) };
        match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
            None if pod.metadata.deletion_timestamp.is_some() => self.remove(&pod, key).await?,
            Some(node) if self.nodes.get(&Key::new("", node)).is_none() => {
                self.world.clock.sleep(QUARANTINE).await;
                if self.client.api::<Node>().get_opt(node).await?.is_none() {
                    self.remove(&pod, key).await?;
                }
            }
            _ => {}
        }
        Ok(Requeue::No)
    }
}

impl PodGarbage {
    async fn remove(&self, pod: &Pod, key: &Key) -> Result<(), Status> {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            precondition_uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        ignore_gone(self.client.api::<Pod>().namespaced(&key.namespace).delete(&key.name, options).await)?;
        Ok(())
    }
}
