//! kubectl against hollow nodes: everything but the containers is real.

use libtest_mimic::Failed;

use crate::cluster::{TestCluster, eventually};

const CONTROLLER: &str = r#"
apiVersion: v1
kind: ReplicationController
metadata: {name: www}
spec:
  replicas: 3
  selector: {name: nginx}
  template:
    metadata: {labels: {name: nginx}}
    spec:
      containers:
      - name: nginx
        image: nginx
        ports: [{containerPort: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: www}
spec:
  selector: {name: nginx}
  ports: [{port: 80}]
"#;

pub fn kubectl_works() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    let nodes = cluster.kubectl_ok(&["get", "nodes"]);
    assert_eq!(nodes.lines().filter(|line| line.contains(" Ready ")).count(), 3, "{nodes}");
    assert!(cluster.apply(CONTROLLER).ok);
    cluster.kubectl_ok(&["wait", "--for=condition=Ready", "pod", "-l", "name=nginx", "--timeout=60s"]);
    let pods = cluster.kubectl_ok(&["get", "pods", "-o", "wide"]);
    assert_eq!(pods.lines().filter(|line| line.contains("1/1") && line.contains("Running")).count(), 3, "{pods}");
    for node in ["n1", "n2", "n3"] {
        assert!(pods.contains(node), "a pod on every node: {pods}");
    }
    assert_eq!(endpoints(&cluster).len(), 3);
    let described = cluster.kubectl_ok(&["describe", "rc", "www"]);
    assert!(described.contains("SuccessfulCreate"), "{described}");

    cluster.kubectl_ok(&["scale", "rc", "www", "--replicas=5"]);
    eventually("five endpoints", || (endpoints(&cluster).len() == 5).then_some(()));
    cluster.kubectl_ok(&["label", "rc", "www", "tier=front"]);
    cluster.kubectl_ok(&["annotate", "service", "www", "note=hello"]);
    let labelled = cluster.kubectl_ok(&["get", "rc", "-l", "tier=front", "-o", "name"]);
    assert_eq!(labelled.trim(), "replicationcontroller/www");

    let pod = cluster.kubectl_ok(&["get", "pods", "-o", "name"]).lines().next().expect("a pod").to_owned();
    cluster.kubectl_ok(&["delete", &pod, "--wait=false"]);
    eventually("the deleted pod is replaced", || {
        let pods = cluster.kubectl_ok(&["get", "pods", "-o", "name"]);
        (!pods.contains(&pod) && pods.lines().count() == 5).then_some(())
    });
    // What one frontend wrote, another shows.
    let said = cluster.kubectl_at("n2", &["get", "rc", "www", "-o", "jsonpath={.spec.replicas}"]);
    assert_eq!(said.out, "5", "{said:?}");
    cluster.kubectl_ok(&["delete", "rc,service", "www"]);
    eventually("nothing is left of it", || cluster.kubectl_ok(&["get", "pods", "-o", "name"]).is_empty().then_some(()));
    Ok(())
}

pub fn a_deployment_rolls_out() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    let manifest = |image: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: 3\n  \
             selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    \
             spec: {{containers: [{{name: web, image: \"{image}\"}}]}}\n"
        )
    };
    for image in ["web:1", "web:2"] {
        let said = cluster.apply(&manifest(image));
        assert!(said.ok, "{said:?}");
        let rolled = cluster.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=80s"]);
        assert!(rolled.contains("successfully rolled out"), "{rolled}");
    }
    let images =
        cluster.kubectl_ok(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.containers[0].image}"]);
    assert!(images.split_whitespace().filter(|image| *image == "web:2").count() >= 3, "{images}");
    cluster.kubectl_ok(&["delete", "deployment", "web"]);
    eventually("its pods are collected", || {
        cluster.kubectl_ok(&["get", "rs,pods", "-o", "name"]).is_empty().then_some(())
    });
    Ok(())
}

pub fn what_others_wrote_is_out_of_reach() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    let list = "apiVersion: v1\nkind: List\nitems:\n\
         - {apiVersion: v1, kind: Namespace, metadata: {name: zz, labels: {pod-security.kubernetes.io/enforce: restricted}}}\n\
         - {apiVersion: v1, kind: Namespace, metadata: {name: na}}\n\
         - {apiVersion: v1, kind: Secret, metadata: {name: s, namespace: na}, stringData: {k: v}}\n\
         - {apiVersion: v1, kind: Secret, metadata: {name: s, namespace: zz}, stringData: {k: v}}\n";
    let said = cluster.apply(list);
    assert!(said.ok && said.err.contains("does not enforce yet"), "{said:?}");
    let binding = |kind: &str, name: &str, role: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: zz}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}\n\
             subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: eve}}]\n"
        )
    };
    assert!(cluster.apply(&binding("RoleBinding", "admin", "admin")).ok);
    let eve = |arguments: &[&str]| cluster.kubectl(&[&["--as=eve"][..], arguments].concat());
    eventually("eve has her rights", || eve(&["get", "secrets", "-n", "zz"]).ok.then_some(()));
    let revision = cluster.kubectl_ok(&["get", "--raw", "/api/v1/namespaces/zz/secrets?limit=1"]);
    let revision: i64 = revision
        .split("\"resourceVersion\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next()?.parse().ok())
        .expect("a list tells its revision");
    let token = base64(&format!("{{\"v\":\"meta.k8s.io/v1\",\"rv\":{},\"start\":\"na/\"}}", revision - 1));
    for path in [
        format!("/api/v1/namespaces/zz/secrets?limit=50&continue={token}"),
        "/api/v1/namespaces/na/secrets".to_owned(),
        "/api/v1/namespaces/zz/nodes".to_owned(),
        "/api/v1/namespaces/zz/secrets/..%2fna%2fs".to_owned(),
    ] {
        let said = eve(&["get", "--raw", &path]);
        assert!(!said.ok && !said.out.contains("\"data\""), "{path}: {said:?}");
    }
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: all, namespace: zz}\n\
         rules: [{apiGroups: [\"*\"], resources: [\"*\"], verbs: [\"*\"]}]\n";
    for grant in [
        role.to_owned(),
        binding("RoleBinding", "all", "cluster-admin"),
        binding("ClusterRoleBinding", "all", "cluster-admin").replace(", namespace: zz", ""),
    ] {
        let manifest = cluster.path().join("grant.yaml");
        std::fs::write(&manifest, &grant).unwrap();
        let said = eve(&["create", "-f", manifest.to_str().unwrap()]);
        assert!(!said.ok && said.err.contains("forbidden"), "{grant}: {said:?}");
    }
    let said = cluster.kubectl(&["--as=eve", "--as-group=system:masters", "get", "nodes"]);
    assert!(said.ok, "an administrator acts for anybody: {said:?}");
    let own = eve(&["get", "secrets", "-n", "zz", "-o", "name"]);
    assert_eq!(own.out.trim(), "secret/s", "{own:?}");
    Ok(())
}

/// Base64 for URLs.
fn base64(text: &str) -> String {
    use ::base64::Engine;
    ::base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

pub fn what_does_not_fit_waits() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    let pod = |name: &str, memory: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - name: c\n    image: i\n    \
             resources: {{requests: {{memory: {memory}}}}}\n"
        )
    };
    assert!(cluster.apply(&pod("huge", "900Ti")).ok);
    let message = "0/3 nodes are available: 3 Insufficient memory.";
    eventually("the scheduler says why", || cluster.kubectl_ok(&["get", "events"]).contains(message).then_some(()));
    assert_eq!(cluster.kubectl_ok(&["get", "pod", "huge", "-o", "jsonpath={.status.phase}"]), "Pending");
    Ok(())
}

pub fn a_lost_node_is_replaced() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    assert!(cluster.apply(CONTROLLER).ok);
    eventually("three endpoints", || (endpoints(&cluster).len() == 3).then_some(()));
    // kubectl's first context is n1's frontend: lose another node.
    let lost = if cluster.leader() == "n1" { "n2".to_owned() } else { cluster.leader() };
    let node = lost.as_str();
    assert!(cluster.chorus(&["kill", node]).ok);
    eventually("the node is not ready", || {
        let nodes = cluster.kubectl(&["get", "node", node]).out;
        nodes.contains("NotReady").then_some(())
    });
    eventually("its pods run elsewhere, and the endpoints follow", || {
        let pods = cluster.kubectl(&["get", "pods", "-o", "jsonpath={range .items[*]}{.spec.nodeName} {.status.phase} {.metadata.deletionTimestamp}{\"\\n\"}{end}"]).out;
        let running =
            pods.lines().filter(|line| line.trim_end().ends_with("Running") && !line.starts_with(node)).count();
        (running == 3 && endpoints(&cluster).len() == 3).then_some(())
    });
    assert!(cluster.chorus(&["start", node]).ok);
    eventually("three nodes are ready again, and no pod is left over", || {
        let nodes = cluster.kubectl(&["get", "nodes"]).out;
        let pods = cluster.kubectl(&["get", "pods", "-o", "name"]).out;
        (nodes.matches(" Ready ").count() == 3 && pods.lines().count() == 3).then_some(())
    });
    Ok(())
}

/// The addresses behind the service `www`.
fn endpoints(cluster: &TestCluster) -> Vec<String> {
    let said = cluster.kubectl(&["get", "endpoints", "www", "-o", "jsonpath={.subsets[*].addresses[*].ip}"]);
    said.out.split_whitespace().map(str::to_owned).collect()
}
