//! The rules of nodes, events and leases.

use std::collections::BTreeSet;

use serde_json::Value;

use super::common::{one_of, quantity, well_formed};
use super::field::{FieldErrors, Path};
use crate::kube::names;
use crate::kube::resources::Subresource;
use crate::kube::tree::{entries, has, items, text};

pub fn node(object: &Value, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (index, taint) in items(&object["spec"], "taints").iter().enumerate() {
        let path = Path::new("spec.taints").index(index);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        well_formed(names::qualified_name(key), key, &path.child("key"), errors);
        well_formed(names::label_value(value), value, &path.child("value"), errors);
        if effect.is_empty() {
            errors.required(&path.child("effect"), "");
        }
        one_of(taint, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"], &path, errors);
        if !seen.insert((key, effect)) {
            errors.duplicate(&path, taint.clone());
        }
    }
    for field in ["capacity", "allocatable"] {
        for (name, amount) in entries(&object["status"], field) {
            quantity(amount, &Path::new("status").child(field).key(name), errors);
        }
    }
}

/// What a node is, once said, stays.
pub fn node_update(new: &Value, old: &Value, _: Subresource<'_>, errors: &mut FieldErrors) {
    let (new, old) = (&new["spec"], &old["spec"]);
    if !text(old, "podCIDR").is_empty() && new["podCIDR"] != old["podCIDR"] {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.forbidden(&Path::new("spec.podCIDRs"), detail);
    }
    if !text(old, "providerID").is_empty() && new["providerID"] != old["providerID"] {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(&Path::new("spec.providerID"), detail);
    }
}

pub fn event(object: &Value, errors: &mut FieldErrors) {
    let involved = text(&object["involvedObject"], "namespace");
    let namespace = text(&object["metadata"], "namespace");
    let path = Path::new("involvedObject.namespace");
    // Events about what has no namespace are kept in the default one.
    let is_fine = match involved {
        "" => matches!(namespace, "" | "default" | "kube-system"),
        involved => involved == namespace,
    };
    if !is_fine {
        errors.invalid(&path, involved, "does not match event.namespace");
    }
}

pub fn lease(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    if let Some(seconds) = spec["leaseDurationSeconds"].as_i64()
        && seconds <= 0
    {
        errors.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    if let Some(count) = spec["leaseTransitions"].as_i64()
        && count < 0
    {
        errors.invalid(&path.child("leaseTransitions"), count, "must be greater than or equal to 0");
    }
    if has(spec, "preferredHolder") && text(spec, "strategy").is_empty() {
        let detail = "cannot be specified when `strategy` is not set";
        errors.forbidden(&path.child("preferredHolder"), detail);
    }
}
