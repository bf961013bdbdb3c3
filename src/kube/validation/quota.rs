//! The rules of limit ranges and resource quotas.

use std::collections::BTreeSet;

use serde_json::Value;

use super::common::{one_of, quantity, required, well_formed};
use super::field::{FieldErrors, Path};
use crate::kube::names;
use crate::kube::quantity::Quantity;
use crate::kube::resources::Subresource;
use crate::kube::tree::{entries, items, plain, text};

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

pub fn limit_range(object: &Value, errors: &mut FieldErrors) {
    let mut types = BTreeSet::new();
    for (index, limit) in items(&object["spec"], "limits").iter().enumerate() {
        let path = Path::new("spec.limits").index(index);
        let type_ = text(limit, "type");
        required(limit, "type", &path, errors);
        one_of(limit, "type", &["Container", "PersistentVolumeClaim", "Pod"], &path, errors);
        if !types.insert(type_) {
            errors.duplicate(&path.child("type"), type_);
        }
        if type_ == "Pod" {
            for field in ["default", "defaultRequest"] {
                if !entries(limit, field).is_empty() {
                    errors.forbidden(&path.child(field), "may not be specified when `type` is 'Pod'");
                }
            }
        }
        one_limit(limit, &path, errors);
    }
}

/// `min <= defaultRequest <= default <= max`, wherever two of them are given.
fn one_limit(limit: &Value, path: &Path, errors: &mut FieldErrors) {
    let ordered = ["min", "defaultRequest", "default", "max"];
    let words = ["min", "default request", "default", "max"];
    let mut names = BTreeSet::new();
    for field in ordered {
        for (name, amount) in entries(limit, field) {
            names.insert(name.as_str());
            quantity(amount, &path.child(field).key(name), errors);
        }
    }
    for name in names {
        let amount = |field: &str| -> Option<Quantity> { plain(entries(limit, field).get(name)?).parse().ok() };
        for lower in 0..ordered.len() {
            for upper in lower + 1..ordered.len() {
                let (Some(low), Some(high)) = (amount(ordered[lower]), amount(ordered[upper])) else { continue };
                if low > high {
                    let detail = format!("{} value {low} is greater than {} value {high}", words[lower], words[upper]);
                    errors.invalid(&path.child(ordered[lower]).key(name), low.to_string(), detail);
                }
            }
        }
    }
}

pub fn resource_quota(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    hard(spec, &path, errors);
    scopes(spec, &path, errors);
    scope_selector(spec, &path.child("scopeSelector.matchExpressions"), errors);
}

/// Scopes that exclude each other.
const OPPOSITES: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

fn scopes(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("scopes");
    let all: BTreeSet<&str> = items(spec, "scopes").iter().filter_map(Value::as_str).collect();
    for (index, scope) in items(spec, "scopes").iter().filter_map(Value::as_str).enumerate() {
        one_scope(scope, spec, &path.index(index), errors);
    }
    if OPPOSITES.iter().any(|pair| pair.iter().all(|scope| all.contains(scope))) {
        errors.invalid(&path, spec["scopes"].clone(), "conflicting scopes");
    }
}

/// A scope is one of pods, and limits what pods use.
fn one_scope(scope: &str, spec: &Value, path: &Path, errors: &mut FieldErrors) {
    if !SCOPES.contains(&scope) {
        errors.not_supported(path, scope, &SCOPES);
        return;
    }
    let is_fine = |name: &str| match scope {
        "BestEffort" => name == "pods" || name == "count/pods",
        "VolumeAttributesClass" => name.contains("storage") || name.contains("persistentvolumeclaims"),
        _ => {
            matches!(name, "pods" | "count/pods" | "cpu" | "memory" | "ephemeral-storage")
                || ["requests.", "limits.", "hugepages-"].iter().any(|front| name.starts_with(front))
        }
    };
    if !entries(spec, "hard").keys().all(|name| is_fine(name)) {
        errors.invalid(path, scope, "unsupported scope applied to resource");
    }
}

fn scope_selector(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, requirement) in items(&spec["scopeSelector"], "matchExpressions").iter().enumerate() {
        let path = path.index(index);
        required(requirement, "scopeName", &path, errors);
        let (scope, operator) = (text(requirement, "scopeName"), text(requirement, "operator"));
        if !scope.is_empty() {
            one_scope(scope, spec, &path.child("scopeName"), errors);
        }
        if operator != "Exists" && !matches!(scope, "PriorityClass" | "VolumeAttributesClass") {
            let detail = format!("must be 'Exists' for the scope {scope}");
            errors.invalid(&path.child("operator"), operator, detail);
            continue;
        }
        let has_values = !items(requirement, "values").is_empty();
        match operator {
            "In" | "NotIn" if !has_values => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&path.child("values"), detail);
            }
            "Exists" | "DoesNotExist" if has_values => {
                let detail = "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector";
                errors.invalid(&path.child("values"), requirement["values"].clone(), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
    }
}

pub fn resource_quota_update(new: &Value, old: &Value, subresource: Subresource<'_>, errors: &mut FieldErrors) {
    for field in ["scopes", "scopeSelector"] {
        if subresource == Subresource::None && new["spec"][field] != old["spec"][field] {
            let path = Path::new("spec").child(field);
            errors.invalid(&path, new["spec"][field].clone(), super::common::IMMUTABLE);
        }
    }
}

fn hard(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for (name, amount) in entries(spec, "hard") {
        let path = path.child("hard").key(name);
        well_formed(names::qualified_name(name), name, &path, errors);
        let is_counted = name.starts_with("count/") || is_object_count(name);
        if let Some(amount) = quantity(amount, &path, errors)
            && is_counted
            && amount.millis() % 1000 != 0
        {
            errors.invalid(&path, amount.to_string(), "must be an integer");
        }
    }
}

fn is_object_count(name: &str) -> bool {
    let counts = [
        "configmaps",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "services",
        "services.loadbalancers",
        "services.nodeports",
    ];
    counts.contains(&name)
}
