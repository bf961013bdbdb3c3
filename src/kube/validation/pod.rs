//! The rules of pods and pod templates.

use serde_json::Value;

use super::common::{label_selector, not_negative, one_of, required, well_formed};
use super::field::{FieldErrors, Path};
use super::metadata::validate_labels;
use super::{containers, volumes};
use crate::kube::names;
use crate::kube::tree::{entries, has, items, text};

pub fn pod(pod: &Value, errors: &mut FieldErrors) {
    pod_spec(&pod["spec"], &Path::new("spec"), errors);
}

/// What only a pod that is there already may have.
pub fn new_pod(pod: &Value, errors: &mut FieldErrors) {
    if !items(&pod["spec"], "ephemeralContainers").is_empty() {
        errors.forbidden(&Path::new("spec.ephemeralContainers"), "cannot be set on create");
    }
}

/// The `template` of something that makes pods.
pub fn template(template: &Value, path: &Path, errors: &mut FieldErrors) {
    validate_labels(&template["metadata"]["labels"], &path.child("metadata.labels"), errors);
    for key in entries(&template["metadata"], "annotations").keys() {
        well_formed(names::qualified_name(&key.to_lowercase()), key, &path.child("metadata.annotations"), errors);
    }
    pod_spec(&template["spec"], &path.child("spec"), errors);
    if !items(&template["spec"], "ephemeralContainers").is_empty() {
        errors.forbidden(&path.child("spec.ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

fn pod_spec(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let volumes = volumes::volumes(spec, path, errors);
    containers::all(spec, &volumes, path, errors);
    required(spec, "restartPolicy", path, errors);
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    required(spec, "dnsPolicy", path, errors);
    one_of(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], path, errors);
    not_negative(spec, "terminationGracePeriodSeconds", path, errors);
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64()
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, "must be between 1 and 2147483647, inclusive");
    }
    validate_labels(&spec["nodeSelector"], &path.child("nodeSelector"), errors);
    let subdomain = |field: &str, errors: &mut FieldErrors| {
        let name = text(spec, field);
        if !name.is_empty() {
            well_formed(names::dns_subdomain(name, false), name, &path.child(field), errors);
        }
    };
    for field in ["serviceAccountName", "nodeName", "priorityClassName"] {
        subdomain(field, errors);
    }
    for field in ["hostname", "subdomain"] {
        let name = text(spec, field);
        if !name.is_empty() {
            well_formed(names::dns_label(name, false), name, &path.child(field), errors);
        }
    }
    for (index, gate) in items(spec, "readinessGates").iter().enumerate() {
        let type_ = text(gate, "conditionType");
        let path = path.child("readinessGates").index(index).child("conditionType");
        well_formed(names::qualified_name(type_), type_, &path, errors);
    }
    for (index, gate) in items(spec, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        well_formed(names::qualified_name(name), name, &path.child("schedulingGates").index(index), errors);
    }
    tolerations(spec, path, errors);
    affinity(&spec["affinity"], &path.child("affinity"), errors);
    topology_spread(spec, path, errors);
}

fn tolerations(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, toleration) in items(spec, "tolerations").iter().enumerate() {
        let path = path.child("tolerations").index(index);
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        if !key.is_empty() {
            well_formed(names::qualified_name(key), key, &path.child("key"), errors);
        }
        if key.is_empty() && operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&path.child("operator"), operator, detail);
        }
        if has(toleration, "tolerationSeconds") && text(toleration, "effect") != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), text(toleration, "effect"), detail);
        }
        match operator {
            "" | "Equal" => {
                let value = text(toleration, "value");
                well_formed(names::label_value(value), value, &path.child("operator"), errors);
            }
            "Exists" if !text(toleration, "value").is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.invalid(&path.child("operator"), text(toleration, "value"), detail);
            }
            _ => {}
        }
        one_of(toleration, "operator", &["Equal", "Exists"], &path, errors);
        one_of(toleration, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"], &path, errors);
    }
}

fn affinity(affinity: &Value, path: &Path, errors: &mut FieldErrors) {
    let node = &affinity["nodeAffinity"];
    let node_path = path.child("nodeAffinity");
    let wanted = &node["requiredDuringSchedulingIgnoredDuringExecution"];
    if wanted.is_object() {
        let path = node_path.child("requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
        if items(wanted, "nodeSelectorTerms").is_empty() {
            errors.required(&path, "must have at least one node selector term");
        }
        for (index, term) in items(wanted, "nodeSelectorTerms").iter().enumerate() {
            node_term(term, &path.index(index), errors);
        }
    }
    for (index, preferred) in items(node, "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
        let path = node_path.child("preferredDuringSchedulingIgnoredDuringExecution").index(index);
        weight(preferred, &path, errors);
        node_term(&preferred["preference"], &path.child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let path = path.child(kind);
        let required_path = path.child("requiredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in items(&affinity[kind], "requiredDuringSchedulingIgnoredDuringExecution").iter().enumerate()
        {
            pod_term(term, &required_path.index(index), errors);
        }
        let preferred_path = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (index, preferred) in
            items(&affinity[kind], "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate()
        {
            let path = preferred_path.index(index);
            weight(preferred, &path, errors);
            pod_term(&preferred["podAffinityTerm"], &path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(preferred: &Value, path: &Path, errors: &mut FieldErrors) {
    let weight = preferred["weight"].as_i64().unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node_term(term: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, expression) in items(term, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = items(expression, "values");
        match text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&path.child("values"), detail);
            }
            "Gt" | "Lt" if values.len() != 1 => {
                errors
                    .required(&path.child("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        let key = text(expression, "key");
        well_formed(names::qualified_name(key), key, &path.child("key"), errors);
    }
}

fn pod_term(term: &Value, path: &Path, errors: &mut FieldErrors) {
    label_selector(&term["labelSelector"], &path.child("labelSelector"), errors);
    let key = text(term, "topologyKey");
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    } else {
        well_formed(names::qualified_name(key), key, &path.child("topologyKey"), errors);
    }
}

fn topology_spread(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, constraint) in items(spec, "topologySpreadConstraints").iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(index);
        let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&path.child("maxSkew"), skew, "must be greater than zero");
        }
        if text(constraint, "topologyKey").is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        if text(constraint, "whenUnsatisfiable").is_empty() {
            errors.not_supported(&path.child("whenUnsatisfiable"), "", &["DoNotSchedule", "ScheduleAnyway"]);
        }
        one_of(constraint, "whenUnsatisfiable", &["DoNotSchedule", "ScheduleAnyway"], &path, errors);
        label_selector(&constraint["labelSelector"], &path.child("labelSelector"), errors);
    }
}
