//! The rules of deployments, replica sets, replication controllers.

use serde_json::{Value, json};

use super::common::{count_or_percent, immutable, is_zero, label_selector, not_negative, one_of, selects};
use super::field::{FieldErrors, Path};
use super::pod;
use crate::kube::resources::Subresource;
use crate::kube::tree::{entries, has, items, text};

pub fn deployment(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    replicas(spec, &path, errors);
    selector(spec, &path, errors);
    template(spec, &path, errors);
    strategy(&spec["strategy"], &path.child("strategy"), errors);
    not_negative(spec, "minReadySeconds", &path, errors);
    not_negative(spec, "revisionHistoryLimit", &path, errors);
    not_negative(spec, "progressDeadlineSeconds", &path, errors);
    let min_ready = spec["minReadySeconds"].as_i64().unwrap_or(0);
    if let Some(deadline) = spec["progressDeadlineSeconds"].as_i64()
        && deadline <= min_ready
    {
        errors.invalid(&path.child("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds");
    }
}

fn strategy(strategy: &Value, path: &Path, errors: &mut FieldErrors) {
    one_of(strategy, "type", &["Recreate", "RollingUpdate"], path, errors);
    let rolling = &strategy["rollingUpdate"];
    let rolling_path = path.child("rollingUpdate");
    match text(strategy, "type") {
        "Recreate" if rolling.is_object() => {
            errors.forbidden(&rolling_path, "may not be specified when strategy `type` is 'Recreate'");
        }
        "RollingUpdate" => {
            count_or_percent(rolling, "maxUnavailable", &rolling_path, errors);
            count_or_percent(rolling, "maxSurge", &rolling_path, errors);
            if is_zero(&rolling["maxUnavailable"]) && is_zero(&rolling["maxSurge"]) {
                let path = rolling_path.child("maxUnavailable");
                errors.invalid(&path, rolling["maxUnavailable"].clone(), "may not be 0 when `maxSurge` is 0");
            }
            let over_all = |value: &Value| {
                let percent = value.as_str().and_then(|text| text.strip_suffix('%'));
                percent.and_then(|digits| digits.parse::<u64>().ok()).is_some_and(|percent| percent > 100)
            };
            if over_all(&rolling["maxUnavailable"]) {
                let path = rolling_path.child("maxUnavailable");
                errors.invalid(&path, rolling["maxUnavailable"].clone(), "must not be greater than 100%");
            }
        }
        _ => {}
    }
}

pub fn replica_set(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    replicas(spec, &path, errors);
    not_negative(spec, "minReadySeconds", &path, errors);
    selector(spec, &path, errors);
    template(spec, &path, errors);
}

/// What selects the pods of a deployment or replica set cannot change.
pub fn selector_update(new: &Value, old: &Value, subresource: Subresource<'_>, errors: &mut FieldErrors) {
    if subresource == Subresource::None {
        immutable(&new["spec"], &old["spec"], "selector", &Path::new("spec"), errors);
    }
}

pub fn replication_controller(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    replicas(spec, &path, errors);
    not_negative(spec, "minReadySeconds", &path, errors);
    if entries(spec, "selector").is_empty() {
        errors.required(&path.child("selector"), "");
    }
    if !has(spec, "template") {
        errors.required(&path.child("template"), "");
        return;
    }
    template_labels(spec, &json!({"matchLabels": spec["selector"]}), &path, errors);
    template(spec, &path, errors);
}

fn replicas(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    not_negative(spec, "replicas", path, errors);
}

fn selector(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let selector = &spec["selector"];
    let selector_path = path.child("selector");
    if !selector.is_object() {
        errors.required(&selector_path, "");
        return;
    }
    label_selector(selector, &selector_path, errors);
    if entries(selector, "matchLabels").is_empty() && items(selector, "matchExpressions").is_empty() {
        errors.invalid(&selector_path, selector.clone(), "empty selector is invalid for deployment");
        return;
    }
    template_labels(spec, selector, path, errors);
}

fn template_labels(spec: &Value, selector: &Value, path: &Path, errors: &mut FieldErrors) {
    let labels = spec["template"]["metadata"].get("labels").cloned().unwrap_or_else(|| json!({}));
    if !selects(selector, &labels) {
        let path = path.child("template.metadata.labels");
        errors.invalid(&path, labels, "`selector` does not match template `labels`");
    }
}

/// Pods that are kept at a count run for ever.
fn template(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("template");
    pod::template(&spec["template"], &path, errors);
    let policy = text(&spec["template"]["spec"], "restartPolicy");
    if !matches!(policy, "" | "Always") {
        errors.not_supported(&path.child("spec.restartPolicy"), policy, &["Always"]);
    }
    if has(&spec["template"]["spec"], "activeDeadlineSeconds") {
        let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.forbidden(&path.child("spec.activeDeadlineSeconds"), detail);
    }
}
