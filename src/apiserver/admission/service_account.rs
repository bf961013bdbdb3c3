//! ServiceAccount: every pod runs as a service account, whose token is mounted where client libraries look for it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::apiserver::authorization::graph::{MIRROR, references};
use crate::kube::names;
use crate::kube::object::Object;
use crate::kube::status::Status;
use crate::kube::tree::{get_mut, items, items_mut};

use super::{Admission, AdmissionAttributes};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Agents ask for tokens of this age; upstream's figure, by which it knows them.
const TOKEN_SECONDS: i64 = 3607;
/// How long the creation of a pod waits for the default account of a new namespace.
const DEFAULT_ACCOUNT_WAIT: Duration = Duration::from_secs(2);

impl Admission {
    pub(super) async fn admit_service_account(
        &self,
        attributes: &AdmissionAttributes<'_>,
        pod: &mut Value,
    ) -> Result<(), Status> {
        if !pod["metadata"]["annotations"][MIRROR].is_null() {
            return check_mirror(attributes, pod);
        }
        let spec = &mut pod["spec"];
        let name = spec["serviceAccountName"].as_str().filter(|name| !name.is_empty()).unwrap_or("default").to_owned();
        spec["serviceAccountName"] = json!(name);
        spec["serviceAccount"] = json!(name);
        let account = self.account(attributes, &name).await?.value();
        if items(spec, "imagePullSecrets").is_empty() && account["imagePullSecrets"].is_array() {
            spec["imagePullSecrets"] = account["imagePullSecrets"].clone();
        }
        if automounts(spec, &account) {
            let volume = names::generate("kube-api-access-", |bound| self.world.random.within(0..bound));
            mount_token(pod, &volume);
        }
        Ok(())
    }

    /// The account, from the cache or the store. Waits for the default account of a new namespace.
    async fn account(&self, attributes: &AdmissionAttributes<'_>, name: &str) -> Result<Arc<Object>, Status> {
        let namespace = attributes.namespace.unwrap_or_default();
        let resource = self.core("serviceaccounts");
        let cache = self.storage.cache(resource)?;
        let key = format!("{namespace}/{name}");
        if let Some(item) = cache.any(attributes.deadline).await?.objects.get(&key) {
            return Ok(item.object.clone());
        }
        if let Some(stored) = self.storage.read(resource, Some(namespace), name).await? {
            return Ok(stored.object);
        }
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        if name != "default" {
            return Err(attributes.forbidden(why));
        }
        let mut views = cache.views();
        let until = attributes.deadline.min(self.world.clock.now() + DEFAULT_ACCOUNT_WAIT);
        loop {
            let view = views.borrow_and_update().clone();
            if let Some(item) = view.and_then(|view| view.objects.get(&key).cloned()) {
                return Ok(item.object.clone());
            }
            if !matches!(self.world.clock.timeout_at(until, views.changed()).await, Ok(Ok(()))) {
                return Err(attributes.forbidden(why));
            }
        }
    }
}

/// A mirror pod has no service account.
fn check_mirror(attributes: &AdmissionAttributes<'_>, pod: &Value) -> Result<(), Status> {
    let refers = |wanted: &str| references(pod).any(|(resource, _)| resource == wanted);
    if refers("serviceaccounts") {
        return Err(attributes.forbidden("a mirror pod may not reference service accounts"));
    }
    if refers("secrets") {
        return Err(attributes.forbidden("a mirror pod may not reference secrets"));
    }
    let mut projected = items(&pod["spec"], "volumes").iter().flat_map(|volume| items(&volume["projected"], "sources"));
    if projected.any(|source| source["serviceAccountToken"].is_object()) {
        return Err(attributes.forbidden("a mirror pod may not use service account token volume projections"));
    }
    Ok(())
}

/// The setting of the pod wins over that of its account.
fn automounts(spec: &Value, account: &Value) -> bool {
    let said = [spec, account].map(|object| object["automountServiceAccountToken"].as_bool());
    said[0].or(said[1]).unwrap_or(true)
}

fn mount_token(pod: &mut Value, volume: &str) {
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        for container in get_mut(pod, "spec").into_iter().flat_map(|spec| items_mut(spec, list)) {
            if items(container, "volumeMounts").iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            push(&mut container["volumeMounts"], json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
            needed = true;
        }
    }
    if needed {
        push(&mut pod["spec"]["volumes"], token_volume(volume));
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
        ]}},
    ]}})
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_that_bring_their_own_token_are_left_alone() {
        let mut pod = json!({"spec": {"containers": [
            {"name": "a"},
            {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]},
        ]}});
        mount_token(&mut pod, "kube-api-access-x");
        let spec = &pod["spec"];
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], "kube-api-access-x");
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().map(Vec::len), Some(1));
        assert_eq!(spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["path"], "token");

        let mut own =
            json!({"containers": [{"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}]});
        mount_token(&mut own, "kube-api-access-x");
        assert!(own["volumes"].is_null());
    }

    #[test]
    fn the_pod_decides_before_its_account() {
        let (yes, no, nothing) =
            (json!({"automountServiceAccountToken": true}), json!({"automountServiceAccountToken": false}), json!({}));
        assert!(automounts(&nothing, &nothing));
        assert!(!automounts(&nothing, &no));
        assert!(automounts(&yes, &no));
        assert!(!automounts(&no, &yes));
    }
}
