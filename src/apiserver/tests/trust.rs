//! What a client sends back or makes up opens nothing beyond what it was authorized for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Caller, Cluster, config_map, pod, run};
use crate::apiserver::User;
use crate::kube::client::{DeleteOptions, ListOptions, PatchType, Verb, WatchOptions};

const GROUP: &str = "rbac.authorization.k8s.io";

/// A user who may do everything in the namespace `zz`, and nothing elsewhere; and the administrator.
async fn tenant(cluster: &Cluster) -> (Caller, Caller) {
    let frontend = cluster.frontend().await;
    let admin = Caller(frontend.transport(User::master("admin")));
    let tenant = Caller(frontend.transport(User::new("tenant", Vec::<String>::new())));
    for namespace in ["na", "zz"] {
        admin.namespace(namespace).await;
        for name in ["s1", "s2", "s3"] {
            let secret = json!({"metadata": {"name": format!("{name}-{namespace}")}, "stringData": {"k": namespace}});
            admin.create(&format!("secrets/{namespace}"), secret).await.unwrap();
        }
    }
    let role =
        json!({"metadata": {"name": "all"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]});
    admin.create(&format!("{GROUP}:roles/zz"), role).await.unwrap();
    let binding = json!({"metadata": {"name": "all"}, "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "all"},
        "subjects": [{"apiGroup": GROUP, "kind": "User", "name": "tenant"}]});
    admin.create(&format!("{GROUP}:rolebindings/zz"), binding).await.unwrap();
    tenant.until_allowed("secrets/zz").await;
    (admin, tenant)
}

fn page(token: &str) -> ListOptions {
    ListOptions { limit: Some(50), continue_token: Some(token.to_owned()), ..ListOptions::default() }
}

#[test]
fn a_body_is_read_only_of_those_who_may_send_it() {
    run(async |cluster| {
        let frontend = cluster.frontend_on(Some("127.0.0.1:0".to_owned())).await;
        let address = frontend.address().unwrap().to_string();
        let mut stream = cluster.world.net.connect(&address).await.unwrap();
        // The rest of the body never comes.
        let request = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\n\
            Content-Type: application/yaml\r\nContent-Length: 60000\r\n\r\n[";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 403");
    });
}

#[test]
fn a_page_begins_within_the_list_that_was_authorized() {
    run(async |cluster| {
        let (admin, tenant) = tenant(cluster).await;
        let listed = tenant.list("secrets/zz", ListOptions::default()).await.unwrap();
        let revision: i64 = listed.resource_version.parse().unwrap();
        admin.create("configmaps/na", config_map("later")).await.unwrap();
        let made_up = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let first_of = async |path: &str| {
            let options = ListOptions { limit: Some(1), ..ListOptions::default() };
            admin.list(path, options).await.unwrap().continue_token.unwrap()
        };
        let mut tokens = vec![first_of("secrets/na").await, first_of("secrets").await];
        tokens.push(first_of(&format!("{GROUP}:clusterroles")).await);
        for start in ["na/", "na/s1-na\0", "/", "../na/", "zz/../na/"] {
            for rv in [revision - 1, revision, -1] {
                tokens.push(made_up(json!({"v": "meta.k8s.io/v1", "rv": rv, "start": start})));
                let prefix = "/registry/secrets/na/";
                tokens.push(made_up(json!({"v": "meta.k8s.io/v1", "rv": rv, "start": start, "prefix": prefix})));
            }
        }
        for token in tokens {
            let refused = tenant.list("secrets/zz", page(&token)).await.unwrap_err();
            assert_eq!(refused.code, 400, "{refused}");
            let all = Verb::DeleteCollection(page(&token), DeleteOptions::default());
            assert_eq!(tenant.call("secrets/zz", all).await.unwrap_err().code, 400);
        }
        // Whatever start a token names, the page lies in its own list.
        for start in ["na/", "../na/", "s2"] {
            for rv in [revision, -1] {
                let prefix = "/registry/secrets/zz/";
                let token = made_up(json!({"v": "meta.k8s.io/v1", "rv": rv, "start": start, "prefix": prefix}));
                let list = tenant.list("secrets/zz", page(&token)).await.unwrap();
                assert!(list.items.iter().all(|item| item.meta.namespace.as_deref() == Some("zz")), "{start}");
            }
        }
        let options = ListOptions { limit: Some(2), ..ListOptions::default() };
        let first = tenant.list("secrets/zz", options).await.unwrap();
        let second = tenant.list("secrets/zz", page(&first.continue_token.unwrap())).await.unwrap();
        assert_eq!(second.items[0].meta.name, "s3-zz");
        assert_eq!(admin.list("secrets/na", ListOptions::default()).await.unwrap().items.len(), 3);
    });
}

#[test]
fn rights_in_a_namespace_reach_nothing_outside_through_its_path() {
    run(async |cluster| {
        let (admin, tenant) = tenant(cluster).await;
        let node = json!({"metadata": {"name": "n1"}});
        admin.create("nodes", node.clone()).await.unwrap();
        // Kinds without a namespace have no place in one.
        for path in ["nodes/zz/n1", "namespaces/zz/na", &format!("{GROUP}:clusterroles/zz/cluster-admin")] {
            assert_eq!(tenant.get(path).await.unwrap_err().code, 404, "{path}");
            assert_eq!(tenant.delete(path).await.unwrap_err().code, 404, "{path}");
            assert_eq!(tenant.merge(path, json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap_err().code, 404);
        }
        let list = tenant.list("nodes/zz", ListOptions::default()).await;
        assert_eq!(list.unwrap_err().code, 404);
        assert!(tenant.0.watch(super::target("nodes/zz"), WatchOptions::default()).await.is_err());
        assert_eq!(tenant.create("nodes/zz", json!({"metadata": {"name": "n2"}})).await.unwrap_err().code, 404);
        // And a name is one segment of a key.
        for target in [("secrets", None, "na/s1-na"), ("secrets", Some("zz"), "../na/s1-na"), ("nodes", None, "a%2fb")]
        {
            let (resource, namespace, name) = target;
            let target = crate::kube::client::Target {
                namespace: namespace.map(str::to_owned),
                name: Some(name.to_owned()),
                ..super::target(resource)
            };
            let verb = Verb::Get;
            let write = crate::kube::client::WriteOptions::default();
            let refused = admin.0.call(crate::kube::client::Request { target, verb, write }).await.unwrap_err();
            assert!(matches!(refused.code, 400 | 404), "{refused}");
            assert!(!refused.message.contains("not found"), "{refused}");
        }
        // Across namespaces nothing is written.
        let all = Verb::DeleteCollection(ListOptions::default(), DeleteOptions::default());
        assert_eq!(admin.call("secrets", all).await.unwrap_err().code, 405);
    });
}

#[test]
fn the_body_of_a_subresource_is_about_the_object_in_the_path() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        admin.namespace("n").await;
        for name in ["p", "q"] {
            admin.create("pods/n", pod(name)).await.unwrap();
        }
        let binding = |name: &str| json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}});
        assert_eq!(admin.create("pods/n/p/binding", binding("q")).await.unwrap_err().code, 400);
        admin.create("pods/n/p/binding", binding("p")).await.unwrap();
        let eviction = |name: &str, namespace: &str| json!({"metadata": {"name": name, "namespace": namespace}});
        for (name, namespace) in [("q", "n"), ("p", "other")] {
            assert_eq!(admin.create("pods/n/p/eviction", eviction(name, namespace)).await.unwrap_err().code, 400);
        }
        let other_kind = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
        assert_eq!(admin.create("pods/n/p/eviction", other_kind).await.unwrap_err().code, 400);
        // A dry run changes nothing, wherever it is asked for.
        let dry = json!({"metadata": {"name": "p"}, "deleteOptions": {"dryRun": ["All"]}});
        admin.create("pods/n/p/eviction", dry).await.unwrap();
        assert!(admin.get("pods/n/p").await.unwrap()["metadata"]["deletionTimestamp"].is_null());
        admin.create("pods/n/p/eviction", eviction("p", "n")).await.unwrap();
        assert!(admin.get("pods/n/p").await.unwrap()["metadata"]["deletionTimestamp"].is_string());

        let exec = admin.create("pods/n/q/exec", json!({})).await.unwrap_err();
        assert_eq!(exec.message, "pods/exec of \"q\" in the namespace \"n\" is not served");
    });
}

#[test]
fn numbers_without_measure_are_cut() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        admin.namespace("n").await;
        admin.create("pods/n", pod("p")).await.unwrap();
        let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
        admin.create("pods/n/p/binding", binding).await.unwrap();
        let options = DeleteOptions { grace_period_seconds: Some(i64::MAX), ..DeleteOptions::default() };
        admin.call("pods/n/p", Verb::Delete(options)).await.unwrap();
        let ending = admin.get("pods/n/p").await.unwrap();
        assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], i32::MAX);
        assert!(ending["metadata"]["deletionTimestamp"].as_str().is_some_and(|at| !at.is_empty()), "{ending}");
        for timeout_seconds in [0, 1, u64::MAX] {
            let options = WatchOptions { timeout_seconds: Some(timeout_seconds), ..WatchOptions::default() };
            assert_eq!(admin.events("pods/n", options, 1).await, ["ADDED p"]);
        }
    });
}

#[test]
fn server_side_apply_says_that_it_is_not_served() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        admin.create("configmaps/default", config_map("there")).await.unwrap();
        for name in ["there", "missing"] {
            let body = serde_json::to_vec(&config_map(name)).unwrap().into();
            let apply = Verb::Patch { kind: PatchType::Apply, body, force: false };
            let refused = admin.call(&format!("configmaps/default/{name}"), apply).await.unwrap_err();
            assert_eq!(refused.code, 415, "{refused}");
            assert!(refused.message.starts_with("server-side apply is not served: "), "{refused}");
        }
    });
}

#[test]
fn a_put_that_creates_is_a_creation() {
    run(async |cluster| {
        let frontend = cluster.frontend().await;
        let as_user = |user: User| Caller(frontend.transport(user));
        let (admin, alice) = (as_user(User::master("admin")), as_user(User::new("alice", Vec::<String>::new())));
        admin.grant("alice", "default", &["update", "list"], "coordination.k8s.io", "leases").await;
        alice.until_allowed("coordination.k8s.io:leases/default").await;
        let lease = json!({"metadata": {"name": "l", "namespace": "default"}, "spec": {"holderIdentity": "alice"}});
        let refused = alice.update("coordination.k8s.io:leases/default/l", &lease).await.unwrap_err();
        let text = "leases.coordination.k8s.io \"l\" is forbidden: User \"alice\" cannot create resource \"leases\" in \
            API group \"coordination.k8s.io\" in the namespace \"default\"";
        assert_eq!((refused.code, refused.message.as_str()), (403, text));
        let created = admin.update("coordination.k8s.io:leases/default/l", &lease).await.unwrap();
        alice.update("coordination.k8s.io:leases/default/l", &created).await.unwrap();
    });
}

#[test]
fn a_local_review_answers_for_its_own_namespace() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        let review = |namespace: &str| {
            let attributes = json!({"verb": "get", "resource": "pods", "namespace": namespace});
            json!({"spec": {"user": "u", "resourceAttributes": attributes}})
        };
        const LOCAL: &str = "authorization.k8s.io:localsubjectaccessreviews/default";
        const CLUSTER: &str = "authorization.k8s.io:subjectaccessreviews";
        let answered = admin.create(LOCAL, review("default")).await.unwrap();
        assert_eq!(answered["status"]["allowed"], false);
        for namespace in ["kube-system", ""] {
            let refused = admin.create(LOCAL, review(namespace)).await.unwrap_err();
            assert_eq!(refused.code, 422, "{refused}");
            assert!(refused.message.contains("spec.resourceAttributes.namespace: Invalid value"), "{refused}");
        }
        let path = json!({"spec": {"user": "u", "nonResourceAttributes": {"verb": "get", "path": "/metrics"}}});
        assert_eq!(admin.create(LOCAL, path.clone()).await.unwrap_err().code, 422);
        admin.create(CLUSTER, path).await.unwrap();
        let nobody = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
        assert_eq!(admin.create(CLUSTER, nobody).await.unwrap_err().code, 422);
    });
}
