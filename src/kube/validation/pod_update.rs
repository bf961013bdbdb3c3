//! What of a pod may still change once it is there.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::common::IMMUTABLE;
use super::field::{FieldErrors, Path};
use super::pod::pod;
use crate::kube::defaults::qos;
use crate::kube::resources::Subresource;
use crate::kube::tree::{entries, has, items, items_mut, remove, text};

/// The annotation of pods that an agent shows but the API does not rule.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// What running containers can be given more or less of.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

const UPDATABLE: &str = "pod updates may not change fields other than \
     `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
     additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
     previously negative)";

/// What of a pod may still change, by the subresource that is written.
pub fn pod_update(new: &Value, old: &Value, subresource: Subresource<'_>, errors: &mut FieldErrors) {
    match subresource {
        Subresource::None => main_update(new, old, errors),
        Subresource::Other("ephemeralcontainers") => {
            pod(new, errors);
            ephemeral_update(new, old, errors);
        }
        Subresource::Other("resize") => {
            pod(new, errors);
            resize(new, old, errors);
        }
        Subresource::Status | Subresource::Other(_) => {}
    }
}

fn main_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let (mut new, old) = (new["spec"].clone(), &old["spec"]);
    for field in ["containers", "initContainers"] {
        if items(&new, field).len() != items(old, field).len() {
            errors.forbidden(&path.child(field), "pod updates may not add or remove containers");
            return;
        }
        let images: Vec<Value> = items(old, field).iter().map(|container| container["image"].clone()).collect();
        for (container, image) in items_mut(&mut new, field).zip(images) {
            container["image"] = image;
        }
    }
    deadline_update(&new, old, &path, errors);
    let added = items(&new, "tolerations");
    if items(old, "tolerations").iter().any(|toleration| !added.contains(toleration)) {
        errors.forbidden(
            &path.child("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
    let kept = |gate: &Value| items(old, "schedulingGates").contains(gate);
    if !items(&new, "schedulingGates").iter().all(kept) {
        errors.forbidden(&path.child("schedulingGates"), "only deletion is allowed, but found new scheduling gate");
    }
    let mut rest = old.clone();
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        remove(&mut new, field);
        remove(&mut rest, field);
    }
    let was_negative = rest["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0);
    if was_negative && new["terminationGracePeriodSeconds"] == json!(1) {
        rest["terminationGracePeriodSeconds"] = json!(1);
    }
    if new != rest {
        errors.forbidden(&path, UPDATABLE);
    }
}

/// A deadline may be set or come closer.
fn deadline_update(new: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("activeDeadlineSeconds");
    match (new["activeDeadlineSeconds"].as_i64(), old["activeDeadlineSeconds"].as_i64()) {
        (Some(new), Some(old)) if new > old => {
            errors.invalid(&path, new, format!("must be less than or equal to previous value: {old}"));
        }
        (None, Some(_)) => errors.invalid(&path, Value::Null, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

/// Ephemeral containers can be added, and that is all.
fn ephemeral_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec.ephemeralContainers");
    for (index, known) in items(&old["spec"], "ephemeralContainers").iter().enumerate() {
        let same = items(&new["spec"], "ephemeralContainers").iter().find(|one| one["name"] == known["name"]);
        match same {
            None => errors.forbidden(
                &path,
                format!("existing ephemeral containers {:?} may not be removed", text(known, "name")),
            ),
            Some(one) if one != known => errors.invalid(&path.index(index), one.clone(), IMMUTABLE),
            Some(_) => {}
        }
    }
}

/// Containers that run can get more or less processor time and memory; the class of the pod stays.
fn resize(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    if has(&old["metadata"]["annotations"], MIRROR) {
        errors.forbidden(&Path::new("metadata"), "static pods cannot be resized");
        return;
    }
    let class = qos::class(&new["spec"]);
    if class != qos::class(&old["spec"]) {
        errors.invalid(&path, class, "Pod QOS Class may not change as a result of resizing");
    }
    for field in ["containers", "initContainers"] {
        let pairs = items(&new["spec"], field).iter().zip(items(&old["spec"], field));
        for (index, (new, old)) in pairs.enumerate() {
            let path = path.child(field).index(index).child("resources");
            if new["resources"] == old["resources"] {
                continue;
            }
            if field == "initContainers" && text(old, "restartPolicy") != "Always" {
                errors.forbidden(&path, "resources of init containers that end cannot be resized");
                continue;
            }
            resize_container(&new["resources"], &old["resources"], &path, errors);
        }
    }
}

fn resize_container(new: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    for list in ["limits", "requests"] {
        let (new, old) = (entries(new, list), entries(old, list));
        let names: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
        for name in names {
            let path = path.child(list).key(name);
            match (new.get(name), old.get(name)) {
                (new, old) if new == old => {}
                _ if !RESIZABLE.contains(&name.as_str()) => {
                    errors.forbidden(&path, "only cpu and memory resources are mutable");
                }
                (None, _) => errors.forbidden(&path, format!("resource {list} cannot be removed")),
                _ => {}
            }
        }
    }
    if new.get("claims") != old.get("claims") {
        errors.forbidden(&path.child("claims"), "only cpu and memory resources are mutable");
    }
}
