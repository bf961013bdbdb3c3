//! The built-in roles and their bindings.
//!
//! - [`controllers`]: those of controllers

pub mod controllers;

use serde_json::{Value, json};

const GROUP: &str = "rbac.authorization.k8s.io";
const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const READ_WRITE: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const ALL: &[&str] = &["*"];

fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

fn paths(paths: &[&str]) -> Value {
    json!({"nonResourceURLs": paths, "verbs": ["get"]})
}

fn metadata(name: &str, label: Option<&str>) -> Value {
    let mut labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    if let Some(label) = label {
        labels[format!("{GROUP}/aggregate-to-{label}")] = json!("true");
    }
    json!({"name": name, "labels": labels, "annotations": {format!("{GROUP}/autoupdate"): "true"}})
}

fn role(name: &str, rules: Vec<Value>) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRole", "metadata": metadata(name, None), "rules": rules})
}

/// A part of one of the roles that users are given.
fn part(of: &str, rules: Vec<Value>) -> Value {
    let mut role = role(&format!("system:aggregate-to-{of}"), rules);
    role["metadata"] = metadata(&format!("system:aggregate-to-{of}"), Some(of));
    role
}

/// A role that gathers its rules by label, and is itself gathered into `into`.
fn gathered(name: &str, into: Option<&str>) -> Value {
    let label = format!("{GROUP}/aggregate-to-{name}");
    let mut role = role(name, Vec::new());
    role["metadata"] = metadata(name, into);
    role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
    role
}

/// A binding to users and groups.
fn binding(role: &str, subjects: &[(&str, &str)]) -> Value {
    let subject = |(kind, name): &(&str, &str)| json!({"apiGroup": GROUP, "kind": kind, "name": name});
    binding_of(role, subjects.iter().map(subject).collect())
}

fn binding_of(role: &str, subjects: Vec<Value>) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": metadata(role, None),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}

/// All built-in cluster roles but those of controllers.
pub fn cluster_roles() -> Vec<Value> {
    let mut roles =
        vec![role("cluster-admin", vec![rule(ALL, ALL, ALL), json!({"nonResourceURLs": ["*"], "verbs": ["*"]})])];
    roles.extend(for_users());
    roles.extend(for_everybody());
    roles.extend(for_components());
    roles
}

/// Roles that administrators give to users. Each gathers the part that is its own and, by the label it carries, the
/// role below it: `admin` gathers `edit`, which gathers `view`.
fn for_users() -> Vec<Value> {
    vec![
        gathered("admin", None),
        gathered("edit", Some("admin")),
        gathered("view", Some("edit")),
        part("admin", admin_rules()),
        part("edit", edit_rules()),
        part("view", view_rules()),
    ]
}

/// What `view` reads: everything of a namespace but its secrets, and what leads to them.
fn view_rules() -> Vec<Value> {
    let objects = &[
        "configmaps",
        "endpoints",
        "persistentvolumeclaims",
        "persistentvolumeclaims/status",
        "pods",
        "replicationcontrollers",
        "replicationcontrollers/scale",
        "serviceaccounts",
        "services",
        "services/status",
    ];
    let aspects = &[
        "bindings",
        "events",
        "limitranges",
        "namespaces/status",
        "pods/log",
        "pods/status",
        "replicationcontrollers/status",
        "resourcequotas",
        "resourcequotas/status",
    ];
    let apps = &[
        "controllerrevisions",
        "daemonsets",
        "daemonsets/status",
        "deployments",
        "deployments/scale",
        "deployments/status",
        "replicasets",
        "replicasets/scale",
        "replicasets/status",
        "statefulsets",
        "statefulsets/scale",
        "statefulsets/status",
    ];
    vec![
        rule(READ, &[""], objects),
        rule(READ, &[""], aspects),
        // Within a namespace this is the right to see that namespace.
        rule(READ, &[""], &["namespaces"]),
        rule(READ, &["discovery.k8s.io"], &["endpointslices"]),
        rule(READ, &["apps"], apps),
        rule(READ, &["autoscaling"], &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
        rule(READ, &["batch"], &["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
        rule(READ, &["policy"], &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
        rule(READ, &["networking.k8s.io"], &["ingresses", "ingresses/status", "networkpolicies"]),
    ]
}

/// What `edit` may do beyond `view`. It may not write endpoints: that would redirect the traffic of a Service.
fn edit_rules() -> Vec<Value> {
    let objects = &[
        "configmaps",
        "events",
        "persistentvolumeclaims",
        "replicationcontrollers",
        "replicationcontrollers/scale",
        "secrets",
        "serviceaccounts",
        "services",
        "services/proxy",
    ];
    let apps = &[
        "daemonsets",
        "deployments",
        "deployments/rollback",
        "deployments/scale",
        "replicasets",
        "replicasets/scale",
        "statefulsets",
        "statefulsets/scale",
    ];
    vec![
        rule(READ, &[""], &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"]),
        rule(&["impersonate"], &[""], &["serviceaccounts"]),
        rule(WRITE, &[""], &["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"]),
        rule(&["create"], &[""], &["pods/eviction"]),
        rule(WRITE, &[""], objects),
        rule(&["create"], &[""], &["serviceaccounts/token"]),
        rule(WRITE, &["apps"], apps),
        rule(WRITE, &["autoscaling"], &["horizontalpodautoscalers"]),
        rule(WRITE, &["batch"], &["cronjobs", "jobs"]),
        rule(WRITE, &["policy"], &["poddisruptionbudgets"]),
        rule(WRITE, &["networking.k8s.io"], &["ingresses", "networkpolicies"]),
        rule(READ_WRITE, &["coordination.k8s.io"], &["leases"]),
    ]
}

/// What `admin` does beyond `edit`.
fn admin_rules() -> Vec<Value> {
    vec![
        rule(&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews"]),
        rule(READ_WRITE, &[GROUP], &["rolebindings", "roles"]),
    ]
}

fn for_everybody() -> Vec<Value> {
    let health = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let discovery = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ];
    vec![
        role("system:public-info-viewer", vec![paths(&health)]),
        role("system:discovery", vec![paths(&discovery)]),
        role(
            "system:basic-user",
            vec![
                rule(&["create"], &["authorization.k8s.io"], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
                rule(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
            ],
        ),
        role(
            "system:service-account-issuer-discovery",
            vec![paths(&[
                "/.well-known/openid-configuration",
                "/.well-known/openid-configuration/",
                "/openid/v1/jwks",
                "/openid/v1/jwks/",
            ])],
        ),
        role(
            "system:monitoring",
            vec![paths(&[
                "/healthz",
                "/healthz/*",
                "/livez",
                "/livez/*",
                "/metrics",
                "/metrics/slis",
                "/readyz",
                "/readyz/*",
            ])],
        ),
    ]
}

fn events() -> Value {
    rule(&["create", "patch", "update"], &["", "events.k8s.io"], &["events"])
}

/// Reviews of users and rights change nothing.
fn reviews() -> [Value; 2] {
    [
        rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
        rule(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
    ]
}

/// Leader election, for a component with standbys.
fn election(name: &str) -> [Value; 2] {
    let mut own = rule(&["get", "update"], &["coordination.k8s.io"], &["leases"]);
    own["resourceNames"] = json!([name]);
    [rule(&["create"], &["coordination.k8s.io"], &["leases"]), own]
}

fn for_components() -> Vec<Value> {
    let leases = || rule(&["create", "get", "list", "patch", "update", "watch"], &["coordination.k8s.io"], &["leases"]);
    let scheduler = [
        events(),
        rule(READ, &[""], &["namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes"]),
        rule(READ, &[""], &["replicationcontrollers", "services"]),
        rule(&["delete", "get", "list", "watch"], &[""], &["pods"]),
        rule(&["create"], &[""], &["bindings", "pods/binding"]),
        rule(&["patch", "update"], &[""], &["pods/status"]),
        rule(READ, &["apps"], &["replicasets", "statefulsets"]),
        rule(READ, &["policy"], &["poddisruptionbudgets"]),
        rule(READ, &["storage.k8s.io"], &["csidrivers", "csinodes", "csistoragecapacities", "storageclasses"]),
    ];
    // Each controller writes as a service account of its own: what is here is for caches, which are shared, and for
    // those accounts and their tokens.
    let controller_manager = [
        events(),
        rule(&["list", "watch"], ALL, ALL),
        rule(&["get"], &[""], &["configmaps", "namespaces", "secrets", "serviceaccounts"]),
        rule(&["create", "patch", "update"], &[""], &["secrets", "serviceaccounts"]),
        rule(&["delete"], &[""], &["secrets"]),
        rule(&["create"], &[""], &["serviceaccounts/token"]),
    ];
    let with = |rules: &[Value], more: [Value; 2]| -> Vec<Value> {
        rules.iter().cloned().chain(more).chain(reviews()).collect()
    };
    let mut nodes = rule(READ, &[""], &["nodes"]);
    nodes["verbs"] = json!(["get", "list", "proxy", "watch"]);
    vec![
        role("system:kube-scheduler", with(&scheduler, election("kube-scheduler"))),
        role("system:kube-controller-manager", with(&controller_manager, election("kube-controller-manager"))),
        // What frontends may ask of agents.
        role(
            "system:kubelet-api-admin",
            vec![nodes, rule(ALL, &[""], &["nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats"])],
        ),
        role(
            "system:cloud-controller-manager",
            vec![
                leases(),
                events(),
                rule(ALL, &[""], &["nodes", "nodes/status", "services", "services/status"]),
                rule(READ, &[""], &["pods", "endpoints", "serviceaccounts", "secrets", "configmaps"]),
                rule(&["create"], &[""], &["serviceaccounts", "serviceaccounts/token"]),
            ],
        ),
        role(
            "system:node-proxier",
            vec![
                events(),
                rule(READ, &[""], &["endpoints", "nodes", "services"]),
                rule(READ, &["discovery.k8s.io"], &["endpointslices"]),
            ],
        ),
        // The node authorizer authorizes agents by what runs on their node; this role has no subjects.
        role("system:node", node()),
        role("system:auth-delegator", reviews().into()),
    ]
}

/// What an agent needs, were it not for the node authorizer, which narrows it to its own node.
fn node() -> Vec<Value> {
    let mut rules = vec![
        rule(READ, &[""], &["configmaps", "nodes", "pods", "secrets", "services"]),
        rule(&["create", "patch", "update"], &[""], &["nodes"]),
        rule(&["patch", "update"], &[""], &["nodes/status", "pods/status"]),
        rule(&["create", "delete"], &[""], &["pods"]),
        rule(&["create"], &[""], &["pods/eviction", "serviceaccounts/token"]),
        rule(&["get"], &[""], &["endpoints", "persistentvolumeclaims", "persistentvolumes"]),
        rule(&["create", "delete", "get", "patch", "update"], &["coordination.k8s.io"], &["leases"]),
        rule(&["create", "delete", "get", "patch", "update"], &["storage.k8s.io"], &["csinodes"]),
        rule(READ, &["node.k8s.io"], &["runtimeclasses"]),
        rule(&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews"]),
        events(),
    ];
    rules.extend(reviews());
    rules
}

/// The bindings of these roles, each named as its role.
pub fn cluster_role_bindings() -> Vec<Value> {
    vec![
        binding("cluster-admin", &[("Group", "system:masters")]),
        binding("system:public-info-viewer", &[("Group", "system:authenticated"), ("Group", "system:unauthenticated")]),
        binding("system:discovery", &[("Group", "system:authenticated")]),
        binding("system:basic-user", &[("Group", "system:authenticated")]),
        binding("system:service-account-issuer-discovery", &[("Group", "system:serviceaccounts")]),
        binding("system:monitoring", &[("Group", "system:monitoring")]),
        binding("system:kube-scheduler", &[("User", "system:kube-scheduler")]),
        binding("system:kube-controller-manager", &[("User", "system:kube-controller-manager")]),
        binding("system:cloud-controller-manager", &[("User", "system:cloud-controller-manager")]),
        binding("system:node-proxier", &[("User", "system:kube-proxy")]),
        binding("system:kubelet-api-admin", &[("User", "kube-apiserver-kubelet-client")]),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::Attributes;
    use super::super::rbac::Rules;
    use super::*;
    use crate::apiserver::user::User;

    fn rules() -> Rules {
        let parse = |values: Vec<Value>| values.into_iter().map(|v| serde_json::from_value(v).unwrap()).collect();
        let bindings = cluster_role_bindings()
            .into_iter()
            .chain(controllers::cluster_role_bindings())
            .map(|v| serde_json::from_value(v).unwrap())
            .collect();
        let granted = ["view", "edit", "admin"].map(|role| {
            json!({"metadata": {"name": role, "namespace": "a"}, "subjects": [{"kind": "User", "name": role}],
                "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}})
        });
        let granted = granted.into_iter().map(|v| serde_json::from_value(v).unwrap()).collect();
        let roles = cluster_roles().into_iter().chain(controllers::cluster_roles()).collect();
        Rules::new(parse(roles), Vec::new(), bindings, granted)
    }

    #[test]
    fn what_the_built_in_roles_grant() {
        let rules = rules();
        let asks = |verb, resource| Attributes::Resource {
            verb,
            group: if matches!(resource, "roles") { GROUP } else { "" },
            resource,
            subresource: None,
            namespace: Some("a"),
            name: Some("x"),
            field_selector: None,
        };
        for (user, verb, resource, allowed) in [
            ("view", "get", "pods", true),
            ("view", "get", "secrets", false),
            ("view", "delete", "pods", false),
            ("edit", "get", "secrets", true),
            ("edit", "delete", "pods", true),
            ("edit", "get", "configmaps", true),
            ("edit", "update", "endpoints", false),
            ("admin", "update", "endpoints", false),
            ("admin", "get", "endpoints", true),
            ("edit", "create", "roles", false),
            ("admin", "create", "roles", true),
            ("admin", "get", "pods", true),
            ("admin", "update", "resourcequotas", false),
            ("system:kube-scheduler", "list", "nodes", true),
            ("system:kube-scheduler", "create", "pods", false),
            ("system:kube-scheduler", "get", "secrets", false),
            ("system:kube-controller-manager", "list", "pods", true),
            ("system:kube-controller-manager", "delete", "pods", false),
            ("system:serviceaccount:kube-system:replicaset-controller", "create", "pods", true),
            ("system:serviceaccount:kube-system:replicaset-controller", "get", "secrets", false),
            ("system:serviceaccount:kube-system:endpoint-controller", "create", "pods", false),
            ("system:serviceaccount:kube-system:generic-garbage-collector", "delete", "pods", true),
            ("system:serviceaccount:kube-system:generic-garbage-collector", "create", "pods", false),
            ("system:serviceaccount:a:replicaset-controller", "create", "pods", false),
            ("nobody", "get", "pods", false),
        ] {
            let user = User::new(user, Vec::<String>::new());
            assert_eq!(rules.allow(&user, &asks(verb, resource)), allowed, "{} {verb} {resource}", user.name);
        }
        let anonymous = User::anonymous();
        assert!(rules.allow(&anonymous, &Attributes::NonResource { verb: "get", path: "/version" }));
        assert!(!rules.allow(&anonymous, &Attributes::NonResource { verb: "get", path: "/api" }));
    }
}
