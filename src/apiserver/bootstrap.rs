//! What every cluster has from the start: the built-in namespaces, roles and bindings, and the Service `kubernetes`.
//! Several frontends may do this at once; what is there already is left, or brought up to date.

use serde_json::{Value, json};

use crate::kube::client::{PatchType, Target, WriteOptions};
use crate::kube::status::Status;
use crate::world::Instant;

use super::admission::namespaces::PERMANENT;
use super::authorization::bootstrap::{cluster_role_bindings, cluster_roles};
use super::request::{Api, Call, Change};
use super::user::User;

const RBAC: &str = "rbac.authorization.k8s.io";
/// Where agents keep their leases.
const NODE_LEASES: &str = "kube-node-lease";

impl Api {
    /// Puts in the store what is missing there.
    pub(super) async fn ensure_built_in(&self, deadline: Instant) -> Result<(), Status> {
        for role in cluster_roles() {
            self.ensure(RBAC, "clusterroles", None, role, &["rules", "aggregationRule"], deadline).await?;
        }
        for binding in cluster_role_bindings() {
            self.ensure(RBAC, "clusterrolebindings", None, binding, &["subjects"], deadline).await?;
        }
        for name in PERMANENT.into_iter().chain([NODE_LEASES]) {
            let namespace = json!({"metadata": {"name": name}});
            self.ensure("", "namespaces", None, namespace, &[], deadline).await?;
        }
        let service = kubernetes_service(&self.addresses.network.first().to_string());
        self.ensure("", "services", Some("default"), service, &[], deadline).await
    }

    /// Creates the object, or brings `kept` fields of the one that is there up to date.
    async fn ensure(
        &self,
        group: &str,
        plural: &str,
        namespace: Option<&str>,
        mut object: Value,
        kept: &[&str],
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
        let call = Call { user: &user, target: &target, resource, write: &write, deadline };
        object["apiVersion"] = json!(resource.group_version());
        object["kind"] = json!(resource.kind);
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let stored = self.storage.read(resource, namespace, name.as_deref().unwrap_or_default()).await?;
        let Some(stored) = stored else {
            return match self.create_object(&call, object, Vec::new()).await {
                Err(status) if status.is_already_exists() => Ok(()),
                other => other.map(|_| ()),
            };
        };
        let old = stored.object.value();
        let stale: serde_json::Map<String, Value> = kept
            .iter()
            .filter(|field| old[**field] != object[**field] && !empty(&old[**field], &object[**field]))
            .map(|field| ((*field).to_owned(), object[*field].clone()))
            .collect();
        if stale.is_empty() || old["metadata"]["annotations"][format!("{RBAC}/autoupdate")] != "true" {
            return Ok(());
        }
        let patch = serde_json::to_vec(&stale).expect("JSON values serialize");
        self.change(&call, Change::Patch(PatchType::Merge, &patch)).await.map(|_| ())
    }
}

/// Nothing and an empty list are the same.
fn empty(old: &Value, new: &Value) -> bool {
    [old, new].iter().all(|value| value.is_null() || value.as_array().is_some_and(Vec::is_empty))
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
