//! All controllers at work on a real frontend, with an agent that does as a test says.

mod deployments;
mod garbage;
mod services;

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{Config, start};
use crate::apiserver::User;
use crate::apiserver::tests::{Caller, Cluster, run};
use crate::kube::client::{Client, DeleteOptions, ListOptions};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::time;
use crate::world::{Clock, World};

/// Pods with this image never get ready.
const BAD: &str = "bad";
/// Pods with this annotation stay while they are being deleted, until a test lets them go.
const SLOW: &str = "test/slow-end";

/// What a test does, and what it sees.
pub struct Story {
    pub admin: Caller,
    clock: Clock,
}

/// Runs a test with a node `n1` and all controllers.
pub fn story(test: impl AsyncFnOnce(&Story)) {
    run(async |cluster: &Cluster| {
        let frontend = cluster.frontend().await;
        let client = |name: &str| Client::new(frontend.transport(User::master(name)));
        let story = Story { admin: cluster.admin().await, clock: cluster.world.clock.clone() };
        story.admin.create("nodes", json!({"metadata": {"name": "n1"}})).await.unwrap();
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        story.admin.merge("nodes//n1/status", ready).await.unwrap();
        let account = json!({"metadata": {"name": "default"}});
        story.admin.create("serviceaccounts/default", account).await.unwrap();
        let config = Config {
            identity: "test".to_owned(),
            leader_lease: Duration::from_secs(15),
            node_grace: Duration::from_secs(600),
            root_ca: "-----BEGIN CERTIFICATE-----".to_owned(),
        };
        let account = |name: &str| Ok::<_, Infallible>(client(name));
        let Ok(()) = start(cluster.world.clone(), client("controllers"), account, config, cluster.shutdown.clone());
        let pods = Informer::of(&client("agent").api::<Pod>()).start(&cluster.world, &cluster.shutdown);
        cluster.world.spawner.task(agent(cluster.world.clone(), client("agent"), pods));
        test(&story).await;
    });
}

/// Binds pods, runs them and ends them, as a scheduler and an agent would.
async fn agent(world: World, client: Client, pods: Informer<Pod>) {
    let mut changes = pods.changes();
    while let Some(change) = changes.next().await {
        let Some(pod) = change.new() else { continue };
        let key = Key::of(&pod.metadata);
        let api = client.api::<Pod>().namespaced(&key.namespace);
        let spec = pod.spec.clone().unwrap_or_default();
        let slow = pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(SLOW));
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        // What a test did meanwhile is no failure of the agent's.
        if pod.metadata.deletion_timestamp.is_some() {
            if !slow {
                let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
                let _ = api.delete(&key.name, options).await;
            }
        } else if spec.node_name.is_none() {
            let _ = api.bind(&key.name, pod.metadata.uid.as_deref().unwrap_or_default(), "n1").await;
        } else if phase.as_deref() == Some("Pending") && spec.containers[0].image.as_deref() != Some(BAD) {
            let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": time::now(&world.clock)});
            let address = format!("10.0.{}.{}", world.random.within(0..250), world.random.within(1..250));
            let status = json!({"phase": "Running", "podIP": address, "conditions": [condition]});
            let patch = json!({"status": status});
            let _ = api.patch_status(&key.name, crate::kube::client::PatchType::Strategic, &patch).await;
        }
    }
}

impl Story {
    /// Resolves once `holds` gives something.
    pub async fn eventually<T>(&self, what: &str, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
        for _ in 0..1500 {
            if let Some(found) = holds().await {
                return found;
            }
            self.clock.sleep(Duration::from_millis(20)).await;
        }
        panic!("never happened: {what}");
    }

    /// Waits until the object is as `holds` says.
    pub async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..1500 {
            last = self.admin.get(path).await.unwrap_or_default();
            if holds(&last) {
                return last;
            }
            self.clock.sleep(Duration::from_millis(20)).await;
        }
        panic!("{path} stayed {last:#}");
    }

    pub async fn until_gone(&self, path: &str) {
        let gone = async || self.admin.get(path).await.is_err_and(|status| status.is_not_found()).then_some(());
        self.eventually(&format!("the end of {path}"), gone).await;
    }

    pub async fn all(&self, path: &str) -> Vec<Value> {
        let list = self.admin.list(path, ListOptions::default()).await.unwrap();
        list.items.iter().map(|object| object.value()).collect()
    }

    pub async fn names(&self, path: &str) -> Vec<String> {
        self.all(path).await.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn pass(&self, time: Duration) {
        self.clock.sleep(time).await;
    }
}

/// Deletes dependents so.
pub fn propagation(policy: &str) -> DeleteOptions {
    DeleteOptions { propagation_policy: Some(policy.to_owned()), ..DeleteOptions::default() }
}
