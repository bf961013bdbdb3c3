//! What an agent can do with its identity, tried as one that somebody has taken over would.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Caller, Cluster, config_map, pod, run, target};
use crate::apiserver::User;
use crate::kube::client::{DeleteOptions, ListOptions, Verb, WatchOptions};
use crate::kube::status::Status;

/// An administrator, and the agents of n1 and n2 with a Node each.
struct Scene {
    admin: Caller,
    n1: Caller,
    n2: Caller,
}

impl Scene {
    async fn new(cluster: &Cluster) -> Scene {
        let frontend = cluster.frontend().await;
        let as_user = |user: User| Caller(frontend.transport(user));
        let scene = Scene {
            admin: as_user(User::master("admin")),
            n1: as_user(User::node("n1")),
            n2: as_user(User::node("n2")),
        };
        scene.admin.namespace("a").await;
        scene.n1.create("nodes", json!({"metadata": {"name": "n1"}})).await.unwrap();
        scene.n2.create("nodes", json!({"metadata": {"name": "n2"}})).await.unwrap();
        for name in ["mine", "theirs"] {
            let secret = json!({"metadata": {"name": name}, "stringData": {"x": "y"}});
            scene.admin.create("secrets/a", secret).await.unwrap();
            scene.admin.create("configmaps/a", config_map(name)).await.unwrap();
        }
        scene
    }

    /// A pod on a node that refers to the secret and the config map of this name.
    async fn pod_on(&self, node: &str, name: &str, refers: &str) -> Value {
        let mut pod = pod(name);
        pod["spec"]["nodeName"] = json!(node);
        pod["spec"]["volumes"] = json!([
            {"name": "s", "secret": {"secretName": refers}},
            {"name": "c", "configMap": {"name": refers}},
        ]);
        self.admin.create("pods/a", pod).await.unwrap()
    }

    /// A mirror pod as an agent makes it.
    async fn mirror(&self, name: &str) -> Value {
        let uid = self.admin.get("nodes//n1").await.unwrap()["metadata"]["uid"].clone();
        let mut mirror = pod(name);
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        mirror["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true}]);
        mirror["spec"]["nodeName"] = json!("n1");
        mirror
    }
}

fn forbidden<T: std::fmt::Debug>(outcome: Result<T, Status>, why: &str) {
    let refused = outcome.expect_err(why);
    assert!(refused.code == 403 && refused.message.contains(why), "{why}: {refused:?}");
}

#[test]
fn an_agent_reads_what_its_pods_refer_to_and_nothing_else() {
    run(async |cluster| {
        let scene = Scene::new(cluster).await;
        scene.pod_on("n1", "p", "mine").await;
        scene.pod_on("n2", "q", "theirs").await;
        for kind in ["secrets", "configmaps"] {
            scene.n1.get(&format!("{kind}/a/mine")).await.unwrap();
            forbidden(scene.n1.get(&format!("{kind}/a/theirs")).await, "cannot get resource");
            forbidden(scene.n1.list(&format!("{kind}/a"), ListOptions::default()).await, "cannot list resource");
        }
        scene.n1.get("pods/a/p").await.unwrap();
        forbidden(scene.n1.get("pods/a/q").await, "cannot get resource");
        forbidden(scene.n1.list("pods", ListOptions::default()).await, "cannot list resource");
        let of = |node: &str| ListOptions {
            field_selector: Some(format!("spec.nodeName={node}")),
            ..ListOptions::default()
        };
        assert_eq!(scene.n1.list("pods", of("n1")).await.unwrap().items.len(), 1);
        forbidden(scene.n1.list("pods", of("n2")).await, "cannot list resource");
        let watched = scene.n1.0.watch(target("pods"), WatchOptions::default()).await;
        forbidden(watched.map(|_| ()), "cannot watch resource");
        forbidden(scene.n1.get("nodes//n2").await, "cannot get resource");
        forbidden(scene.n1.list("nodes", ListOptions::default()).await, "cannot list resource");

        // With the pod goes what it gave.
        let now = DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
        scene.admin.object("pods/a/p", Verb::Delete(now)).await.unwrap();
        let limit = cluster.world.clock.now() + Duration::from_secs(30);
        while scene.n1.get("secrets/a/mine").await.is_ok() {
            assert!(cluster.world.clock.now() < limit, "the pod is gone, and its node still reads the secret");
            cluster.world.clock.sleep(Duration::from_millis(50)).await;
        }
        forbidden(scene.n1.get("secrets/a/mine").await, "cannot get resource");
    });
}

#[test]
fn a_mirror_pod_refers_to_nothing() {
    run(async |cluster| {
        let scene = Scene::new(cluster).await;
        let plain = scene.mirror("plain").await;
        scene.n1.create("pods/a", plain.clone()).await.unwrap();
        let with = |field: &str, value: Value| {
            let mut mirror = plain.clone();
            mirror["metadata"]["name"] = json!("m");
            mirror["spec"][field] = value;
            mirror
        };
        let volume = |source: Value| {
            let mut volume = json!({"name": "v"});
            volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
            with("volumes", json!([volume]))
        };
        let env = |from: Value| with("containers", json!([{"name": "c", "image": "i", "envFrom": [from]}]));
        for (mirror, why) in [
            (volume(json!({"secret": {"secretName": "theirs"}})), "secrets"),
            (env(json!({"secretRef": {"name": "theirs"}})), "secrets"),
            (with("imagePullSecrets", json!([{"name": "theirs"}])), "secrets"),
            (volume(json!({"configMap": {"name": "theirs"}})), "configmaps"),
            (env(json!({"configMapRef": {"name": "theirs"}})), "configmaps"),
            (volume(json!({"persistentVolumeClaim": {"claimName": "c"}})), "persistentvolumeclaims"),
            (with("serviceAccountName", json!("default")), "service account"),
            (
                volume(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})),
                "service account token",
            ),
        ] {
            forbidden(scene.n1.create("pods/a", mirror).await, why);
        }
        let mut pods = vec![(pod("p"), "can only create mirror pods")];
        let changed = |pointer: &str, value: Value| {
            let mut mirror = with("hostNetwork", json!(true));
            *mirror.pointer_mut(pointer).unwrap() = value;
            mirror
        };
        pods.push((changed("/spec/nodeName", json!("n2")), "spec.nodeName set to itself"));
        pods.push((changed("/metadata/ownerReferences", json!([])), "with an owner reference set to itself"));
        pods.push((changed("/metadata/ownerReferences/0/name", json!("n2")), "an owner reference set to itself"));
        pods.push((changed("/metadata/ownerReferences/0/uid", json!("other")), "UID mismatch"));
        pods.push((changed("/metadata/ownerReferences/0/controller", json!(false)), "controller owner reference"));
        for (pod, why) in pods {
            forbidden(scene.n1.create("pods/a", pod).await, why);
        }
        // Nor does somebody else make one that has an account's rights.
        let mirror = with("serviceAccountName", json!("default"));
        forbidden(scene.admin.create("pods/a", mirror).await, "a mirror pod may not reference service accounts");
    });
}

#[test]
fn an_agent_gets_tokens_for_its_own_pods_only() {
    run(async |cluster| {
        let scene = Scene::new(cluster).await;
        scene.admin.create("serviceaccounts/a", json!({"metadata": {"name": "rich"}})).await.unwrap();
        let mut own = pod("p");
        own["spec"]["nodeName"] = json!("n1");
        own["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [
            {"serviceAccountToken": {"path": "v", "audience": "vault", "expirationSeconds": 7200}},
        ]}}]);
        let own = scene.admin.create("pods/a", own).await.unwrap();
        let theirs = scene.pod_on("n2", "q", "theirs").await;
        let request = |pod: &Value, spec: Value| {
            let meta = &pod["metadata"];
            let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]});
            let mut request = json!({"spec": spec});
            request["spec"]["boundObjectRef"] = bound;
            request
        };
        let path = "serviceaccounts/a/default/token";
        let token = scene.n1.create(path, request(&own, json!({"expirationSeconds": 3607}))).await.unwrap();
        assert!(token["status"]["token"].is_string());
        let vault = json!({"audiences": ["vault"], "expirationSeconds": 7200});
        scene.n1.create(path, request(&own, vault)).await.unwrap();

        let years = json!({"audiences": ["vault"], "expirationSeconds": 10 * 365 * 24 * 3600});
        let token = scene.n1.create(path, request(&own, years)).await.unwrap();
        assert_eq!(token["spec"]["expirationSeconds"], 7200, "as long as the pod's volume says");

        for (request, why) in [
            (json!({"spec": {}}), "not bound to a pod"),
            (
                json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "mine"}}}),
                "not bound to a pod",
            ),
            (json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}}}), "without a uid"),
            (request(&theirs, json!({})), "scheduled on a different node"),
            (request(&own, json!({"audiences": ["bank"]})), "audience \"bank\" not found in pod spec volume"),
            (request(&own, json!({"audiences": ["vault", ""]})), "0 or 1 audiences"),
        ] {
            forbidden(scene.n1.create(path, request).await, why);
        }
        let mut gone = request(&own, json!({}));
        gone["spec"]["boundObjectRef"]["uid"] = json!("other");
        forbidden(scene.n1.create(path, gone).await, "does not match the UID in record");
        forbidden(scene.n1.create("serviceaccounts/a/rich/token", request(&own, json!({}))).await, "cannot create");
    });
}

#[test]
fn an_agent_describes_its_node_but_does_not_say_what_it_is_good_for() {
    run(async |cluster| {
        let scene = Scene::new(cluster).await;
        let taint = json!([{"key": "dedicated", "value": "x", "effect": "NoSchedule"}]);
        scene.admin.merge("nodes//n1", json!({"spec": {"taints": taint}})).await.unwrap();
        scene.n1.merge("nodes//n1", json!({"metadata": {"labels": {"zone": "a"}}})).await.unwrap();
        let hostname = json!({"metadata": {"labels": {"kubernetes.io/hostname": "n1"}}});
        scene.n1.merge("nodes//n1", hostname).await.unwrap();
        scene.n1.merge("nodes//n1/status", json!({"status": {"phase": "Running"}})).await.unwrap();
        let label = |label: &str| json!({"metadata": {"labels": {label: "x"}}});
        for (patch, why) in [
            (json!({"spec": {"taints": null}}), "modify taints"),
            (label("node-restriction.kubernetes.io/trusted"), "modify labels: node-restriction"),
            (label("node-role.kubernetes.io/control-plane"), "modify labels: node-role"),
            (
                json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x"}]}}),
                "modify ownerReferences",
            ),
        ] {
            forbidden(scene.n1.merge("nodes//n1", patch).await, why);
        }
        forbidden(scene.n1.merge("nodes//n2", label("zone")).await, "not allowed to modify node \"n2\"");
        forbidden(scene.n1.merge("nodes//n2/status", json!({"status": {}})).await, "not allowed to modify node");
        forbidden(scene.n1.delete("nodes//n1").await, "cannot delete resource");
        let node = json!({"metadata": {"name": "n3"}});
        forbidden(scene.n1.create("nodes", node).await, "not allowed to modify node \"n3\"");
        scene.admin.delete("nodes//n1").await.unwrap();
        let node = json!({"metadata": {"name": "n1", "labels": {"node-restriction.kubernetes.io/x": "y"}}});
        forbidden(scene.n1.create("nodes", node).await, "set the following labels");

        let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {"holderIdentity": name}});
        let leases = "coordination.k8s.io:leases";
        scene.n1.create(&format!("{leases}/kube-node-lease"), lease("n1")).await.unwrap();
        let other = scene.n1.create(&format!("{leases}/kube-node-lease"), lease("n2")).await;
        forbidden(other, "same name as the requesting node");
        forbidden(scene.n1.create(&format!("{leases}/kube-system"), lease("n1")).await, "cannot create resource");
        forbidden(scene.n1.get(&format!("{leases}/kube-node-lease/n2")).await, "cannot get resource");
    });
}

#[test]
fn an_agent_writes_the_status_of_its_own_pods_only() {
    run(async |cluster| {
        let scene = Scene::new(cluster).await;
        scene.pod_on("n1", "p", "mine").await;
        let status = json!({"status": {"phase": "Running"}});
        scene.n1.merge("pods/a/p/status", status.clone()).await.unwrap();
        forbidden(scene.n2.merge("pods/a/p/status", status).await, "spec.nodeName set to itself");
        forbidden(scene.n1.merge("pods/a/p", json!({"metadata": {"labels": {"x": "y"}}})).await, "cannot patch");
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
        forbidden(scene.n2.create("pods/a/p/eviction", eviction.clone()).await, "can only evict pods");
        forbidden(scene.n2.delete("pods/a/p").await, "can only delete pods");
        let binding = json!({"target": {"kind": "Node", "name": "n1"}});
        forbidden(scene.n1.create("pods/a/p/binding", binding).await, "cannot create");
        scene.n1.create("pods/a/p/eviction", eviction).await.unwrap();
    });
}
