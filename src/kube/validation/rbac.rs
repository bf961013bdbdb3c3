//! The rules of roles and their bindings.

use serde_json::Value;

use super::common::{required, well_formed};
use super::field::{FieldErrors, Path};
use crate::kube::names;
use crate::kube::resources::Subresource;
use crate::kube::tree::{items, text};

const GROUP: &str = "rbac.authorization.k8s.io";

pub fn role(object: &Value, errors: &mut FieldErrors) {
    rules(object, true, errors);
}

pub fn cluster_role(object: &Value, errors: &mut FieldErrors) {
    rules(object, false, errors);
}

fn rules(object: &Value, is_namespaced: bool, errors: &mut FieldErrors) {
    for (index, rule) in items(object, "rules").iter().enumerate() {
        let path = Path::new("rules").index(index);
        if items(rule, "verbs").is_empty() {
            errors.required(&path.child("verbs"), "verbs must contain at least one value");
        }
        let paths = items(rule, "nonResourceURLs");
        if !paths.is_empty() {
            let urls_path = path.child("nonResourceURLs");
            if is_namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.invalid(&urls_path, Value::from(paths), detail);
            }
            if !items(rule, "apiGroups").is_empty()
                || !items(rule, "resources").is_empty()
                || !items(rule, "resourceNames").is_empty()
            {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&urls_path, Value::from(paths), detail);
            }
            continue;
        }
        if items(rule, "apiGroups").is_empty() {
            errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
        }
        if items(rule, "resources").is_empty() {
            errors.required(&path.child("resources"), "resource rules must supply at least one resource");
        }
    }
}

pub fn role_binding(object: &Value, errors: &mut FieldErrors) {
    binding(object, &["ClusterRole", "Role"], errors);
}

pub fn cluster_role_binding(object: &Value, errors: &mut FieldErrors) {
    binding(object, &["ClusterRole"], errors);
}

fn binding(object: &Value, kinds: &[&str], errors: &mut FieldErrors) {
    let (role, path) = (&object["roleRef"], Path::new("roleRef"));
    if text(role, "apiGroup") != GROUP {
        errors.not_supported(&path.child("apiGroup"), text(role, "apiGroup"), &[GROUP]);
    }
    if !kinds.contains(&text(role, "kind")) {
        errors.not_supported(&path.child("kind"), text(role, "kind"), kinds);
    }
    if required(role, "name", &path, errors) {
        let name = text(role, "name");
        well_formed(names::path_segment(name, false), name, &path.child("name"), errors);
    }
    for (index, one) in items(object, "subjects").iter().enumerate() {
        subject(one, &Path::new("subjects").index(index), errors);
    }
}

fn subject(subject: &Value, path: &Path, errors: &mut FieldErrors) {
    required(subject, "name", path, errors);
    let group = text(subject, "apiGroup");
    match text(subject, "kind") {
        "ServiceAccount" => {
            let name = text(subject, "name");
            if !name.is_empty() {
                well_formed(names::dns_subdomain(name, false), name, &path.child("name"), errors);
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            required(subject, "namespace", path, errors);
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
            }
        }
        other => errors.not_supported(&path.child("kind"), other, &["Group", "ServiceAccount", "User"]),
    }
}

/// The role of a binding is immutable; its subjects may change.
pub fn binding_update(new: &Value, old: &Value, _: Subresource<'_>, errors: &mut FieldErrors) {
    if new["roleRef"] != old["roleRef"] {
        errors.invalid(&Path::new("roleRef"), new["roleRef"].clone(), "cannot change roleRef");
    }
}
