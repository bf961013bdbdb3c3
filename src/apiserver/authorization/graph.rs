//! The graph of the node authorizer: `node <- pod <- secret, config map, claim, service account`. It follows the watch
//! of pods, so that a question costs one look-up, however many pods there are. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::apiserver::watch_cache::view::View;
use crate::kube::tree::items;
use crate::world::Revision;

pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// A resource of the core group, a namespace and a name.
type Vertex = (&'static str, String, String);

/// Which nodes may read what, as of `revision`.
#[derive(Debug, Default)]
pub struct Graph {
    revision: Revision,
    /// The pods that have a node, by the keys of their view.
    pods: BTreeMap<String, Pod>,
    /// How many pods on which nodes refer to a thing.
    nodes: BTreeMap<Vertex, BTreeMap<String, usize>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Pod {
    node: String,
    /// The pod itself among them.
    refers: BTreeSet<Vertex>,
}

impl Graph {
    /// Takes in what changed since the last update.
    pub fn update(&mut self, view: &View) {
        if view.revision <= self.revision {
            return;
        }
        match view.since(self.revision) {
            Some(changes) => {
                for change in changes {
                    let state = (!change.deleted).then(|| change.item.object.value());
                    self.put(&change.key, state.as_ref());
                }
            }
            None => {
                *self = Graph::default();
                for (key, item) in &view.objects {
                    self.put(key, Some(&item.object.value()));
                }
            }
        }
        self.revision = view.revision;
    }

    /// Is the object a pod on `node`, or does one there refer to it?
    pub fn has_path(&self, resource: &str, namespace: &str, name: &str, node: &str) -> bool {
        let Some(resource) = known(resource) else { return false };
        let nodes = self.nodes.get(&(resource, namespace.to_owned(), name.to_owned()));
        nodes.is_some_and(|nodes| nodes.contains_key(node))
    }

    fn put(&mut self, key: &str, state: Option<&Value>) {
        let fresh = state.and_then(Pod::of);
        if fresh.as_ref() == self.pods.get(key) {
            return;
        }
        if let Some(old) = self.pods.remove(key) {
            for vertex in old.refers {
                let nodes = self.nodes.entry(vertex.clone()).or_default();
                match nodes.get_mut(&old.node) {
                    Some(count) if *count > 1 => *count -= 1,
                    _ => drop(nodes.remove(&old.node)),
                }
                if nodes.is_empty() {
                    self.nodes.remove(&vertex);
                }
            }
        }
        if let Some(pod) = fresh {
            for vertex in &pod.refers {
                *self.nodes.entry(vertex.clone()).or_default().entry(pod.node.clone()).or_default() += 1;
            }
            self.pods.insert(key.to_owned(), pod);
        }
    }
}

fn known(resource: &str) -> Option<&'static str> {
    let resources = ["pods", "secrets", "configmaps", "persistentvolumeclaims", "serviceaccounts"];
    resources.into_iter().find(|known| *known == resource)
}

impl Pod {
    /// `None` while it has no node.
    fn of(pod: &Value) -> Option<Pod> {
        let node = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty())?.to_owned();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
        let mut refers = BTreeSet::from([("pods", namespace.clone(), name)]);
        // A node makes its mirror pods itself: they must never give it rights.
        if pod["metadata"]["annotations"][MIRROR].is_null() {
            refers.extend(references(pod).map(|(resource, name)| (resource, namespace.clone(), name)));
        }
        Some(Pod { node, refers })
    }
}

/// What a pod refers to in its namespace: (resource, name).
pub fn references(pod: &Value) -> impl Iterator<Item = (&'static str, String)> + '_ {
    let spec = &pod["spec"];
    let named = |resource: &'static str, name: &Value| {
        name.as_str().filter(|name| !name.is_empty()).map(|name| (resource, name.to_owned()))
    };
    let account = named("serviceaccounts", &spec["serviceAccountName"]);
    let pulls = items(spec, "imagePullSecrets").iter().filter_map(move |secret| named("secrets", &secret["name"]));
    let volumes = items(spec, "volumes").iter().flat_map(move |volume| {
        let projected = items(&volume["projected"], "sources").iter().flat_map(move |source| {
            [named("secrets", &source["secret"]["name"]), named("configmaps", &source["configMap"]["name"])]
        });
        let claim = &volume["persistentVolumeClaim"]["claimName"];
        [
            named("secrets", &volume["secret"]["secretName"]),
            named("configmaps", &volume["configMap"]["name"]),
            named("persistentvolumeclaims", claim),
            ephemeral_claim(pod, volume).map(|name| ("persistentvolumeclaims", name)),
        ]
        .into_iter()
        .chain(named_secrets(volume).map(|name| Some(("secrets", name))))
        .chain(projected)
        .flatten()
    });
    let containers =
        ["containers", "initContainers", "ephemeralContainers"].into_iter().flat_map(move |c| items(spec, c));
    let environment = containers.flat_map(move |container| {
        let whole = items(container, "envFrom").iter().flat_map(move |source| {
            [named("secrets", &source["secretRef"]["name"]), named("configmaps", &source["configMapRef"]["name"])]
        });
        let single = items(container, "env").iter().flat_map(move |variable| {
            let from = &variable["valueFrom"];
            [named("secrets", &from["secretKeyRef"]["name"]), named("configmaps", &from["configMapKeyRef"]["name"])]
        });
        whole.chain(single).flatten()
    });
    account.into_iter().chain(pulls).chain(volumes).chain(environment)
}

/// The claim that is made for an ephemeral volume is named for the pod and the volume.
fn ephemeral_claim(pod: &Value, volume: &Value) -> Option<String> {
    let _made = volume["ephemeral"].as_object()?;
    Some(format!("{}-{}", pod["metadata"]["name"].as_str()?, volume["name"].as_str()?))
}

/// The secrets by which storage systems are entered.
fn named_secrets(volume: &Value) -> impl Iterator<Item = String> + '_ {
    let azure = volume["azureFile"]["secretName"].as_str();
    let csi = volume["csi"]["nodePublishSecretRef"]["name"].as_str();
    let others = ["cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"];
    let others = others.into_iter().filter_map(|system| volume[system]["secretRef"]["name"].as_str());
    azure.into_iter().chain(csi).chain(others).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use imbl::OrdMap;
    use serde_json::json;

    use super::*;
    use crate::apiserver::watch_cache::view::{Change, Item};
    use crate::kube::object::Object;

    fn pod(name: &str, node: &str, secret: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "a", "name": name},
            "spec": {"nodeName": node, "volumes": [{"name": "v", "secret": {"secretName": secret}}]}})
    }

    fn item(pod: &Value) -> Arc<Item> {
        Arc::new(Item { object: Arc::new(Object::from_value(pod).unwrap()), fields: Vec::new() })
    }

    fn change(view: &mut View, pod: &Value, revision: i64, deleted: bool) {
        let key = format!("a/{}", pod["metadata"]["name"].as_str().unwrap());
        view.apply(Change::new(key, Revision(revision), item(pod), None, deleted));
    }

    #[test]
    fn what_a_pod_refers_to() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "s1"}},
                {"name": "b", "projected": {"sources": [{"configMap": {"name": "c1"}}, {"secret": {"name": "s2"}}]}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "pvc"}},
                {"name": "d", "ephemeral": {}},
                {"name": "e", "csi": {"nodePublishSecretRef": {"name": "s4"}}},
            ],
            "ephemeralContainers": [{"name": "d", "envFrom": [{"configMapRef": {"name": "c3"}}]}],
            "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "c2"}}],
                "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}}]}],
        }});
        let found: BTreeSet<String> = references(&pod).map(|(resource, name)| format!("{resource}/{name}")).collect();
        let expected = [
            "configmaps/c1",
            "configmaps/c2",
            "configmaps/c3",
            "persistentvolumeclaims/p-d",
            "persistentvolumeclaims/pvc",
            "secrets/pull",
            "secrets/s1",
            "secrets/s2",
            "secrets/s3",
            "secrets/s4",
            "serviceaccounts/sa",
        ];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_graph_follows_the_pods() {
        let listed = OrdMap::from_iter([("a/x".to_owned(), item(&pod("x", "n1", "s")))]);
        let mut view = View::listed(Revision(5), listed);
        let mut graph = Graph::default();
        graph.update(&view);
        let has_path = |graph: &Graph, name: &str, node: &str| graph.has_path("secrets", "a", name, node);
        assert!(has_path(&graph, "s", "n1") && !has_path(&graph, "s", "n2") && !has_path(&graph, "t", "n1"));
        assert!(!graph.has_path("secrets", "b", "s", "n1"), "in another namespace");
        assert!(graph.has_path("pods", "a", "x", "n1") && !graph.has_path("pods", "a", "x", "n2"));

        change(&mut view, &pod("y", "n1", "s"), 6, false);
        change(&mut view, &pod("z", "", "t"), 7, false);
        change(&mut view, &pod("x", "n1", "s"), 8, true);
        graph.update(&view);
        assert!(has_path(&graph, "s", "n1"), "another pod still refers to it");
        assert!(!has_path(&graph, "t", ""), "a pod without a node connects nothing");
        change(&mut view, &pod("z", "n2", "t"), 9, false);
        change(&mut view, &pod("y", "n1", "s"), 10, true);
        graph.update(&view);
        assert!(has_path(&graph, "t", "n2") && !has_path(&graph, "s", "n1"));

        let mut behind = Graph::default();
        behind.update(&view);
        assert_eq!(behind.nodes, graph.nodes, "all at once it is the same");
        graph.update(&View::listed(Revision(3), OrdMap::new()));
        assert!(has_path(&graph, "t", "n2"), "an older view tells nothing new");
    }

    #[test]
    fn a_mirror_pod_gives_its_node_nothing() {
        let mut mirror = pod("m", "n1", "s");
        mirror["metadata"]["annotations"] = json!({MIRROR: "x"});
        let mut view = View::listed(Revision(1), OrdMap::new());
        change(&mut view, &mirror, 2, false);
        let mut graph = Graph::default();
        graph.update(&view);
        assert!(graph.has_path("pods", "a", "m", "n1"));
        assert!(!graph.has_path("secrets", "a", "s", "n1"));
    }
}
