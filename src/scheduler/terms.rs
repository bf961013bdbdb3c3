//! The conditions that pods put on nodes and on each other: tolerations, node affinity, pod affinity, topology spread.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::kube::selector::{Labels, Operator, Requirement, Selector};

/// Whether `tolerations` tolerate every taint that keeps pods away.
pub fn all_tolerated(tolerations: &[core::Toleration], taints: &[core::Taint]) -> bool {
    let mut keeping_away = taints.iter().filter(|taint| taint.effect != "PreferNoSchedule");
    keeping_away.all(|taint| tolerated(tolerations, taint))
}

/// Whether one of `tolerations` tolerates `taint`.
pub fn tolerated(tolerations: &[core::Toleration], taint: &core::Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

fn tolerates(toleration: &core::Toleration, taint: &core::Taint) -> bool {
    let empty_or = |field: &Option<String>, wanted: &str| field.as_deref().is_none_or(|f| f.is_empty() || f == wanted);
    if !empty_or(&toleration.effect, &taint.effect) || !empty_or(&toleration.key, &taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        Some(_) => false,
    }
}

/// A term of node affinity, compiled: labels and fields that must all match.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSelectorTerm {
    /// `None` matches nothing: the term is empty, or invalid.
    requirements: Option<NodeRequirements>,
}

#[derive(Clone, Debug, PartialEq)]
struct NodeRequirements {
    labels: Vec<Requirement>,
    /// Of `metadata.name`, the only field there is.
    names: Vec<Requirement>,
}

impl NodeSelectorTerm {
    pub fn new(term: &core::NodeSelectorTerm) -> NodeSelectorTerm {
        let labels = term.match_expressions.iter().flatten().map(node_requirement).collect::<Option<Vec<_>>>();
        let names = term.match_fields.iter().flatten().map(name_requirement).collect::<Option<Vec<_>>>();
        let requirements = match (labels, names) {
            (Some(labels), Some(names)) if labels.len() + names.len() > 0 => Some(NodeRequirements { labels, names }),
            _ => None,
        };
        NodeSelectorTerm { requirements }
    }

    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.requirements.as_ref().is_some_and(|requirements| {
            requirements.labels.iter().all(|requirement| requirement.matches(labels))
                && requirements.names.iter().all(|requirement| requirement.matches_value(Some(name)))
        })
    }
}

fn node_requirement(requirement: &core::NodeSelectorRequirement) -> Option<Requirement> {
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return None,
    };
    Requirement::checked(requirement.key.clone(), operator, requirement.values.clone().unwrap_or_default()).ok()
}

/// A name may be longer than a label, and is compared as it is.
fn name_requirement(requirement: &core::NodeSelectorRequirement) -> Option<Requirement> {
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        _ => return None,
    };
    let values = requirement.values.clone().unwrap_or_default();
    (requirement.key == "metadata.name").then(|| Requirement { key: requirement.key.clone(), operator, values })
}

/// A term of pod affinity or anti-affinity: which pods, and which node label names a topology domain.
#[derive(Clone, Debug, PartialEq)]
pub struct AffinityTerm {
    pub topology_key: String,
    selector: Selector,
    namespaces: Vec<String>,
    namespace_selector: Option<Selector>,
}

impl AffinityTerm {
    /// A term of a pod in `namespace`.
    pub fn new(term: &core::PodAffinityTerm, namespace: &str) -> AffinityTerm {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        AffinityTerm {
            topology_key: term.topology_key.clone(),
            selector: compile(term.label_selector.as_ref()),
            namespaces,
            namespace_selector: term.namespace_selector.as_ref().map(|selector| compile(Some(selector))),
        }
    }

    pub fn matches(&self, namespace: &str, labels: &Labels, namespaces: &BTreeMap<String, Labels>) -> bool {
        self.covers(namespace, namespaces) && self.selector.matches(labels)
    }

    /// Whether the term is about pods of `namespace`.
    pub fn covers(&self, namespace: &str, namespaces: &BTreeMap<String, Labels>) -> bool {
        self.namespaces.iter().any(|name| name == namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                selector.is_everything() || namespaces.get(namespace).is_some_and(|labels| selector.matches(labels))
            })
    }
}

/// A selector that does not compile selects nothing; the API refuses it.
fn compile(selector: Option<&LabelSelector>) -> Selector {
    Selector::from_label_selector(selector).unwrap_or_else(|_| Selector::nothing())
}

/// A constraint on how evenly pods are spread over the domains of a topology.
#[derive(Clone, Debug, PartialEq)]
pub struct SpreadConstraint {
    pub topology_key: String,
    pub max_skew: i64,
    pub min_domains: usize,
    /// Whether a node that would break it is ruled out (`DoNotSchedule`), or only scores lower.
    pub required: bool,
    pub selector: Selector,
    /// Whether it counts only nodes that match the pod's node affinity.
    pub honors_affinity: bool,
    /// Whether it counts only nodes whose taints the pod tolerates.
    pub honors_taints: bool,
}

impl SpreadConstraint {
    /// A constraint of a pod with `labels`.
    pub fn new(constraint: &core::TopologySpreadConstraint, labels: &Labels) -> SpreadConstraint {
        let mut selector = constraint.label_selector.clone().unwrap_or_default();
        for key in constraint.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector.match_labels.get_or_insert_default().insert(key.clone(), value.clone());
            }
        }
        let is_missing = constraint.label_selector.is_none() && constraint.match_label_keys.is_none();
        SpreadConstraint {
            topology_key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew),
            min_domains: constraint.min_domains.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
            required: constraint.when_unsatisfiable != "ScheduleAnyway",
            selector: if is_missing { Selector::nothing() } else { compile(Some(&selector)) },
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn labels(value: Value) -> Labels {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn tolerations_match_taints() {
        let taint = |value: Value| serde_json::from_value::<core::Taint>(value).unwrap();
        let dedicated = taint(json!({"key": "dedicated", "value": "db", "effect": "NoSchedule"}));
        for (toleration, tolerates) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "dedicated", "operator": "Exists"}), true),
            (json!({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "dedicated", "value": "db"}), true),
            (json!({"key": "dedicated", "operator": "Equal", "value": "web"}), false),
            (json!({"key": "other", "operator": "Exists"}), false),
            (json!({"key": "dedicated", "value": "db", "effect": "NoSchedule"}), true),
            (json!({"key": "dedicated", "operator": "Foo", "value": "db"}), false),
        ] {
            let parsed = serde_json::from_value(toleration.clone()).unwrap();
            assert_eq!(tolerated(&[parsed], &dedicated), tolerates, "{toleration}");
        }
    }

    #[test]
    fn node_terms_match_labels_and_names() {
        let n1 = labels(json!({"zone": "a", "cores": "16"}));
        for (term, matches) in [
            (json!({}), false),
            (json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}), true),
            (json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}), false),
            (json!({"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["8"]}]}), true),
            (json!({"matchExpressions": [{"key": "cores", "operator": "Lt", "values": ["8"]}]}), false),
            (json!({"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}), false),
            (json!({"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}), true),
            (json!({"matchExpressions": [{"key": "zone", "operator": "Like", "values": ["a"]}]}), false),
            (json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}), true),
            (json!({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}), false),
            (json!({"matchFields": [{"key": "metadata.uid", "operator": "In", "values": ["n1"]}]}), false),
        ] {
            let parsed = NodeSelectorTerm::new(&serde_json::from_value(term.clone()).unwrap());
            assert_eq!(parsed.matches("n1", &n1), matches, "{term}");
        }
    }

    #[test]
    fn pod_terms_mean_their_own_namespace_unless_they_say_otherwise() {
        let namespaces = BTreeMap::from([("prod".to_owned(), labels(json!({"env": "prod"})))]);
        let www = labels(json!({"app": "www"}));
        let base = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "www"}}});
        let matches = |more: Value, namespace: &str| {
            let mut term = base.clone();
            term.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            AffinityTerm::new(&serde_json::from_value(term).unwrap(), "default").matches(namespace, &www, &namespaces)
        };
        assert!(matches(json!({}), "default"));
        assert!(!matches(json!({}), "prod"));
        assert!(matches(json!({"namespaces": ["prod"]}), "prod"));
        assert!(!matches(json!({"namespaces": ["prod"]}), "default"));
        assert!(matches(json!({"namespaceSelector": {}}), "anywhere"));
        assert!(matches(json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}), "prod"));
        assert!(!matches(json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}), "default"));
        assert!(!matches(json!({"labelSelector": null}), "default"), "no selector selects nothing");
    }
}
