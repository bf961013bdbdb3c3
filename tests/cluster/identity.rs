//! Who trusts whom: every port of a cluster is tried with nobody's certificate, and with somebody else's.

use libtest_mimic::Failed;

use crate::cluster::{TestCluster, eventually, free_ports};

pub fn every_port_asks_who_is_there() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    let address = |field: &str| cluster.address("n1", field);
    let none: Option<u16> = None;

    // Members believe members.
    let peer = format!("https://{}/members", address("peer"));
    assert_eq!(cluster.curl(None, &peer.replace("https:", "http:"), &[]).0, none, "plain text");
    for holder in [None, Some("n1/kubelet-client"), Some("admin"), Some("apiserver-etcd-client")] {
        assert_eq!(cluster.curl(holder, &peer, &[]).0, none, "{holder:?}");
    }
    let (code, members) = cluster.curl(Some("n2/etcd-peer"), &peer, &[]);
    assert_eq!(code, Some(200), "{members}");
    assert!(members.contains(&format!("\"peerURLs\":[\"https://{}\"]", address("peer"))), "{members}");

    // The client port is plain for those on the machine; over TLS it asks for a certificate of those who need none of
    // the API.
    let health = format!("https://{}/health", address("client"));
    assert_eq!(cluster.curl(None, &health.replace("https:", "http:"), &[]).0, Some(200));
    for holder in [None, Some("n1/kubelet-client"), Some("scheduler"), Some("n1/etcd-peer")] {
        assert_eq!(cluster.curl(holder, &health, &[]).0, none, "{holder:?}");
    }
    for holder in ["admin", "apiserver-etcd-client"] {
        assert_eq!(cluster.curl(Some(holder), &health, &[]).0, Some(200), "{holder}");
    }

    // The agent asks the API who may.
    let agent = format!("https://{}/healthz", address("kubelet"));
    assert_eq!(cluster.curl(None, &agent.replace("https:", "http:"), &[]).0, none, "plain text");
    assert_eq!(cluster.curl(None, &agent, &[]).0, Some(401));
    assert_eq!(cluster.curl(None, &agent, &["-H", "Authorization: Bearer nonsense"]).0, Some(401));
    for holder in ["n1/kubelet-client", "n2/kubelet-client", "scheduler", "apiserver-etcd-client"] {
        assert_eq!(cluster.curl(Some(holder), &agent, &[]).0, Some(403), "{holder}");
    }
    for holder in ["apiserver-kubelet-client", "admin"] {
        assert_eq!(cluster.curl(Some(holder), &agent, &[]).0, Some(200), "{holder}");
    }
    let bearer = format!("Authorization: Bearer {}", token(&cluster));
    assert_eq!(cluster.curl(None, &agent, &["-H", &bearer]).0, Some(403), "an account without rights");
    assert!(cluster.apply(&scraper()).ok);
    eventually("an account with nodes/proxy is let in", || {
        (cluster.curl(None, &agent, &["-H", &bearer]).0 == Some(200)).then_some(())
    });
    logs_come_from_the_right_agent(&cluster);
    Ok(())
}

/// A token of the account `default`.
fn token(cluster: &TestCluster) -> String {
    let path = "api/v1/namespaces/default/serviceaccounts/default/token";
    let url = format!("https://{}/{path}", cluster.address("n1", "api"));
    let (code, body) =
        cluster.curl(Some("admin"), &url, &["-H", "Content-Type: application/json", "-d", "{\"spec\":{}}"]);
    assert_eq!(code, Some(201), "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("a TokenRequest");
    answer["status"]["token"].as_str().expect("a token").to_owned()
}

/// The right to use every agent, for the account `default`.
fn scraper() -> String {
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: scraper}\nroleRef: {apiGroup: \
     rbac.authorization.k8s.io, kind: ClusterRole, name: \"system:kubelet-api-admin\"}\nsubjects:\n- {kind: \
     ServiceAccount, name: default, namespace: default}\n"
        .to_owned()
}

/// A node that says in its status that it listens where another one does is not believed.
fn logs_come_from_the_right_agent(cluster: &TestCluster) {
    let manifest =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeName: n1, containers: [{name: c, image: i}]}\n";
    assert!(cluster.apply(manifest).ok);
    cluster.kubectl_ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
    cluster.kubectl_ok(&["logs", "p"]);
    let port = |node: &str| cluster.address(node, "kubelet").rsplit_once(':').unwrap().1.to_owned();
    // The agent puts it right within seconds, so that this is tried again.
    let refused = eventually("a foreign certificate is seen", || {
        let patch =
            format!("{{\"status\":{{\"daemonEndpoints\":{{\"kubeletEndpoint\":{{\"Port\":{}}}}}}}}}", port("n2"));
        cluster.kubectl_ok(&["patch", "node", "n1", "--subresource=status", "--type=merge", "-p", &patch]);
        let said = cluster.kubectl(&["logs", "p"]);
        (!said.ok).then_some(said.err)
    });
    assert!(refused.contains("certificate"), "{refused}");
}

pub fn components_apart() -> Result<(), Failed> {
    let ports = free_ports(6);
    let address = |at: usize| format!("\"127.0.0.1:{}\"", ports[at]);
    let text = format!(
        "name = \"test\"\n[tls]\nclient = \"mutual\"\n[kubernetes]\nleader-lease-s = 4\n\
         [[node]]\nname = \"s1\"\nroles = [\"store\"]\nclient = {}\npeer = {}\n\
         [[node]]\nname = \"f1\"\nroles = [\"apiserver\"]\napi = {}\n\
         [[node]]\nname = \"c1\"\nroles = [\"controllers\", \"scheduler\"]\n\
         [[node]]\nname = \"w1\"\nroles = [\"agent\"]\nkubelet = {}\n\
         [[node]]\nname = \"w2\"\nroles = [\"agent\"]\nkubelet = {}\n",
        address(0),
        address(1),
        address(2),
        address(3),
        address(4),
    );
    let cluster = TestCluster::configured(&text, vec![format!("127.0.0.1:{}", ports[0])]);
    cluster.up("hollow");
    let health = format!("https://{}/health", cluster.address("s1", "client"));
    assert_eq!(cluster.curl(None, &health.replace("https:", "http:"), &[]).0, None, "the configuration says TLS");
    assert_eq!(cluster.curl(Some("admin"), &health, &[]).0, Some(200));
    let manifest = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: a}\nspec:\n  replicas: 2\n  \
                    selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: \
                    {containers: [{name: web, image: i}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web, \
                    namespace: a}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n";
    assert!(cluster.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n").ok);
    assert!(cluster.apply(manifest).ok);
    cluster.kubectl_ok(&["-n", "a", "rollout", "status", "deployment/web", "--timeout=80s"]);
    eventually("two endpoints", || {
        let field = "jsonpath={.subsets[*].addresses[*].ip}";
        let said = cluster.kubectl(&["-n", "a", "get", "endpoints", "web", "-o", field]);
        (said.out.split_whitespace().count() == 2).then_some(())
    });
    cluster.kubectl_ok(&["-n", "a", "logs", "deployment/web"]);
    let accounts = cluster.kubectl_ok(&["-n", "kube-system", "get", "serviceaccounts", "-o", "name"]);
    for account in ["deployment-controller", "replicaset-controller", "endpoint-controller"] {
        assert!(accounts.contains(account), "{accounts}");
    }

    let api = |path: &str| format!("https://{}{path}", cluster.address("f1", "api"));
    let as_node = |path: &str| cluster.curl(Some("w1/kubelet-client"), &api(path), &[]).0;
    assert_eq!(as_node("/api/v1/nodes/w1"), Some(200));
    assert_eq!(as_node("/api/v1/pods?fieldSelector=spec.nodeName%3Dw1"), Some(200));
    for path in ["/api/v1/nodes/w2", "/api/v1/pods", "/api/v1/secrets", "/api/v1/namespaces/a/secrets"] {
        assert_eq!(as_node(path), Some(403), "{path}");
    }
    let scheduler = cluster.curl(Some("scheduler"), &api("/api/v1/secrets"), &[]).0;
    assert_eq!(scheduler, Some(403), "the scheduler is no administrator");
    cluster.kubectl_ok(&["delete", "namespace", "a", "--timeout=60s"]);
    Ok(())
}

pub fn a_plain_cluster_goes_on() -> Result<(), Failed> {
    let cluster = TestCluster::prepare_with("[tls]\npeer = \"plain\"\nclient = \"plain\"\n");
    cluster.up("hollow");
    assert!(cluster.etcdctl(&cluster.clients[0], &["put", "greeting", "hello"]).ok);
    let peer = format!("http://{}/members", cluster.address("n1", "peer"));
    assert_eq!(cluster.curl(None, &peer, &[]).0, Some(200), "the configuration says so");
    assert!(cluster.chorus(&["down"]).ok);

    // As an earlier release left it: nothing was said of TLS, and nothing kept.
    for node in ["n1", "n2", "n3"] {
        std::fs::remove_file(cluster.data_dir().join(node).join("peer-scheme"))?;
    }
    let stored = cluster.data_dir().join("cluster.toml");
    for file in [&stored, &cluster.path().join("test.toml")] {
        let text = std::fs::read_to_string(file)?;
        let mut config: toml::Table = text.parse()?;
        config.remove("tls");
        std::fs::write(file, toml::to_string(&config)?)?;
    }
    cluster.up("hollow");
    let said = cluster.etcdctl(&cluster.clients[1], &["get", "greeting"]);
    assert!(said.out.contains("hello"), "{said:?}");
    assert_eq!(cluster.curl(None, &peer, &[]).0, Some(200), "its members still find each other");
    let log = std::fs::read_to_string(cluster.data_dir().join("n1/node.log"))?;
    assert!(log.contains("reach each other without TLS"), "{log}");
    Ok(())
}
