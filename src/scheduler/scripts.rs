//! Plays the stories in `tests/scripts/scheduler/`: what happens to a cluster, and what the scheduler decides.
//!
//! A line is a command, a comment (`#`), or begins with `>`: what the commands before it said. Commands:
//!
//! | command | what happens |
//! |---|---|
//! | `node n1 cpu=4 memory=8Gi pods=110 zone=a taint=k:NoSchedule unschedulable` | a node joins or changes |
//! | `node n1 gone` | it leaves |
//! | `pod a cpu=1 memory=1Gi priority=5 owner=rs app=www port=80 on=n1 need.zone=a` | a pod is created or changes |
//! | `pod a far=www/zone`, `near=`, `spread=zone` | kept from pods of that app, near them, spread over zones |
//! | `pod a gone` | it is deleted |
//! | `wait 60` | seconds pass |
//! | `decide`, `decide refused` | the scheduler decides until it has nothing to do; bindings succeed, or are refused |

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::core::{Core, Decision};
use crate::kube::informer::Change;
use crate::world::Instant;

macro_rules! stories {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            play(include_str!(concat!("../../tests/scripts/scheduler/", stringify!($name), ".txt")));
        }
    )*};
}

stories!(
    a_binding_is_refused,
    a_pod_larger_than_any_node,
    ports_labels_and_taints,
    replicas_spread,
    room_appears,
    room_is_made,
    the_emptiest_node_wins,
    together_and_apart,
);

fn play(script: &str) {
    let mut stage = Stage::new();
    let mut played = String::new();
    for line in script.lines().filter(|line| !line.starts_with('>')) {
        let _ = writeln!(played, "{line}");
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            for said in stage.run(line) {
                let _ = writeln!(played, "> {said}");
            }
        }
    }
    assert!(played == script, "the story went otherwise:\n{played}");
}

struct Stage {
    core: Core,
    now: Instant,
    nodes: BTreeMap<String, Arc<Node>>,
    pods: BTreeMap<String, Arc<Pod>>,
}

type Arguments<'a> = BTreeMap<&'a str, &'a str>;

impl Stage {
    fn new() -> Stage {
        Stage {
            core: Core::new("default-scheduler"),
            now: Instant::now(),
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
        }
    }

    fn run(&mut self, line: &str) -> Vec<String> {
        let mut words = line.split_whitespace();
        let (command, name) = (words.next().unwrap(), words.next().unwrap_or_default());
        let arguments: Arguments = words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect();
        match command {
            "node" => self.node(name, &arguments),
            "pod" => self.pod(name, &arguments),
            "wait" => self.now += Duration::from_secs(name.parse().unwrap()),
            "decide" => return self.decide(name == "refused"),
            other => panic!("no command {other:?}"),
        }
        Vec::new()
    }

    fn node(&mut self, name: &str, arguments: &Arguments) {
        let new = (!arguments.contains_key("gone")).then(|| Arc::new(node(name, arguments)));
        let change = step(&mut self.nodes, name, new);
        self.core.node_changed(&change, self.now);
    }

    fn pod(&mut self, name: &str, arguments: &Arguments) {
        let new = (!arguments.contains_key("gone")).then(|| Arc::new(pod(name, arguments)));
        self.set_pod(name, new);
    }

    fn set_pod(&mut self, name: &str, new: Option<Arc<Pod>>) {
        let change = step(&mut self.pods, name, new);
        self.core.pod_changed(&change, self.now);
    }

    fn decide(&mut self, refused: bool) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(decision) = self.core.schedule_one(self.now, |_| 0) {
            match decision {
                Decision::Bind { pod, node } if refused => {
                    said.push(format!("{} -> {node}, refused", pod.key.name));
                    self.core.bind_failed(&pod, self.now);
                }
                Decision::Bind { pod, node } => {
                    said.push(format!("{} -> {node}", pod.key.name));
                    self.core.bound(&pod);
                    let mut bound = Pod::clone(&self.pods[&pod.key.name]);
                    bound.spec.as_mut().unwrap().node_name = Some(node);
                    self.set_pod(&pod.key.name, Some(Arc::new(bound)));
                }
                Decision::Reject { pod, diagnosis, victims } => {
                    said.push(format!("{}: {diagnosis}", pod.key.name));
                    said.extend(victims.map(|victims| {
                        let names: Vec<&str> = victims.pods.iter().map(|pod| pod.key.name.as_str()).collect();
                        format!("{}: {} must leave {}", pod.key.name, names.join(" and "), victims.node)
                    }));
                }
            }
        }
        said
    }
}

/// Replaces an object, and tells the step that this is.
fn step<K>(objects: &mut BTreeMap<String, Arc<K>>, name: &str, new: Option<Arc<K>>) -> Change<K> {
    let old = match &new {
        Some(new) => objects.insert(name.to_owned(), new.clone()),
        None => objects.remove(name),
    };
    match (old, new) {
        (Some(old), Some(new)) => Change::Updated { old, new },
        (None, Some(new)) => Change::Added(new),
        (Some(old), None) => Change::Deleted(old),
        (None, None) => panic!("there is no {name}"),
    }
}

fn node(name: &str, arguments: &Arguments) -> Node {
    let or = |key: &str, otherwise: &'static str| arguments.get(key).copied().unwrap_or(otherwise).to_owned();
    let taints: Vec<Value> = arguments
        .get("taint")
        .map(|taint| taint.split_once(':').unwrap())
        .map(|(key, effect)| json!({"key": key, "effect": effect}))
        .into_iter()
        .collect();
    let mut labels = json!({"kubernetes.io/hostname": name});
    if let Some(zone) = arguments.get("zone") {
        labels["topology.kubernetes.io/zone"] = json!(zone);
    }
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints, "unschedulable": arguments.contains_key("unschedulable")},
        "status": {"allocatable": {"cpu": or("cpu", "4"), "memory": or("memory", "8Gi"), "pods": or("pods", "110")}},
    }))
    .unwrap()
}

fn topology(short: &str) -> &str {
    if short == "zone" { "topology.kubernetes.io/zone" } else { "kubernetes.io/hostname" }
}

fn pod(name: &str, arguments: &Arguments) -> Pod {
    let mut pod = json!({
        "metadata": {"namespace": "default", "name": name, "uid": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {}}}]},
    });
    let app = |app: &str| json!({"matchLabels": {"app": app}});
    for (key, value) in arguments {
        let term = || {
            let (other, places) = value.split_once('/').unwrap();
            json!([{"labelSelector": app(other), "topologyKey": topology(places)}])
        };
        let (container, spec) = ("/spec/containers/0", "/spec");
        match *key {
            "cpu" | "memory" => pod.pointer_mut(container).unwrap()["resources"]["requests"][key] = json!(value),
            "port" => {
                let port: i32 = value.parse().unwrap();
                pod.pointer_mut(container).unwrap()["ports"] = json!([{"containerPort": port, "hostPort": port}]);
            }
            "priority" => pod["spec"]["priority"] = json!(value.parse::<i32>().unwrap()),
            "never" => pod["spec"]["preemptionPolicy"] = json!("Never"),
            "on" => pod["spec"]["nodeName"] = json!(value),
            "phase" => pod["status"]["phase"] = json!(value),
            "ending" => pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            "app" => pod["metadata"]["labels"]["app"] = json!(value),
            "owner" => {
                pod["metadata"]["ownerReferences"] =
                    json!([{"apiVersion": "v1", "kind": "RS", "name": value, "uid": value, "controller": true}]);
            }
            "tolerates" => pod["spec"]["tolerations"] = json!([{"key": value, "operator": "Exists"}]),
            "need.zone" => pod["spec"]["nodeSelector"] = json!({"topology.kubernetes.io/zone": value}),
            "far" => {
                let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": term()});
                pod.pointer_mut(spec).unwrap()["affinity"]["podAntiAffinity"] = required;
            }
            "near" => {
                let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": term()});
                pod.pointer_mut(spec).unwrap()["affinity"]["podAffinity"] = required;
            }
            "spread" => {
                let own = arguments.get("app").copied().unwrap_or_default();
                pod["spec"]["topologySpreadConstraints"] = json!([{
                    "maxSkew": 1, "topologyKey": topology(value), "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": app(own),
                }]);
            }
            other => panic!("no argument {other:?}"),
        }
    }
    serde_json::from_value(pod).unwrap()
}
