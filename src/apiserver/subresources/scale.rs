//! `*/scale`: the replicas of an object as `autoscaling/v1 Scale`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::apiserver::request::{Api, Outcome, RequestInfo, UpdatedObjectInfo, no_apply};
use crate::kube::client::{PatchType, Response, Target};
use crate::kube::object::Object;
use crate::kube::patch;
use crate::kube::status::Status;

/// The name of its schema.
const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";

impl Api {
    pub(super) async fn scale(&self, info: &RequestInfo<'_>) -> Result<Outcome, Status> {
        let stored = self.storage.get(info.resource, info.namespace(), info.name()?).await?;
        shown(&scale_of(&stored.object.value()))
    }

    pub(super) async fn set_scale(&self, info: &RequestInfo<'_>, scale: Value) -> Result<Outcome, Status> {
        let mut patch = json!({"spec": {"replicas": replicas(&scale)?}});
        for field in ["resourceVersion", "uid"] {
            if let Some(value) = scale["metadata"][field].as_str().filter(|value| !value.is_empty()) {
                patch["metadata"][field] = json!(value);
            }
        }
        let bytes = serde_json::to_vec(&patch).expect("JSON values serialize");
        let target = Target { subresource: None, ..info.target.clone() };
        let info = RequestInfo { target: &target, ..*info };
        let outcome = self.update(&info, UpdatedObjectInfo::Patch(PatchType::Merge, &bytes)).await?;
        match outcome.response {
            Response::Object(object) => shown(&scale_of(&object.value())),
            other => Ok(Outcome::of(other)),
        }
    }

    pub(super) async fn patch_scale(
        &self,
        info: &RequestInfo<'_>,
        kind: PatchType,
        body: &[u8],
    ) -> Result<Outcome, Status> {
        let stored = self.storage.get(info.resource, info.namespace(), info.name()?).await?;
        let old = scale_of(&stored.object.value());
        // Nothing in a scale has a merge key, so that both kinds of merge patch mean the same.
        let kind = match kind {
            PatchType::Json => PatchType::Json,
            PatchType::Merge | PatchType::Strategic => PatchType::Merge,
            PatchType::Apply => return Err(no_apply()),
        };
        let mut new = patch::patch(&self.schemas, SCALE, kind, body, &old)?;
        // The client did not ask for the version that the patched scale came with.
        if new["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"] {
            new["metadata"]["resourceVersion"] = Value::Null;
        }
        self.set_scale(info, new).await
    }
}

fn replicas(scale: &Value) -> Result<i64, Status> {
    match &scale["spec"]["replicas"] {
        Value::Null => Ok(0),
        value => value.as_i64().filter(|replicas| *replicas >= 0).ok_or_else(|| {
            let name = scale["metadata"]["name"].as_str().unwrap_or_default();
            let text = format!("spec.replicas: Invalid value: {value}: must be greater than or equal to 0");
            Status::invalid_with("autoscaling", "Scale", name, &text, Vec::new())
        }),
    }
}

fn scale_of(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut shown = json!({"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
        "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"]});
    if let Some(shown) = shown.as_object_mut() {
        shown.retain(|_, value| !value.is_null());
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": shown,
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(1)},
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0), "selector": selector(&object["spec"]["selector"])},
    })
}

/// A selector as text: labels of a ReplicationController, or the structured form.
fn selector(selector: &Value) -> String {
    let structured = selector["matchLabels"].is_object() || selector["matchExpressions"].is_array();
    let labels = if structured { &selector["matchLabels"] } else { selector };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut terms: Vec<String> =
        labels.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value))).collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let (key, values) = (text(&expression["key"]), expression["values"].as_array().cloned().unwrap_or_default());
        let values = values.iter().map(text).collect::<Vec<_>>().join(",");
        terms.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key,
        });
    }
    terms.join(",")
}

fn shown(scale: &Value) -> Result<Outcome, Status> {
    let object = Object::from_value(scale).map_err(Status::internal_error)?;
    Ok(Outcome::of(Response::Object(Arc::new(object))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_as_text() {
        assert_eq!(selector(&json!({"app": "www"})), "app=www");
        let structured = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "t", "operator": "In", "values": ["x", "y"]}, {"key": "z", "operator": "DoesNotExist"}]});
        assert_eq!(selector(&structured), "a=b,t in (x,y),!z");
    }

    #[test]
    fn replicas_are_never_negative() {
        assert_eq!(replicas(&json!({"spec": {"replicas": 3}})), Ok(3));
        assert_eq!(replicas(&json!({})), Ok(0));
        assert_eq!(replicas(&json!({"spec": {"replicas": -1}})).unwrap_err().code, 422);
        assert_eq!(replicas(&json!({"spec": {"replicas": "3"}})).unwrap_err().code, 422);
    }
}
