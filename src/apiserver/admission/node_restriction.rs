//! NodeRestriction: an agent writes only its own node and lease, the status of pods that are bound to its node, and
//! mirror pods that refer to no other object; it may request tokens for its pods. As upstream's plugin of that name.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::apiserver::authorization::graph::{MIRROR, references};
use crate::apiserver::authorization::node::node_of;
use crate::kube::status::Status;
use crate::kube::tree::items;

use super::{Admission, AdmissionAttributes, Operation};

const LEASES: &str = "kube-node-lease";
/// Labels of Kubernetes' own domains that an agent may set on its node.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];
/// Whole domains of such labels.
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// Labels by which workloads are kept off untrusted nodes: no agent may set them.
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";
/// The lifetime of a projected token whose volume does not set one.
const TOKEN_SECONDS: u64 = 3600;

impl Admission {
    /// Refuses what an agent may not write. Other users are not restricted.
    pub async fn restrict_node(&self, attributes: &AdmissionAttributes<'_>, object: &Value) -> Result<(), Status> {
        let Some(node) = node_of(attributes.user) else { return Ok(()) };
        if node.is_empty() {
            return Err(attributes.forbidden(format!("could not determine node from user {:?}", attributes.user.name)));
        }
        let resource =
            (attributes.resource.group.as_str(), attributes.resource.plural.as_str(), attributes.subresource);
        match resource {
            ("", "pods", part) => self.restrict_pod(attributes, node, part, object).await,
            ("", "nodes", _) => restrict_node_object(attributes, node, object),
            ("", "persistentvolumeclaims", Some("status")) => Ok(()),
            ("", "persistentvolumeclaims", _) => Err(attributes.forbidden("may only update PVC status")),
            ("coordination.k8s.io", "leases", _) if attributes.namespace != Some(LEASES) => {
                Err(attributes.forbidden(format!("can only access leases in the {LEASES:?} system namespace")))
            }
            ("coordination.k8s.io", "leases", _) if attributes.name != node => {
                Err(attributes.forbidden("can only access node lease with the same name as the requesting node"))
            }
            ("storage.k8s.io", "csinodes", _) if attributes.name != node => {
                Err(attributes.forbidden("can only access CSINode with the same name as the requesting node"))
            }
            _ => Ok(()),
        }
    }

    async fn restrict_pod(
        &self,
        attributes: &AdmissionAttributes<'_>,
        node: &str,
        part: Option<&str>,
        object: &Value,
    ) -> Result<(), Status> {
        let on_node =
            |verb: &str| match attributes.old.is_some_and(|pod| pod["spec"]["nodeName"].as_str() == Some(node)) {
                true => Ok(()),
                false => Err(attributes
                    .forbidden(format!("node {node:?} can only {verb} pods with spec.nodeName set to itself"))),
            };
        match (part, attributes.operation) {
            (None, Operation::Create) => {
                refuse_other_pods(attributes, node, object)?;
                self.check_owner(attributes, node, object).await
            }
            (None, Operation::Delete) => on_node("delete"),
            (None, Operation::Update) => {
                let why =
                    format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods");
                Err(attributes.forbidden(why))
            }
            (Some("status"), Operation::Update) => {
                on_node("update pod status for")?;
                restrict_pod_status(attributes, node, object)
            }
            (Some("eviction"), Operation::Create) => on_node("evict"),
            (Some(part), _) => {
                let why = format!("unexpected pod subresource {part:?}, only 'status' and 'eviction' are allowed");
                Err(attributes.forbidden(why))
            }
        }
    }

    /// A mirror pod belongs to its node, as it is now.
    async fn check_owner(&self, attributes: &AdmissionAttributes<'_>, node: &str, pod: &Value) -> Result<(), Status> {
        let refuse = |why: &str| Err(attributes.forbidden(format!("node {node:?} {why}")));
        let owner = match items(&pod["metadata"], "ownerReferences") {
            [] => return refuse("can only create pods with an owner reference set to itself"),
            [owner] => owner,
            _ => return refuse("can only create pods with a single owner reference set to itself"),
        };
        if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"].as_str() != Some(node) {
            return refuse("can only create pods with an owner reference set to itself");
        }
        if owner["controller"] != true {
            return refuse("can only create pods with a controller owner reference set to itself");
        }
        if owner["blockOwnerDeletion"] == true {
            return refuse("must not set blockOwnerDeletion on an owner reference");
        }
        let uid = self.storage.get(self.core("nodes"), None, node).await?.object.meta.uid.clone();
        if owner["uid"].as_str() != Some(uid.as_str()) {
            let said = owner["uid"].as_str().unwrap_or_default();
            return Err(attributes.forbidden(format!("node {node} UID mismatch: expected {said} got {uid}")));
        }
        Ok(())
    }

    /// Refuses an agent tokens that are not for a pod on its node. Returns the longest lifetime in seconds that the
    /// token may have, if the user is an agent.
    pub async fn restrict_token(
        &self,
        attributes: &AdmissionAttributes<'_>,
        request: &Value,
    ) -> Result<Option<u64>, Status> {
        let Some(node) = node_of(attributes.user) else { return Ok(None) };
        let refuse = |why: String| Err(attributes.forbidden(why));
        let bound = &request["spec"]["boundObjectRef"];
        let text = |field: &str| bound[field].as_str().unwrap_or_default();
        if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
            return refuse("node requested token not bound to a pod".to_owned());
        }
        let uid = text("uid");
        if uid.is_empty() {
            return refuse("node requested token with a pod binding without a uid".to_owned());
        }
        let pod = self.storage.get(self.core("pods"), attributes.namespace, text("name")).await?.object;
        if pod.meta.uid != uid {
            return refuse(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            ));
        }
        let pod = pod.value();
        if pod["spec"]["nodeName"].as_str() != Some(node) {
            return refuse("node requested token bound to a pod scheduled on a different node".to_owned());
        }
        let audiences: Vec<&str> = items(&request["spec"], "audiences").iter().filter_map(Value::as_str).collect();
        let audience = match audiences.as_slice() {
            [] => "",
            [one] => *one,
            _ => return refuse("node may only request 0 or 1 audiences".to_owned()),
        };
        match longest_life(&pod, audience) {
            Some(seconds) => Ok(Some(seconds)),
            None => refuse(format!("audience {audience:?} not found in pod spec volume")),
        }
    }
}

/// An agent creates only mirror pods on its own node, without references to other objects: it could read those.
fn refuse_other_pods(attributes: &AdmissionAttributes<'_>, node: &str, pod: &Value) -> Result<(), Status> {
    let refuse = |why: String| Err(attributes.forbidden(why));
    if pod["metadata"]["annotations"][MIRROR].is_null() {
        return refuse(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    if pod["spec"]["nodeName"].as_str() != Some(node) {
        return refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let projected = || items(&pod["spec"], "volumes").iter().flat_map(|volume| items(&volume["projected"], "sources"));
    let referred = match references(pod).map(|(resource, _)| resource).next() {
        Some("serviceaccounts") => Some("a service account"),
        Some(resource) => Some(resource),
        None if !items(&pod["spec"], "resourceClaims").is_empty() => Some("resourceclaims"),
        None if projected().any(|source| source["clusterTrustBundle"].is_object()) => Some("clustertrustbundles"),
        None if projected().any(|source| source["podCertificate"].is_object()) => Some("pod certificates"),
        None => None,
    };
    match referred {
        Some(what) => refuse(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

fn restrict_pod_status(attributes: &AdmissionAttributes<'_>, node: &str, pod: &Value) -> Result<(), Status> {
    let Some(old) = attributes.old else { return Ok(()) };
    if pod["metadata"]["labels"] != old["metadata"]["labels"] {
        return Err(attributes.forbidden(format!("node {node:?} cannot update labels through pod status")));
    }
    if pod["status"]["resourceClaimStatuses"] != old["status"]["resourceClaimStatuses"] {
        return Err(attributes.forbidden(format!("node {node:?} cannot update resource claim statues")));
    }
    Ok(())
}

/// An agent describes its own node, but may not set what attracts or repels pods.
fn restrict_node_object(attributes: &AdmissionAttributes<'_>, node: &str, object: &Value) -> Result<(), Status> {
    let refuse = |why: &str| Err(attributes.forbidden(format!("node {node:?} is not allowed to {why}")));
    if attributes.name != node {
        return refuse(&format!("modify node {:?}", attributes.name));
    }
    let forbidden = |old: &Value| {
        let labels = changed(&object["metadata"]["labels"], &old["metadata"]["labels"]);
        labels.into_iter().filter(|label| !is_own_label(label)).collect::<Vec<_>>().join(", ")
    };
    match (attributes.operation, attributes.old) {
        (Operation::Create, _) => {
            if !object["spec"]["configSource"].is_null() {
                return refuse("create pods with a non-nil configSource");
            }
            match forbidden(&Value::Null) {
                labels if labels.is_empty() => Ok(()),
                labels => refuse(&format!("set the following labels: {labels}")),
            }
        }
        (Operation::Update, Some(old)) => {
            if differ(&object["spec"]["configSource"], &old["spec"]["configSource"]) {
                return refuse("update configSource to a new non-nil configSource");
            }
            if differ(&object["spec"]["taints"], &old["spec"]["taints"]) {
                return refuse("modify taints");
            }
            if differ(&object["metadata"]["ownerReferences"], &old["metadata"]["ownerReferences"]) {
                return refuse("modify ownerReferences");
            }
            match forbidden(old) {
                labels if labels.is_empty() => Ok(()),
                labels => refuse(&format!("modify labels: {labels}")),
            }
        }
        _ => Ok(()),
    }
}

/// Nothing and an empty list are the same.
fn differ(one: &Value, other: &Value) -> bool {
    let empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    one != other && !(empty(one) && empty(other))
}

/// The labels that are new, gone or different.
fn changed<'a>(new: &'a Value, old: &'a Value) -> BTreeSet<&'a str> {
    let names = [new, old].into_iter().flat_map(|labels| labels.as_object().into_iter().flatten());
    names.map(|(label, _)| label.as_str()).filter(|label| new.get(label) != old.get(label)).collect()
}

fn is_own_label(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let below = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    if below(RESTRICTED_DOMAIN) {
        return false;
    }
    let of_kubernetes = below("kubernetes.io") || below("k8s.io");
    !of_kubernetes || OWN_LABELS.contains(&label) || OWN_DOMAINS.into_iter().any(below)
}

/// The longest lifetime of a token for `audience` among the volumes of the pod.
fn longest_life(pod: &Value, audience: &str) -> Option<u64> {
    let projected = items(&pod["spec"], "volumes").iter().flat_map(|volume| items(&volume["projected"], "sources"));
    let tokens = projected.map(|source| &source["serviceAccountToken"]).filter(|token| token.is_object());
    let fitting = tokens.filter(|token| token["audience"].as_str().unwrap_or_default() == audience);
    fitting.map(|token| token["expirationSeconds"].as_u64().unwrap_or(TOKEN_SECONDS)).max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn which_labels_are_an_agents_own() {
        for (label, own) in [
            ("zone", true),
            ("example.com/x", true),
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/x", true),
            ("a.kubelet.kubernetes.io/x", true),
            ("node-restriction.kubernetes.io/x", false),
            ("a.node-restriction.kubernetes.io/x", false),
            ("node-role.kubernetes.io/control-plane", false),
            ("kubernetes.io/x", false),
            ("x.k8s.io/x", false),
            ("notkubernetes.io/x", true),
        ] {
            assert_eq!(is_own_label(label), own, "{label}");
        }
    }

    #[test]
    fn labels_that_change() {
        let changed = |new: Value, old: Value| changed(&new, &old).into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(changed(json!({"a": "1", "b": "2"}), json!({"b": "3", "c": "4"})), ["a", "b", "c"]);
        assert!(changed(json!({"a": "1"}), json!({"a": "1"})).is_empty());
        assert_eq!(changed(Value::Null, json!({"a": "1"})), ["a"]);
    }

    #[test]
    fn a_token_lives_as_long_as_a_volume_asks_for() {
        let source = |token: Value| json!({"serviceAccountToken": token});
        let volume = json!({"projected": {"sources": [
            source(json!({"path": "a", "expirationSeconds": 3607})),
            source(json!({"path": "b", "audience": "vault", "expirationSeconds": 600})),
            source(json!({"path": "c", "audience": "vault", "expirationSeconds": 7200})),
            source(json!({"path": "d", "audience": "other"})),
        ]}});
        let pod = json!({"spec": {"volumes": [{"name": "x"}, volume]}});
        for (audience, life) in [("", Some(3607)), ("vault", Some(7200)), ("other", Some(3600)), ("more", None)] {
            assert_eq!(longest_life(&pod, audience), life, "{audience}");
        }
    }
}
