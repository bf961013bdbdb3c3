//! The scopes of quotas: which pods one counts. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde_json::Value;

use crate::kube::defaults::qos;
use crate::kube::selector::Selector;
use crate::kube::tree::{has, items, text};

/// What scopes ask about a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    terminating: bool,
    best_effort: bool,
    cross_namespace_affinity: bool,
    priority_class: String,
}

impl Scopes {
    pub fn of(pod: &Value) -> Scopes {
        let spec = &pod["spec"];
        Scopes {
            terminating: spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0),
            best_effort: qos::class(spec) == "BestEffort",
            cross_namespace_affinity: affinity_terms(spec)
                .any(|term| !items(term, "namespaces").is_empty() || has(term, "namespaceSelector")),
            priority_class: text(spec, "priorityClassName").to_owned(),
        }
    }

    fn has(&self, scope: &str) -> bool {
        match scope {
            "Terminating" => self.terminating,
            "NotTerminating" => !self.terminating,
            "BestEffort" => self.best_effort,
            "NotBestEffort" => !self.best_effort,
            "CrossNamespacePodAffinity" => self.cross_namespace_affinity,
            "PriorityClass" => !self.priority_class.is_empty(),
            _ => false,
        }
    }

    fn meets(&self, requirement: &Value) -> bool {
        let scope = text(requirement, "scopeName");
        let operator = text(requirement, "operator");
        if scope != "PriorityClass" || operator == "Exists" {
            return self.has(scope);
        }
        // The selector sees the class as a label whose key is the scope's name.
        let values = items(requirement, "values").iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let expression =
            LabelSelectorRequirement { key: scope.to_owned(), operator: operator.to_owned(), values: Some(values) };
        let selector = LabelSelector { match_expressions: Some(vec![expression]), ..LabelSelector::default() };
        let class = Some(&self.priority_class).filter(|class| !class.is_empty());
        let labels: BTreeMap<String, String> =
            class.into_iter().map(|class| (scope.to_owned(), class.clone())).collect();
        Selector::from_label_selector(Some(&selector)).is_ok_and(|selector| selector.matches(&labels))
    }
}

fn affinity_terms(spec: &Value) -> impl Iterator<Item = &Value> {
    ["podAffinity", "podAntiAffinity"].into_iter().flat_map(|kind| {
        let affinity = &spec["affinity"][kind];
        let required = items(affinity, "requiredDuringSchedulingIgnoredDuringExecution").iter();
        let preferred = items(affinity, "preferredDuringSchedulingIgnoredDuringExecution").iter();
        required.chain(preferred.map(|preferred| &preferred["podAffinityTerm"]))
    })
}

/// Does the quota count objects of these scopes? `None` is for objects other than pods: a quota with scopes counts none
/// of them.
pub fn counts(quota: &Value, scopes: Option<&Scopes>) -> bool {
    let spec = &quota["spec"];
    let plain = items(spec, "scopes");
    let requirements = items(&spec["scopeSelector"], "matchExpressions");
    match scopes {
        None => plain.is_empty() && requirements.is_empty(),
        Some(scopes) => {
            plain.iter().all(|scope| scopes.has(scope.as_str().unwrap_or_default()))
                && requirements.iter().all(|requirement| scopes.meets(requirement))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn counts_pod(quota: Value, spec: Value) -> bool {
        counts(&json!({"spec": quota}), Some(&Scopes::of(&json!({"spec": spec}))))
    }

    #[test]
    fn scopes_choose_pods() {
        let limited = json!({"containers": [{"resources": {"limits": {"cpu": "1"}}}]});
        let bare = json!({"containers": [{}]});
        let term = json!({"topologyKey": "zone", "namespaces": ["other"]});
        let crossing = json!({"affinity": {"podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}}});
        for (scope, pod, expected) in [
            ("BestEffort", &bare, true),
            ("BestEffort", &limited, false),
            ("NotBestEffort", &limited, true),
            ("Terminating", &json!({"activeDeadlineSeconds": 5}), true),
            ("Terminating", &bare, false),
            ("NotTerminating", &bare, true),
            ("CrossNamespacePodAffinity", &crossing, true),
            ("CrossNamespacePodAffinity", &bare, false),
            ("PriorityClass", &json!({"priorityClassName": "high"}), true),
            ("PriorityClass", &bare, false),
        ] {
            assert_eq!(counts_pod(json!({"scopes": [scope]}), pod.clone()), expected, "{scope} {pod}");
            let requirement = json!([{"scopeName": scope, "operator": "Exists"}]);
            let selector = json!({"scopeSelector": {"matchExpressions": requirement}});
            assert_eq!(counts_pod(selector, pod.clone()), expected, "{scope} {pod}");
        }
    }

    #[test]
    fn a_selector_chooses_by_class() {
        for (operator, values, class, expected) in [
            ("In", json!(["high", "top"]), "high", true),
            ("In", json!(["high"]), "low", false),
            ("In", json!(["high"]), "", false),
            ("NotIn", json!(["high"]), "low", true),
            ("NotIn", json!(["high"]), "", true),
            ("NotIn", json!(["high"]), "high", false),
            ("DoesNotExist", json!([]), "", true),
            ("DoesNotExist", json!([]), "high", false),
        ] {
            let requirement = json!([{"scopeName": "PriorityClass", "operator": operator, "values": values}]);
            let selector = json!({"scopeSelector": {"matchExpressions": requirement}});
            assert_eq!(counts_pod(selector, json!({"priorityClassName": class})), expected, "{operator} {class}");
        }
    }

    #[test]
    fn other_objects_have_no_scopes() {
        assert!(counts(&json!({"spec": {"hard": {}}}), None));
        assert!(!counts(&json!({"spec": {"scopes": ["NotTerminating"]}}), None));
    }
}
