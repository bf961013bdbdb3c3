//! The objects that every cluster has: the built-in namespaces, roles and bindings, and the Service `kubernetes`.
//! Several frontends may create them at once; existing ones are left, or brought up to date.

use futures::TryStreamExt;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Map, Value, json};

use crate::kube::client::{PatchType, Target, WriteOptions};
use crate::kube::status::Status;
use crate::kube::tree::items;
use crate::world::Instant;

use super::admission::namespace_lifecycle::PERMANENT;
use super::authorization::bootstrap::{cluster_role_bindings, cluster_roles, controllers};
use super::authorization::covers::{compact, missing};
use super::request::{Api, RequestInfo, UpdatedObjectInfo};
use super::user::User;

const RBAC: &str = "rbac.authorization.k8s.io";
/// Roles and bindings that are put in the store at a time.
const AT_ONCE: usize = 32;
/// The namespace of the leases of agents.
const NODE_LEASES: &str = "kube-node-lease";

impl Api {
    /// Creates the built-in objects that are missing.
    pub(super) async fn ensure_built_in(&self, deadline: Instant) -> Result<(), Status> {
        let roles = cluster_roles().into_iter().chain(controllers::cluster_roles());
        self.ensure_all("clusterroles", roles, deadline).await?;
        let bindings = cluster_role_bindings().into_iter().chain(controllers::cluster_role_bindings());
        self.ensure_all("clusterrolebindings", bindings, deadline).await?;
        for name in PERMANENT.into_iter().chain([NODE_LEASES]) {
            let namespace = json!({"metadata": {"name": name}});
            self.ensure("", "namespaces", None, namespace, deadline).await?;
        }
        self.ensure_kubernetes_service(deadline).await?;
        // Components send requests as soon as this returns.
        self.authorizer.catch_up(deadline).await
    }

    /// Creates the Service `kubernetes` if it is missing.
    pub(super) async fn ensure_kubernetes_service(&self, deadline: Instant) -> Result<(), Status> {
        let service = kubernetes_service(&self.addresses.network.first().to_string());
        self.ensure("", "services", Some("default"), service, deadline).await
    }

    /// Many at once: the cluster is ready when the last one is written, and concurrent writes share log entries.
    async fn ensure_all(
        &self,
        plural: &str,
        objects: impl Iterator<Item = Value>,
        deadline: Instant,
    ) -> Result<(), Status> {
        let ensure = |object| self.ensure(RBAC, plural, None, object, deadline);
        futures::stream::iter(objects.map(Ok)).try_for_each_concurrent(AT_ONCE, ensure).await
    }

    /// Creates the object, or adds to an existing role or binding what it lacks.
    async fn ensure(
        &self,
        group: &str,
        plural: &str,
        namespace: Option<&str>,
        mut object: Value,
        deadline: Instant,
    ) -> Result<(), Status> {
        let user = User::master("system:apiserver");
        let name = object["metadata"]["name"].as_str().map(str::to_owned);
        let target = Target {
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: plural.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.clone(),
            subresource: None,
        };
        let resource = self.resource(&target)?;
        let write = WriteOptions::default();
        let info = RequestInfo { user: &user, target: &target, resource, write: &write, deadline };
        object["apiVersion"] = json!(resource.group_version());
        object["kind"] = json!(resource.kind);
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let stored = self.storage.read(resource, namespace, name.as_deref().unwrap_or_default()).await?;
        let Some(stored) = stored else {
            return match self.create_object(&info, object, Vec::new()).await {
                Err(status) if status.is_already_exists() => Ok(()),
                other => other.map(|_| ()),
            };
        };
        let old = stored.object.value();
        if old["metadata"]["annotations"][format!("{RBAC}/autoupdate")] != "true" {
            return Ok(());
        }
        let Some(patch) = lacking(&old, &object) else { return Ok(()) };
        let patch = serde_json::to_vec(&patch).expect("JSON values serialize");
        self.update(&info, UpdatedObjectInfo::Patch(PatchType::Merge, &patch)).await.map(|_| ())
    }
}

/// What a built-in role or binding lacks, as a merge patch. Rights, subjects and labels that an administrator added
/// stay; the rules of a role that aggregates others are not its own.
fn lacking(old: &Value, wanted: &Value) -> Option<Value> {
    let mut patch = Map::new();
    let aggregates = !wanted["aggregationRule"].is_null();
    if aggregates && old["aggregationRule"] != wanted["aggregationRule"] {
        patch.insert("aggregationRule".to_owned(), wanted["aggregationRule"].clone());
    }
    let rules = |role: &Value| -> Vec<PolicyRule> { serde_json::from_value(role["rules"].clone()).unwrap_or_default() };
    let held = rules(old);
    let missing = missing(&held.iter().collect::<Vec<_>>(), &rules(wanted));
    if !aggregates && !missing.is_empty() {
        let all: Vec<PolicyRule> = held.into_iter().chain(compact(&missing)).collect();
        patch.insert("rules".to_owned(), json!(all));
    }
    let subjects = items(old, "subjects");
    let absent: Vec<&Value> = items(wanted, "subjects").iter().filter(|subject| !subjects.contains(subject)).collect();
    if !absent.is_empty() {
        let all: Vec<&Value> = subjects.iter().chain(absent).collect();
        patch.insert("subjects".to_owned(), json!(all));
    }
    let (labels, known) = (&wanted["metadata"]["labels"], &old["metadata"]["labels"]);
    let labels = labels.as_object().into_iter().flatten().filter(|(key, value)| known[key.as_str()] != **value);
    let labels: Map<String, Value> = labels.map(|(key, value)| (key.clone(), value.clone())).collect();
    if !labels.is_empty() {
        patch.insert("metadata".to_owned(), json!({"labels": labels}));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn kubernetes_service(address: &str) -> Value {
    json!({
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443}],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_added_to_what_is_there() {
        let rule = |verb: &str| json!({"apiGroups": [""], "resources": ["pods"], "verbs": [verb]});
        let role = |rules: Value| json!({"metadata": {"labels": {"a": "b"}}, "rules": rules});
        assert_eq!(lacking(&role(json!([rule("*")])), &role(json!([rule("get")]))), None);
        let patch = lacking(&role(json!([rule("list")])), &role(json!([rule("get")]))).unwrap();
        assert_eq!(patch, json!({"rules": [rule("list"), rule("get")]}));

        let gathers = |rules: Value| json!({"aggregationRule": {"clusterRoleSelectors": []}, "rules": rules});
        assert_eq!(lacking(&gathers(json!([rule("get")])), &gathers(json!([]))), None);
        let patch = lacking(&role(json!([])), &gathers(json!([]))).unwrap();
        assert_eq!(patch, json!({"aggregationRule": {"clusterRoleSelectors": []}}));

        let binding = |names: &[&str]| json!({"subjects": names, "metadata": {"labels": {"x": "y"}}});
        assert_eq!(lacking(&binding(&["me", "them"]), &binding(&["them"])), None);
        let patch = lacking(&json!({"subjects": ["me"]}), &binding(&["them"])).unwrap();
        assert_eq!(patch, json!({"subjects": ["me", "them"], "metadata": {"labels": {"x": "y"}}}));
    }
}
