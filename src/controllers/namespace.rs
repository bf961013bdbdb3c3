//! The namespace controller: deletes the contents of a namespace that is being deleted, then removes its finalizer.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use serde_json::json;

use super::context::ControllerContext;
use super::not_found::ignore_not_found;
use crate::kube::client::{
    Client, DeleteOptions, ListOptions, PatchType, Request, Response, Target, Verb, WriteOptions,
};
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::resources::{Resource, Table};
use crate::kube::status::Status;

const FINALIZER: &str = "kubernetes";
/// A namespace in which objects are still ending is reconciled again after this.
const RETRY: Duration = Duration::from_millis(500);

struct Namespaces {
    client: Client,
    namespaces: Informer<Namespace>,
    table: Arc<Table>,
}

pub fn start(context: &ControllerContext) {
    let namespaces = Informer::of(&context.client.api::<Namespace>()).start(&context.world, &context.shutdown);
    let controller =
        Namespaces { client: context.client.clone(), namespaces: namespaces.clone(), table: Table::builtin() };
    Builder::new("Namespace", controller)
        .of(&namespaces)
        .leadership(&context.leadership)
        .start(&context.world, &context.shutdown);
}

#[async_trait::async_trait]
impl Reconcile for Namespaces {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let Some(namespace) = self.namespaces.get(key) else { return Ok(Requeue::No) };
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        if namespace.metadata.deletion_timestamp.is_none() || !finalizers.iter().any(|f| f == FINALIZER) {
            return Ok(Requeue::No);
        }
        let mut left = Vec::new();
        for resource in
            self.table.iter().filter(|resource| resource.is_namespaced() && resource.allows("deletecollection"))
        {
            let count = self.empty(resource, &key.name).await?;
            if count > 0 {
                left.push(format!("{} has {count} resource instances", resource.group_resource()));
            }
        }
        if !left.is_empty() {
            self.tell(key, &left.join(", ")).await?;
            return Ok(Requeue::After(RETRY));
        }
        self.finalize(key).await?;
        Ok(Requeue::No)
    }
}

impl Namespaces {
    /// Deletes the objects of a resource in a namespace; returns how many are still ending.
    async fn empty(&self, resource: &Resource, namespace: &str) -> Result<usize, Status> {
        let target = Target {
            group: resource.group.clone(),
            version: resource.version.clone(),
            resource: resource.plural.clone(),
            namespace: Some(namespace.to_owned()),
            ..Target::default()
        };
        if self.count(&target).await? == 0 {
            return Ok(0);
        }
        let delete = Verb::DeleteCollection(
            ListOptions::default(),
            DeleteOptions { propagation_policy: Some("Background".to_owned()), ..DeleteOptions::default() },
        );
        self.call(&target, delete).await?;
        self.count(&target).await
    }

    async fn count(&self, target: &Target) -> Result<usize, Status> {
        match self.call(target, Verb::List(ListOptions::default())).await? {
            Response::List(list) => Ok(list.items.len()),
            _ => Ok(0),
        }
    }

    async fn call(&self, target: &Target, verb: Verb) -> Result<Response, Status> {
        self.client.call(Request { target: target.clone(), verb, write: WriteOptions::default() }).await
    }

    async fn tell(&self, key: &Key, left: &str) -> Result<(), Status> {
        let condition = json!({
            "type": "NamespaceContentRemaining",
            "status": "True",
            "reason": "SomeResourcesRemain",
            "message": format!("Some resources are remaining: {left}"),
        });
        let patch = json!({"status": {"conditions": [condition]}});
        ignore_not_found(self.client.api::<Namespace>().patch_status(&key.name, PatchType::Strategic, &patch).await)?;
        Ok(())
    }

    /// Removes this controller's finalizer from the namespace as it is now.
    async fn finalize(&self, key: &Key) -> Result<(), Status> {
        let Some(mut finalized) = self.client.api::<Namespace>().get_opt(&key.name).await? else { return Ok(()) };
        if let Some(spec) = &mut finalized.spec {
            spec.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
        }
        let body = serde_json::to_vec(&finalized).expect("a namespace serializes").into();
        let target = Target {
            version: "v1".to_owned(),
            resource: "namespaces".to_owned(),
            name: Some(key.name.clone()),
            subresource: Some("finalize".to_owned()),
            ..Target::default()
        };
        ignore_not_found(self.call(&target, Verb::Update { body }).await)?;
        Ok(())
    }
}
