//! The rules of limit ranges and resource quotas.

use std::collections::BTreeSet;

use serde_json::Value;

use super::common::{one_of, quantity, required, well_formed};
use super::field::{FieldErrors, Path};
use crate::kube::names;
use crate::kube::quantity::Quantity;
use crate::kube::resources::Part;
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
    for (index, scope) in items(spec, "scopes").iter().filter_map(Value::as_str).enumerate() {
        if !SCOPES.contains(&scope) {
            errors.not_supported(&path.child("scopes").index(index), scope, &SCOPES);
        }
    }
}

pub fn resource_quota_update(new: &Value, old: &Value, part: Part<'_>, errors: &mut FieldErrors) {
    if part == Part::Main && new["spec"]["scopes"] != old["spec"]["scopes"] {
        errors.invalid(&Path::new("spec.scopes"), new["spec"]["scopes"].clone(), super::common::IMMUTABLE);
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
