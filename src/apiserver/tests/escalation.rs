//! Nobody grants what they do not hold.

use serde_json::{Value, json};

use super::{Caller, run};
use crate::apiserver::{Frontend, User};
use crate::kube::status::Status;

const GROUP: &str = "rbac.authorization.k8s.io";
const CLUSTER_ROLES: &str = "rbac.authorization.k8s.io:clusterroles";
const CLUSTER_BINDINGS: &str = "rbac.authorization.k8s.io:clusterrolebindings";

fn user(frontend: &Frontend, name: &str) -> Caller {
    Caller(frontend.transport(User::new(name, Vec::<String>::new())))
}

fn role(name: &str, rules: Value) -> Value {
    json!({"metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({"metadata": {"name": name}, "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
        "subjects": [{"apiGroup": GROUP, "kind": "User", "name": user}]})
}

/// A rule of RBAC for one verb on one of its resources, of one name or any.
fn right(verb: &str, resource: &str, name: Option<&str>) -> Value {
    json!([{"verbs": [verb], "apiGroups": [GROUP], "resources": [resource], "resourceNames": Vec::from_iter(name)}])
}

fn everything() -> Value {
    json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}])
}

fn refused(result: Result<Value, Status>, with: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code, 403, "{status}");
    assert!(status.message.contains(with), "{status}");
}

const NOT_HELD: &str = concat!(
    "is attempting to grant RBAC permissions not currently held:\n",
    "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}",
);

#[test]
fn who_may_write_bindings_does_not_become_administrator() {
    run(async |cluster| {
        let frontend = cluster.frontend().await;
        let (admin, eve) = (Caller(frontend.transport(User::master("admin"))), user(&frontend, "eve"));
        admin.grant_everywhere("eve", &["create", "update", "patch", "list"], GROUP, "clusterrolebindings").await;
        eve.until_allowed(CLUSTER_BINDINGS).await;
        refused(
            eve.create(CLUSTER_BINDINGS, binding("x", "ClusterRole", "cluster-admin", "eve")).await,
            "\"x\" is forbidden: user \"eve\" (groups=[\"system:authenticated\"]) is attempting",
        );
        // Nor by joining a binding that is there.
        let subjects = json!({"subjects": [{"apiGroup": GROUP, "kind": "User", "name": "eve"}]});
        refused(eve.merge(&format!("{CLUSTER_BINDINGS}//cluster-admin"), subjects).await, NOT_HELD);
        let stored = admin.get(&format!("{CLUSTER_BINDINGS}//cluster-admin")).await.unwrap();
        refused(
            eve.update(&format!("{CLUSTER_BINDINGS}//x"), &binding("x", "ClusterRole", "cluster-admin", "eve")).await,
            NOT_HELD,
        );
        assert_eq!(stored["subjects"].as_array().map(Vec::len), Some(1));
        // What she holds she may give; a role that is not there gives nothing.
        let list = role("bindings", right("list", "clusterrolebindings", None));
        admin.create(CLUSTER_ROLES, list).await.unwrap();
        eve.create(CLUSTER_BINDINGS, binding("own", "ClusterRole", "bindings", "bob")).await.unwrap();
        let missing = eve.create(CLUSTER_BINDINGS, binding("y", "ClusterRole", "nothing", "eve")).await.unwrap_err();
        assert_eq!(missing.message, "clusterroles.rbac.authorization.k8s.io \"nothing\" not found");
        // `bind` is a right of its own, for the roles it names.
        let binder = role("binder", right("bind", "clusterroles", Some("view")));
        admin.create(CLUSTER_ROLES, binder).await.unwrap();
        admin.create(CLUSTER_BINDINGS, binding("binder", "ClusterRole", "binder", "eve")).await.unwrap();
        eve.create(CLUSTER_BINDINGS, binding("v", "ClusterRole", "view", "bob")).await.unwrap();
        refused(eve.create(CLUSTER_BINDINGS, binding("e", "ClusterRole", "edit", "bob")).await, "not currently held");
    });
}

#[test]
fn the_administrator_of_a_namespace_makes_no_role_beyond_her_own() {
    run(async |cluster| {
        let frontend = cluster.frontend().await;
        let (admin, eve) = (Caller(frontend.transport(User::master("admin"))), user(&frontend, "eve"));
        admin.namespace("zz").await;
        let (roles, bindings) = (format!("{GROUP}:roles/zz"), format!("{GROUP}:rolebindings/zz"));
        admin.create(&bindings, binding("admin", "ClusterRole", "admin", "eve")).await.unwrap();
        eve.until_allowed("pods/zz").await;
        refused(eve.create(&roles, role("all", everything())).await, NOT_HELD);
        let pods = json!([{"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]}]);
        eve.create(&roles, role("pods", pods)).await.unwrap();
        refused(eve.merge(&format!("{roles}/pods"), json!({"rules": everything()})).await, NOT_HELD);
        refused(eve.update(&format!("{roles}/new"), &role("new", everything())).await, NOT_HELD);
        eve.create(&bindings, binding("pods", "Role", "pods", "bob")).await.unwrap();
        eve.create(&bindings, binding("edit", "ClusterRole", "edit", "bob")).await.unwrap();
        refused(
            eve.create(&bindings, binding("all", "ClusterRole", "cluster-admin", "eve")).await,
            "not currently held",
        );
        // Rights elsewhere count for nothing here.
        assert_eq!(eve.create(&format!("{GROUP}:roles/default"), role("x", json!([]))).await.unwrap_err().code, 403);
        // Labels and annotations of a role that holds more are out of reach, its owners are not.
        admin.create(&roles, role("big", everything())).await.unwrap();
        let label = json!({"metadata": {"labels": {"a": "b"}}});
        refused(eve.merge(&format!("{roles}/big"), label).await, NOT_HELD);
        eve.merge(&format!("{roles}/big"), json!({"metadata": {"finalizers": ["a.b/c"]}})).await.unwrap();
        eve.delete(&format!("{roles}/pods")).await.unwrap();
    });
}

#[test]
fn a_cluster_role_is_widened_by_who_holds_what_it_grants() {
    run(async |cluster| {
        let frontend = cluster.frontend().await;
        let (admin, eve) = (Caller(frontend.transport(User::master("admin"))), user(&frontend, "eve"));
        let own = json!([{"verbs": ["get", "list", "patch", "create", "update"], "apiGroups": [GROUP],
            "resources": ["clusterroles"]}]);
        admin.create(CLUSTER_ROLES, role("own", own)).await.unwrap();
        admin.create(CLUSTER_BINDINGS, binding("own", "ClusterRole", "own", "eve")).await.unwrap();
        eve.until_allowed(CLUSTER_ROLES).await;
        refused(eve.merge(&format!("{CLUSTER_ROLES}//own"), json!({"rules": everything()})).await, NOT_HELD);
        let metrics = json!([{"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]);
        refused(
            eve.create(CLUSTER_ROLES, role("m", metrics)).await,
            "{NonResourceURLs:[\"/metrics\"], Verbs:[\"get\"]}",
        );
        for (name, selector) in
            [("all", json!([{}])), ("some", json!([{"matchLabels": {"a": "b"}}])), ("none", json!([]))]
        {
            let mut gathers = role(name, json!([]));
            gathers["aggregationRule"] = json!({"clusterRoleSelectors": selector});
            refused(
                eve.create(CLUSTER_ROLES, gathers).await,
                "must have cluster-admin privileges to use the aggregationRule",
            );
        }
        let gathers = json!({"aggregationRule": {"clusterRoleSelectors": [{}]}});
        refused(eve.merge(&format!("{CLUSTER_ROLES}//own"), gathers).await, "must have cluster-admin privileges");
        // A role that gathers already is not to be touched, either.
        refused(
            eve.merge(&format!("{CLUSTER_ROLES}//view"), json!({"aggregationRule": null, "rules": []})).await,
            "must have cluster-admin",
        );
        eve.create(CLUSTER_ROLES, role("part", right("get", "clusterroles", Some("x")))).await.unwrap();
        // `escalate` is a right of its own.
        let escalate = role("escalate", right("escalate", "clusterroles", Some("own")));
        admin.create(CLUSTER_ROLES, escalate).await.unwrap();
        admin.create(CLUSTER_BINDINGS, binding("escalate", "ClusterRole", "escalate", "eve")).await.unwrap();
        refused(eve.create(CLUSTER_ROLES, role("new", everything())).await, NOT_HELD);
        eve.merge(&format!("{CLUSTER_ROLES}//own"), json!({"rules": everything()})).await.unwrap();
    });
}

#[test]
fn the_built_in_roles_gather_their_rules() {
    run(async |cluster| {
        let frontend = cluster.frontend().await;
        let admin = Caller(frontend.transport(User::master("admin")));
        // What an administrator added to the built-in bindings and roles stays when a frontend starts.
        let subject = |kind: &str, name: &str| json!({"apiGroup": GROUP, "kind": kind, "name": name});
        let more = json!([subject("User", "root"), subject("Group", "system:masters")]);
        admin.merge(&format!("{CLUSTER_BINDINGS}//cluster-admin"), json!({"subjects": more})).await.unwrap();
        let gathered = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        admin.merge(&format!("{CLUSTER_ROLES}//view"), json!({"rules": gathered})).await.unwrap();
        admin.merge(&format!("{CLUSTER_ROLES}//system:basic-user"), json!({"rules": []})).await.unwrap();
        cluster.frontend().await;
        let stored = admin.get(&format!("{CLUSTER_BINDINGS}//cluster-admin")).await.unwrap();
        assert_eq!(stored["subjects"], more);
        let view = admin.get(&format!("{CLUSTER_ROLES}//view")).await.unwrap();
        assert_eq!(view["rules"], gathered);
        let basic = admin.get(&format!("{CLUSTER_ROLES}//system:basic-user")).await.unwrap();
        assert_ne!(basic["rules"], json!([]), "what is missing comes back");
    });
}
