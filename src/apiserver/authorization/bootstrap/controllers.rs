//! The roles of controllers, each bound to the service account in `kube-system` that is called as it is.
//!
//! The rules are upstream's. Where upstream's controllers replace an object, these may patch it, too: that is no more
//! than a replacement can do.

use serde_json::{Value, json};

use super::{GROUP, READ, binding_of, events, role, rule};

const NAMESPACE: &str = "kube-system";
const CORE: &[&str] = &[""];
const APPS: &[&str] = &["apps"];
const DISCOVERY: &[&str] = &["discovery.k8s.io"];
const CHANGE: &[&str] = &["patch", "update"];
const READ_AND_CHANGE: &[&str] = &["get", "list", "patch", "update", "watch"];
const KEEP: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const OF_PODS: &[&str] = &["create", "delete", "list", "patch", "watch"];

/// Which further accounts have a role: an actor here may be what upstream divides among two controllers.
const SHARED: &[(&str, &str)] =
    &[("endpointslice-controller", "endpoint-controller"), ("root-ca-cert-publisher", "service-account-controller")];

fn rules() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        (
            "clusterrole-aggregation-controller",
            vec![rule(&["escalate", "get", "list", "patch", "update", "watch"], &[GROUP], &["clusterroles"])],
        ),
        (
            "deployment-controller",
            vec![
                rule(READ_AND_CHANGE, APPS, &["deployments"]),
                rule(CHANGE, APPS, &["deployments/status", "deployments/finalizers"]),
                rule(KEEP, APPS, &["replicasets"]),
                rule(READ_AND_CHANGE, CORE, &["pods"]),
                events(),
            ],
        ),
        (
            "endpoint-controller",
            vec![
                rule(READ, CORE, &["services", "pods"]),
                rule(KEEP, CORE, &["endpoints"]),
                rule(&["create"], CORE, &["endpoints/restricted"]),
                events(),
            ],
        ),
        (
            "endpointslice-controller",
            vec![
                rule(READ, CORE, &["services", "pods", "nodes"]),
                rule(CHANGE, CORE, &["services/finalizers"]),
                rule(KEEP, DISCOVERY, &["endpointslices"]),
                events(),
            ],
        ),
        (
            "endpointslicemirroring-controller",
            vec![
                rule(READ, CORE, &["services", "endpoints"]),
                rule(CHANGE, CORE, &["services/finalizers", "endpoints/finalizers"]),
                rule(KEEP, DISCOVERY, &["endpointslices"]),
                events(),
            ],
        ),
        (
            "generic-garbage-collector",
            vec![rule(&["delete", "get", "list", "patch", "update", "watch"], &["*"], &["*"]), events()],
        ),
        (
            "namespace-controller",
            vec![
                rule(&["delete", "get", "list", "watch"], CORE, &["namespaces"]),
                rule(CHANGE, CORE, &["namespaces/finalize", "namespaces/status"]),
                rule(&["delete", "deletecollection", "get", "list", "watch"], &["*"], &["*"]),
            ],
        ),
        (
            "node-controller",
            vec![
                rule(&["delete", "get", "list", "patch", "update", "watch"], CORE, &["nodes"]),
                rule(CHANGE, CORE, &["nodes/status", "pods/status"]),
                rule(&["delete", "get", "list", "watch"], CORE, &["pods"]),
                events(),
            ],
        ),
        (
            "pod-garbage-collector",
            vec![
                rule(&["delete", "list", "watch"], CORE, &["pods"]),
                rule(READ, CORE, &["nodes"]),
                rule(CHANGE, CORE, &["pods/status"]),
            ],
        ),
        (
            "replicaset-controller",
            vec![
                rule(READ_AND_CHANGE, APPS, &["replicasets"]),
                rule(CHANGE, APPS, &["replicasets/status", "replicasets/finalizers"]),
                rule(OF_PODS, CORE, &["pods"]),
                events(),
            ],
        ),
        (
            "replication-controller",
            vec![
                rule(READ_AND_CHANGE, CORE, &["replicationcontrollers"]),
                rule(CHANGE, CORE, &["replicationcontrollers/status", "replicationcontrollers/finalizers"]),
                rule(OF_PODS, CORE, &["pods"]),
                events(),
            ],
        ),
        (
            "resourcequota-controller",
            vec![rule(&["list", "watch"], &["*"], &["*"]), rule(CHANGE, CORE, &["resourcequotas/status"]), events()],
        ),
        ("root-ca-cert-publisher", vec![rule(&["create", "patch", "update"], CORE, &["configmaps"]), events()]),
        ("service-account-controller", vec![rule(&["create"], CORE, &["serviceaccounts"]), events()]),
    ]
}

pub fn cluster_roles() -> Vec<Value> {
    rules().into_iter().map(|(name, rules)| role(&format!("system:controller:{name}"), rules)).collect()
}

pub fn cluster_role_bindings() -> Vec<Value> {
    let account = |name: &str| json!({"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE});
    let bound = |name: &str| {
        let shared = SHARED.iter().filter(|(role, _)| *role == name).map(|(_, account)| *account);
        let subjects = std::iter::once(name).chain(shared).map(account).collect();
        binding_of(&format!("system:controller:{name}"), subjects)
    };
    rules().into_iter().map(|(name, _)| bound(name)).collect()
}
