//! `pods/binding`: the scheduler gives a pod its node, once. `pods/eviction`: a deletion that may be refused.

use serde_json::{Value, json};

use super::creation;
use crate::apiserver::codec;
use crate::apiserver::request::{Api, Outcome, RequestInfo, timestamp};
use crate::apiserver::storage::{Committed, Write};
use crate::kube::client::{DeleteOptions, WriteOptions};
use crate::kube::status::Status;
use crate::world::planted::planted;

impl Api {
    pub(super) async fn bind(&self, info: &RequestInfo<'_>, binding: &Value) -> Result<Outcome, Status> {
        let name = info.name()?;
        let node = binding["target"]["name"].as_str().unwrap_or_default();
        if node.is_empty() || !matches!(binding["target"]["kind"].as_str(), None | Some("" | "Node")) {
            return Err(Status::bad_request("a binding's target has to be a Node with a name"));
        }
        loop {
            let stored = self.storage.get(info.resource, info.namespace(), name).await?;
            let mut pod = stored.object.value();
            let uid = binding["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty());
            if let Some(wanted) = uid.filter(|uid| *uid != stored.object.meta.uid) {
                return Err(Status::uid_mismatch("", "pods", name, wanted, &stored.object.meta.uid));
            }
            self.admission.restrict_node(&creation(info, name, Some(&pod)), binding).await?;
            assign(&mut pod, name, node, binding, &timestamp(self.world.clock.unix()))?;
            if info.write.dry_run {
                return Ok(Outcome { created: true, ..Outcome::done(Status::created()) });
            }
            let key = self.storage.key(info.resource, info.namespace(), name)?;
            let write = Write::replace(&key, stored.revision, codec::encode(&pod), None);
            if let Committed::At(_) = self.storage.commit(write).await? {
                return Ok(Outcome { created: true, ..Outcome::done(Status::created()) });
            }
        }
    }

    pub(super) async fn evict(&self, info: &RequestInfo<'_>, eviction: &Value) -> Result<Outcome, Status> {
        let name = info.name()?;
        let pod = self.storage.get(info.resource, info.namespace(), name).await?.object.value();
        self.admission.restrict_node(&creation(info, name, Some(&pod)), eviction).await?;
        let said = &eviction["deleteOptions"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let options = DeleteOptions {
            grace_period_seconds: said["gracePeriodSeconds"].as_i64(),
            propagation_policy: text(&said["propagationPolicy"]),
            precondition_uid: text(&said["preconditions"]["uid"]),
            precondition_resource_version: text(&said["preconditions"]["resourceVersion"]),
        };
        let dry = said["dryRun"].as_array().is_some_and(|stages| stages.iter().any(|stage| stage == "All"));
        let write = WriteOptions { dry_run: info.write.dry_run || dry, ..info.write.clone() };
        self.delete(&RequestInfo { write: &write, ..*info }, &options).await?;
        Ok(Outcome { created: true, ..Outcome::done(Status::created()) })
    }
}

/// Writes the node into the pod; a pod has one for life.
fn assign(pod: &mut Value, name: &str, node: &str, binding: &Value, now: &str) -> Result<(), Status> {
    let conflict = |why: String| Status::conflict("", "pods/binding", name, why);
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    if let Some(already) =
        pod["spec"]["nodeName"].as_str().filter(|already| !already.is_empty() && !planted!("double-bind"))
    {
        return Err(conflict(format!("pod {name} is already assigned to node {already:?}")));
    }
    pod["spec"]["nodeName"] = json!(node);
    if let Some(annotations) = binding["metadata"]["annotations"].as_object() {
        for (key, value) in annotations {
            pod["metadata"]["annotations"][key] = value.clone();
        }
    }
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    match pod["status"]["conditions"].as_array_mut() {
        Some(conditions) => {
            conditions.retain(|known| known["type"] != "PodScheduled");
            conditions.push(condition);
        }
        None => pod["status"]["conditions"] = json!([condition]),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_bound_once() {
        let mut pod = json!({"metadata": {"name": "x"}, "spec": {}, "status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}});
        assign(&mut pod, "x", "n1", &json!({}), "now").unwrap();
        assert_eq!(pod["spec"]["nodeName"], "n1");
        assert_eq!(pod["status"]["conditions"].as_array().map(Vec::len), Some(1));
        let refused = assign(&mut pod, "x", "n2", &json!({}), "now").unwrap_err();
        assert_eq!(refused.code, 409);
        assert_eq!(
            refused.message,
            "Operation cannot be fulfilled on pods/binding \"x\": pod x is already assigned to node \"n1\""
        );
    }
}
