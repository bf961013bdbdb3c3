//! What the agent of a node may do: its own node and lease, its pods, and what those pods refer to. Pure.
//!
//! As upstream's node authorizer; what depends on the written object is checked by admission (NodeRestriction), which
//! knows it.

use crate::apiserver::user::User;

use super::attributes::Attributes;

const READ: [&str; 3] = ["get", "list", "watch"];
const CHANGE: [&str; 2] = ["update", "patch"];
const OWN: [&str; 5] = ["get", "create", "update", "patch", "delete"];
const LEASES: &str = "kube-node-lease";

/// The name of the node, if `user` is the agent of one.
pub fn node_of(user: &User) -> Option<&str> {
    user.name.strip_prefix("system:node:").filter(|_| user.in_group("system:nodes"))
}

/// The decision about an agent's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    NoOpinion,
    /// Allowed if the object is a pod on the node, or a pod on the node refers to it.
    IfRelated,
}

/// Decides by verb, resource and name.
pub fn decide(node: &str, attributes: &Attributes<'_>) -> Decision {
    let Attributes::Resource { verb, group, resource, subresource, namespace, name, field_selector } = *attributes
    else {
        return Decision::NoOpinion;
    };
    if node.is_empty() {
        return Decision::NoOpinion;
    }
    let one_of = |verbs: &[&str]| verbs.contains(&verb);
    let named = name.is_some_and(|name| !name.is_empty());
    let own = name == Some(node);
    let related = match (group, resource, subresource) {
        ("", "secrets" | "configmaps", None) => one_of(&READ) && namespace.is_some(),
        ("", "persistentvolumeclaims" | "pods", None) if verb == "get" => true,
        ("", "persistentvolumeclaims", Some("status")) => one_of(&CHANGE),
        ("", "serviceaccounts", Some("token")) => verb == "create",
        ("", "pods", None) => one_of(&READ),
        _ => false,
    };
    let of_the_node = || field_selector.is_some_and(|selector| selector.requires("spec.nodeName", node));
    let allowed = match (group, resource, subresource) {
        ("", "nodes", None) => (one_of(&READ) && own) || verb == "create" || one_of(&CHANGE),
        ("", "nodes", Some("status")) => one_of(&CHANGE),
        ("", "pods", None) => {
            matches!(verb, "create" | "delete") || (matches!(verb, "list" | "watch") && of_the_node())
        }
        ("", "pods", Some("status")) => one_of(&CHANGE),
        ("", "pods", Some("eviction")) => verb == "create",
        ("" | "events.k8s.io", "events", None) => verb == "create" || one_of(&CHANGE),
        ("", "services", None) => one_of(&READ),
        ("", "endpoints", None) => verb == "get",
        // What is created is named in its body, which admission sees.
        ("coordination.k8s.io", "leases", None) => {
            namespace == Some(LEASES) && one_of(&OWN) && (own || verb == "create")
        }
        ("storage.k8s.io", "csinodes", None) => one_of(&OWN) && (own || verb == "create"),
        ("storage.k8s.io", "csidrivers", None) | ("node.k8s.io", "runtimeclasses", None) => one_of(&READ),
        ("authentication.k8s.io", "tokenreviews", None) => verb == "create",
        ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", None) => verb == "create",
        _ => false,
    };
    match (allowed, related && named) {
        (true, _) => Decision::Allow,
        (false, true) => Decision::IfRelated,
        (false, false) => Decision::NoOpinion,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::field_selector::FieldSelector;
    use crate::kube::resources::Table;

    fn asks<'a>(verb: &'a str, what: &'a str, path: &'a str) -> Attributes<'a> {
        let (group, what) = what.rsplit_once(':').unwrap_or(("", what));
        let (resource, subresource) = what.split_once('/').map_or((what, None), |(r, s)| (r, Some(s)));
        let (namespace, name) = path.split_once('/').unwrap_or(("", path));
        let some = |text: &'a str| Some(text).filter(|text| !text.is_empty());
        let (namespace, name) = (some(namespace), some(name));
        Attributes::Resource { verb, group, resource, subresource, namespace, name, field_selector: None }
    }

    #[test]
    fn an_agent_keeps_to_its_own() {
        use Decision::{Allow, IfRelated, NoOpinion};
        let (leases, csi) = ("coordination.k8s.io:leases", "storage.k8s.io:csinodes");
        for (verb, what, path, expected) in [
            ("get", "nodes", "n1", Allow),
            ("watch", "nodes", "n1", Allow),
            ("get", "nodes", "n2", NoOpinion),
            ("list", "nodes", "", NoOpinion),
            ("delete", "nodes", "n1", NoOpinion),
            ("update", "nodes/status", "n1", Allow),
            ("list", "pods", "", NoOpinion),
            ("watch", "pods", "a/", NoOpinion),
            ("get", "pods", "a/p", IfRelated),
            ("list", "pods", "a/p", IfRelated),
            ("delete", "pods", "a/p", Allow),
            ("deletecollection", "pods", "a/", NoOpinion),
            ("update", "pods", "a/p", NoOpinion),
            ("create", "pods/binding", "a/p", NoOpinion),
            ("create", "pods/exec", "a/p", NoOpinion),
            ("create", "pods/eviction", "a/p", Allow),
            ("get", "secrets", "a/s", IfRelated),
            ("watch", "secrets", "a/s", IfRelated),
            ("list", "secrets", "a/", NoOpinion),
            ("list", "secrets", "", NoOpinion),
            ("update", "configmaps", "a/c", NoOpinion),
            ("get", "persistentvolumeclaims", "a/c", IfRelated),
            ("list", "persistentvolumeclaims", "a/c", NoOpinion),
            ("create", "serviceaccounts/token", "a/sa", IfRelated),
            ("get", "serviceaccounts", "a/sa", NoOpinion),
            ("update", leases, "kube-node-lease/n1", Allow),
            ("update", leases, "kube-node-lease/n2", NoOpinion),
            ("list", leases, "kube-node-lease/", NoOpinion),
            ("update", leases, "kube-system/n1", NoOpinion),
            ("update", csi, "n1", Allow),
            ("delete", csi, "n2", NoOpinion),
            ("create", "apps:deployments", "a/", NoOpinion),
        ] {
            assert_eq!(decide("n1", &asks(verb, what, path)), expected, "{verb} {what} {path}");
        }
    }

    #[test]
    fn an_agent_lists_the_pods_of_its_own_node_only() {
        let pods = Table::builtin().get("", "v1", "pods").unwrap().clone();
        for (selector, expected) in [
            ("spec.nodeName=n1", Decision::Allow),
            ("status.phase!=Failed,spec.nodeName==n1", Decision::Allow),
            ("spec.nodeName=n2", Decision::NoOpinion),
            ("spec.nodeName!=n1", Decision::NoOpinion),
            ("spec.nodeName=", Decision::NoOpinion),
        ] {
            let parsed = FieldSelector::parse(selector, &pods).unwrap();
            for verb in ["list", "watch"] {
                let mut asked = asks(verb, "pods", "");
                let Attributes::Resource { field_selector, .. } = &mut asked else { unreachable!() };
                *field_selector = Some(&parsed);
                assert_eq!(decide("n1", &asked), expected, "{verb} {selector}");
            }
        }
    }
}
