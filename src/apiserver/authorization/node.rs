//! What the agent of a node may do: its own node, lease and pods, and what those pods refer to. Pure.

use serde_json::Value;

use crate::apiserver::user::User;

use super::Attributes;

/// The name of the node whose agent `user` is.
pub fn node_of(user: &User) -> Option<&str> {
    user.name.strip_prefix("system:node:").filter(|_| user.in_group("system:nodes"))
}

/// What an agent's request depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    NoOpinion,
    /// Allowed if a pod on the node refers to the object.
    IfReferred,
}

/// Decides by verb and resource. Which pods an agent may write is looked at in admission, where the pod is known.
pub fn decide(node: &str, attributes: &Attributes<'_>) -> Verdict {
    let Attributes::Resource { verb, group, resource, subresource, namespace, name } = *attributes else {
        return Verdict::NoOpinion;
    };
    let reads = matches!(verb, "get" | "list" | "watch");
    let own = name == Some(node);
    let allowed = match (group, resource, subresource) {
        ("", "nodes", None) => reads || verb == "create" || (own && matches!(verb, "update" | "patch")),
        ("", "nodes", Some("status")) => own && matches!(verb, "get" | "update" | "patch"),
        ("", "pods", None) => reads || matches!(verb, "create" | "delete"),
        ("", "pods", Some("status")) => matches!(verb, "get" | "update" | "patch"),
        ("", "secrets" | "configmaps" | "persistentvolumeclaims", None) if reads && name.is_some() => {
            return Verdict::IfReferred;
        }
        ("", "serviceaccounts", None) if verb == "get" && name.is_some() => return Verdict::IfReferred,
        ("", "serviceaccounts", Some("token")) if verb == "create" => return Verdict::IfReferred,
        ("" | "events.k8s.io", "events", None) => matches!(verb, "create" | "update" | "patch"),
        ("", "services" | "endpoints", None) => reads,
        ("discovery.k8s.io", "endpointslices", None) => reads,
        ("coordination.k8s.io", "leases", None) => {
            namespace == Some("kube-node-lease") && (verb == "create" || (own && verb != "list" && verb != "watch"))
        }
        ("authentication.k8s.io", "tokenreviews", None) => verb == "create",
        ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", None) => verb == "create",
        ("node.k8s.io", "runtimeclasses", None) => reads,
        ("storage.k8s.io", "csinodes", None) => true,
        _ => false,
    };
    if allowed { Verdict::Allow } else { Verdict::NoOpinion }
}

/// Does this pod refer to the object?
pub fn refers(pod: &Value, resource: &str, name: &str) -> bool {
    let spec = &pod["spec"];
    let is = |value: &Value| value.as_str() == Some(name);
    match resource {
        "serviceaccounts" => is(&spec["serviceAccountName"]),
        "persistentvolumeclaims" => volumes(spec).any(|volume| is(&volume["persistentVolumeClaim"]["claimName"])),
        "configmaps" => {
            volumes(spec).any(|volume| is(&volume["configMap"]["name"]))
                || projected(spec).any(|source| is(&source["configMap"]["name"]))
                || environment(spec, "configMapRef", "configMapKeyRef").any(|reference| is(&reference["name"]))
        }
        "secrets" => {
            volumes(spec).any(|volume| is(&volume["secret"]["secretName"]))
                || projected(spec).any(|source| is(&source["secret"]["name"]))
                || environment(spec, "secretRef", "secretKeyRef").any(|reference| is(&reference["name"]))
                || items(&spec["imagePullSecrets"]).any(|secret| is(&secret["name"]))
        }
        _ => false,
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn volumes(spec: &Value) -> impl Iterator<Item = &Value> {
    items(&spec["volumes"])
}

fn projected(spec: &Value) -> impl Iterator<Item = &Value> {
    volumes(spec).flat_map(|volume| items(&volume["projected"]["sources"]))
}

fn environment<'a>(spec: &'a Value, whole: &'a str, key: &'a str) -> impl Iterator<Item = &'a Value> {
    let containers = ["containers", "initContainers", "ephemeralContainers"].into_iter().flat_map(|c| items(&spec[c]));
    containers.flat_map(move |container| {
        let from = items(&container["envFrom"]).map(move |source| &source[whole]);
        from.chain(items(&container["env"]).map(move |variable| &variable["valueFrom"][key]))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asks(
        verb: &'static str,
        group: &'static str,
        what: &'static str,
        name: Option<&'static str>,
    ) -> Attributes<'static> {
        let (resource, subresource) = what.split_once('/').map_or((what, None), |(r, s)| (r, Some(s)));
        Attributes::Resource { verb, group, resource, subresource, namespace: Some("kube-node-lease"), name }
    }

    #[test]
    fn an_agent_keeps_to_its_own() {
        let table = [
            (asks("update", "", "nodes/status", Some("n1")), Verdict::Allow),
            (asks("update", "", "nodes/status", Some("n2")), Verdict::NoOpinion),
            (asks("delete", "", "nodes", Some("n1")), Verdict::NoOpinion),
            (asks("watch", "", "pods", None), Verdict::Allow),
            (asks("get", "", "secrets", Some("s")), Verdict::IfReferred),
            (asks("list", "", "secrets", None), Verdict::NoOpinion),
            (asks("update", "coordination.k8s.io", "leases", Some("n1")), Verdict::Allow),
            (asks("update", "coordination.k8s.io", "leases", Some("n2")), Verdict::NoOpinion),
            (asks("create", "", "serviceaccounts/token", Some("sa")), Verdict::IfReferred),
            (asks("create", "apps", "deployments", None), Verdict::NoOpinion),
        ];
        for (attributes, expected) in table {
            assert_eq!(decide("n1", &attributes), expected, "{attributes:?}");
        }
    }

    #[test]
    fn what_a_pod_refers_to() {
        let pod = json!({"spec": {
            "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "s1"}},
                {"name": "b", "projected": {"sources": [{"configMap": {"name": "c1"}}, {"secret": {"name": "s2"}}]}},
            ],
            "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "c2"}}],
                "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}}]}],
        }});
        for (resource, name, expected) in [
            ("secrets", "s1", true),
            ("secrets", "s2", true),
            ("secrets", "s3", true),
            ("secrets", "pull", true),
            ("secrets", "c1", false),
            ("configmaps", "c1", true),
            ("configmaps", "c2", true),
            ("serviceaccounts", "sa", true),
            ("serviceaccounts", "other", false),
        ] {
            assert_eq!(refers(&pod, resource, name), expected, "{resource} {name}");
        }
    }
}
