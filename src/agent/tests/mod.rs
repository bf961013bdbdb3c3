//! The agent as a whole, on the hollow runtime and an API in memory, in simulated time.

mod fake_api;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use self::fake_api::FakeApi;
use super::runtime::ContainerRuntime;
use super::runtime::hollow::Hollow;
use super::{Capacity, CapacitySource, Config, Handle, RuntimeChoice, start_with};
use crate::actor::Shutdown;
use crate::world::{MemoryDisk, World};

const POD: &str = "pods/default/www";
const WAIT_MAX: Duration = Duration::from_secs(90);

/// A node with its agent.
struct Node {
    world: World,
    api: FakeApi,
    hollow: Hollow,
    shutdown: Shutdown,
}

fn config() -> Config {
    Config {
        node_name: "n1".into(),
        cluster: "test".into(),
        runtime: RuntimeChoice::Hollow,
        capacity: CapacitySource::Fixed(Capacity {
            cpu_millis: 4000,
            memory_bytes: 8 << 30,
            storage_bytes: 100 << 30,
            pods: 110,
        }),
        data_dir: PathBuf::from("/data"),
        address: "127.0.0.1".parse().unwrap(),
        listen: "127.0.0.1:0".into(),
        tls: None,
        labels: Default::default(),
        node_lease_duration: Duration::from_secs(40),
        notebook: true,
    }
}

impl Node {
    fn new() -> Node {
        // Files in memory, the loopback network of the machine.
        let simulated = World::simulated(1, MemoryDisk::new());
        let world = World { net: crate::world::Network::real(), ..simulated };
        let hollow = Hollow::new("n1", world.clock.clone());
        Node { world, api: FakeApi::new(), hollow, shutdown: Shutdown::new() }
    }

    async fn start(&self) -> Handle {
        let runtime = Arc::new(self.hollow.clone());
        start_with(self.world.clone(), self.api.client(), config(), runtime, self.shutdown.clone()).await.unwrap()
    }

    /// Waits, in simulated time, until `wanted` finds something.
    async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, wanted: impl Fn() -> F) -> T {
        let found = async {
            loop {
                if let Some(found) = wanted().await {
                    return found;
                }
                self.world.clock.sleep(Duration::from_millis(100)).await;
            }
        };
        match self.world.clock.timeout(WAIT_MAX, found).await {
            Ok(found) => found,
            Err(_) => panic!("{what} did not come; the pod is {:#}", self.api.get(POD).unwrap_or_default()),
        }
    }

    async fn until_pod(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until(what, || async { self.api.get(POD).filter(|pod| wanted(pod)) }).await
    }

    async fn crash(&self, container: &str, code: i32) {
        let view = self.hollow.view("u-www").await.unwrap();
        self.hollow.crash(&view.latest(container).unwrap().id, code).unwrap();
    }
}

fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test());
}

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "www", "namespace": "default", "uid": "u-www"},
        "spec": spec, "status": {"phase": "Pending"}})
}

fn www() -> Value {
    pod(json!({"nodeName": "n1", "restartPolicy": "Always", "containers": [{"name": "nginx", "image": "nginx:1"}]}))
}

fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or_default()
}

fn condition(pod: &Value, kind: &str) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

#[test]
fn the_node_registers_and_keeps_its_lease_alive() {
    run(|| async {
        let node = Node::new();
        node.start().await;
        let registered = node.until("the node", || async { node.api.get("nodes//n1") }).await;
        assert_eq!(registered["status"]["capacity"]["cpu"], "4");
        let lease = || async { node.api.get("leases/kube-node-lease/n1") };
        let first = node.until("the lease", lease).await;
        node.until("a renewal", || async { lease().await.filter(|lease| lease["spec"] != first["spec"]) }).await;
        // The node controller declares the node lost; the agent corrects it.
        let mut lost = node.api.get("nodes//n1").unwrap();
        lost["status"]["conditions"][3]["status"] = json!("Unknown");
        node.api.put("nodes//n1", lost);
        let ready = |node: &Value| node["status"]["conditions"][3]["status"] == "True";
        node.until("readiness", || async { node.api.get("nodes//n1").filter(ready) }).await;
    });
}

#[test]
fn a_pod_runs_is_told_and_ends_when_deleted() {
    run(|| async {
        let node = Node::new();
        node.start().await;
        node.api.put(POD, www());
        let running = node.until_pod("running", |pod| condition(pod, "Ready")).await;
        assert_eq!(phase(&running), "Running");
        assert_eq!(running["status"]["hostIP"], "127.0.0.1");
        assert!(running["status"]["podIP"].as_str().unwrap().starts_with("10."));
        let container = &running["status"]["containerStatuses"][0];
        assert_eq!((&container["restartCount"], &container["ready"]), (&json!(0), &json!(true)));
        assert!(container["containerID"].as_str().unwrap().starts_with("hollow://"));
        node.api.delete_pod(POD, 30);
        node.until("deletion", || async { node.api.get(POD).is_none().then_some(()) }).await;
        assert!(node.hollow.pods().await.unwrap().is_empty());
    });
}

#[test]
fn what_others_wrote_of_its_pods_the_node_puts_right() {
    run(|| async {
        let node = Node::new();
        node.start().await;
        node.api.put(POD, www());
        let mut pod = node.until_pod("running", |pod| condition(pod, "Ready")).await;
        for _ in 0..2 {
            let conditions = pod["status"]["conditions"].as_array_mut().unwrap();
            let ready = conditions.iter_mut().find(|condition| condition["type"] == "Ready").unwrap();
            (ready["status"], ready["reason"]) = (json!("False"), json!("NodeNotReady"));
            node.api.put(POD, pod);
            pod = node.until_pod("ready again", |pod| condition(pod, "Ready")).await;
        }
    });
}

#[test]
fn a_crashed_container_is_started_again_at_once_and_then_ever_later() {
    run(|| async {
        let node = Node::new();
        node.start().await;
        node.api.put(POD, www());
        node.until_pod("running", |pod| condition(pod, "Ready")).await;
        let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or_default();
        node.crash("nginx", 1).await;
        let again = node.until_pod("a restart", |pod| restarts(pod) == 1 && condition(pod, "Ready")).await;
        assert_eq!(again["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
        let crashed = node.world.clock.now();
        node.crash("nginx", 1).await;
        let waiting =
            |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        let waits = node.until_pod("backoff", waiting).await;
        assert!(!condition(&waits, "Ready"));
        assert_eq!(phase(&waits), "Running");
        node.until_pod("a second restart", |pod| restarts(pod) == 2).await;
        let waited = crashed.elapsed();
        assert!((Duration::from_secs(10)..Duration::from_secs(12)).contains(&waited), "{waited:?}");
    });
}

#[test]
fn init_containers_run_first_and_a_pod_that_has_done_its_work_succeeds() {
    run(|| async {
        let node = Node::new();
        node.start().await;
        node.api.put(
            POD,
            pod(json!({"nodeName": "n1", "restartPolicy": "Never",
                "initContainers": [{"name": "one", "image": "i:1"}, {"name": "two", "image": "i:1"}],
                "containers": [{"name": "main", "image": "i:1"}]})),
        );
        for name in ["one", "two"] {
            node.until(name, || async {
                node.hollow.view("u-www").await.unwrap().latest(name).filter(|c| c.is_running()).map(|_| ())
            })
            .await;
            assert!(node.hollow.view("u-www").await.unwrap().latest("main").is_none());
            node.crash(name, 0).await;
        }
        node.until_pod("running", |pod| phase(pod) == "Running" && condition(pod, "Initialized")).await;
        node.crash("main", 0).await;
        let done = node.until_pod("success", |pod| phase(pod) == "Succeeded").await;
        assert_eq!(done["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
        let sandbox_gone =
            || async { node.hollow.view("u-www").await.unwrap().active_sandbox().is_none().then_some(()) };
        node.until("the sandbox's end", sandbox_gone).await;
    });
}

#[test]
fn a_lost_sandbox_is_rebuilt_with_all_its_containers() {
    run(|| async {
        let node = Node::new();
        node.start().await;
        node.api.put(POD, www());
        let before = node.until_pod("running", |pod| condition(pod, "Ready")).await;
        let sandbox = node.hollow.view("u-www").await.unwrap().sandboxes[0].id.clone();
        node.hollow.crash(&sandbox, 137).unwrap();
        let after = node
            .until_pod("a new sandbox", |pod| {
                condition(pod, "Ready") && pod["status"]["podIP"] != before["status"]["podIP"]
            })
            .await;
        assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 1);
    });
}

#[test]
fn what_no_pod_accounts_for_is_removed_and_what_runs_survives_an_absent_api() {
    run(|| async {
        let node = Node::new();
        node.start().await;
        node.api.put(POD, www());
        node.until_pod("running", |pod| condition(pod, "Ready")).await;
        node.api.set_away(true);
        node.shutdown.begin();
        let next = Node {
            shutdown: Shutdown::new(),
            api: node.api.clone(),
            hollow: node.hollow.clone(),
            world: node.world.clone(),
        };
        next.start().await;
        next.world.clock.sleep(Duration::from_secs(120)).await;
        assert!(next.hollow.view("u-www").await.unwrap().latest("nginx").unwrap().is_running());
        next.api.remove(POD);
        next.api.set_away(false);
        next.until("removal", || async { next.hollow.pods().await.unwrap().is_empty().then_some(()) }).await;
    });
}

#[test]
fn a_node_that_comes_up_while_the_api_is_away_runs_its_pods_from_the_notebook() {
    run(|| async {
        let node = Node::new();
        node.start().await;
        node.api.put(POD, www());
        node.until_pod("running", |pod| condition(pod, "Ready")).await;
        // Written down, at the latest with the next look.
        node.world.clock.sleep(Duration::from_secs(61)).await;
        node.api.set_away(true);
        node.shutdown.begin();
        // The machine was off: nothing runs on it.
        let hollow = Hollow::new("n1", node.world.clock.clone());
        let next = Node { shutdown: Shutdown::new(), api: node.api.clone(), hollow, world: node.world.clone() };
        next.start().await;
        next.until("the pod", || async { next.hollow.view("u-www").await.unwrap().latest("nginx").map(|_| ()) }).await;
        next.api.delete_pod(POD, 1);
        next.api.set_away(false);
        next.until("deletion", || async { next.api.get(POD).is_none().then_some(()) }).await;
        next.shutdown.begin();
        let last = Node { shutdown: Shutdown::new(), ..Node::new() };
        let last = Node { world: next.world.clone(), ..last };
        last.start().await;
        last.world.clock.sleep(Duration::from_secs(5)).await;
        assert!(last.hollow.pods().await.unwrap().is_empty(), "a finished pod is struck out");
    });
}

#[test]
fn a_missing_config_map_is_named_and_waited_for() {
    run(|| async {
        let node = Node::new();
        node.start().await;
        let env = json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "x"}}}]);
        node.api.put(
            POD,
            pod(json!({"nodeName": "n1", "containers": [{"name": "nginx", "image": "nginx:1", "env": env}]})),
        );
        let state = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        let waits = node.until_pod("the error", |pod| state(pod)["reason"] == "CreateContainerConfigError").await;
        assert_eq!(state(&waits)["message"], "configmap \"settings\" not found");
        assert_eq!(phase(&waits), "Pending");
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": "default"}, "data": {"x": "1"}});
        node.api.put("configmaps/default/settings", map);
        node.until_pod("running", |pod| condition(pod, "Ready")).await;
    });
}
