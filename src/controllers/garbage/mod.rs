//! The garbage collector: deletes objects whose owners are gone, and carries out foreground and orphaning deletions.
//!
//! ```text
//!   informers of every kind ──changes──▶ Graph ──agenda: uids──▶ Collector ──reads, deletes, patches──▶ API
//!                                          ▲                         │
//!                                          └─── no such owner there ─┘
//! ```
//!
//! It owns the [`graph`] of who owns whom; informers speak to it, and it speaks to the API. A watch may be behind, so
//! an owner counts as absent only when the API itself answers so, and a deletion names the version of the object that
//! it was decided for ([`judge`]). A reference that can't be resolved is no reason to delete.

mod graph;
mod judge;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::context::ControllerContext;
use super::not_found::ignore_not_found;
use crate::kube::client::{
    Client, DeleteOptions, ListOptions, PatchType, Request, Response, Target, Verb, WriteOptions,
};
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::events::{Recorder, Severity};
use crate::kube::informer::{Change, Informer};
use crate::kube::object::{Key, Object, OwnerReference};
use crate::kube::resources::{Resource, Table};
use crate::kube::status::Status;
use graph::{FOREGROUND, Graph, Identity, NodeState, ORPHAN, Owner, Task, Unresolvable};
use judge::{Action, Propagation, ReferenceClass, judge};

/// The graph, which informers and workers share. One that a panic has left half changed is not used again: whoever takes
/// it panics as well, and the controller's next life begins with a new one.
struct SharedGraph {
    graph: Mutex<Graph>,
    /// The agenda may hold something.
    wake: Notify,
}

struct Collector {
    client: Client,
    table: Arc<Table>,
    shared: Arc<SharedGraph>,
    events: Recorder,
}

pub fn start(context: &ControllerContext) {
    let table = Table::builtin();
    let shared = Arc::new(SharedGraph::new(&table));
    let collector = Collector {
        client: context.client.clone(),
        table: table.clone(),
        shared: shared.clone(),
        events: context.recorder("garbage-collector-controller"),
    };
    let (fresh, opened, pending) = (shared.clone(), shared.clone(), shared.clone());
    let kinds = table.clone();
    let mut builder = Builder::new("GarbageCollector", collector)
        .begins_with(move || fresh.forget_all(&kinds))
        .keys_from(move || agenda(opened.clone()).boxed(), move || keys(pending.graph().pending()));
    for resource in table.iter().filter(|resource| is_collected(resource)) {
        let objects =
            Informer::at(&context.client, target(resource, None, None)).start(&context.world, &context.shutdown);
        let shared = shared.clone();
        builder = builder.shows(&objects, move |change| shared.take_in(&change));
    }
    builder.leadership(&context.leadership).start(&context.world, &context.shutdown);
}

/// Events are many, and own nothing.
fn is_collected(resource: &Resource) -> bool {
    resource.storage_prefix.is_some() && resource.allows("delete") && resource.plural != "events"
}

fn keys(uids: impl IntoIterator<Item = String>) -> Vec<Key> {
    uids.into_iter().map(|uid| Key::new("", uid)).collect()
}

/// The keys on the agenda, as they come up.
fn agenda(shared: Arc<SharedGraph>) -> impl Stream<Item = Vec<Key>> {
    futures::stream::unfold(shared, |shared| async move {
        loop {
            let uids = shared.graph().take_agenda();
            if !uids.is_empty() {
                return Some((keys(uids), shared));
            }
            shared.wake.notified().await;
        }
    })
}

impl SharedGraph {
    fn new(table: &Arc<Table>) -> SharedGraph {
        SharedGraph { graph: Mutex::new(Graph::new(table.clone())), wake: Notify::new() }
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().expect("no panic has left the graph half changed")
    }

    fn forget_all(&self, table: &Arc<Table>) {
        self.graph.clear_poison();
        *self.graph() = Graph::new(table.clone());
    }

    fn take_in(&self, change: &Change<Object>) {
        match change {
            Change::Added(object) | Change::Updated { new: object, .. } => self.graph().observe(&object.meta),
            Change::Deleted(object) => self.graph().forget(&object.meta.uid),
        }
        self.wake.notify_one();
    }

    fn absent(&self, identity: &Identity) {
        self.graph().absent(identity);
        self.wake.notify_one();
    }
}

fn target(resource: &Resource, namespace: Option<&str>, name: Option<&str>) -> Target {
    Target {
        group: resource.group.clone(),
        version: resource.version.clone(),
        resource: resource.plural.clone(),
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        subresource: None,
    }
}

#[async_trait::async_trait]
impl Reconcile for Collector {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let task = self.shared.graph().task(&key.name);
        match task {
            Task::Nothing => {}
            Task::Find(places) => {
                for place in places {
                    self.find(&place).await?;
                }
            }
            Task::AttemptToDelete(identity) => self.judge(&identity).await?,
            Task::Release(identity) => self.remove_finalizer(&identity, FOREGROUND).await?,
            Task::Orphan(identity) => self.orphan(&identity).await?,
        }
        Ok(Requeue::No)
    }
}

impl Collector {
    /// The object in the API now; `None` if it is gone, or another one has its name.
    async fn read(&self, identity: &Identity) -> Result<Option<Arc<Object>>, Status> {
        match self.call(identity, Verb::Get).await {
            Ok(Response::Object(object)) if object.meta.uid == identity.uid => Ok(Some(object)),
            Ok(_) => Ok(None),
            // A frontend that does not know the kind answers 404, too, but names no object.
            Err(status) if status.is_not_found() && names(&status, &identity.name) => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Reads an owner from the API.
    async fn find(&self, place: &Identity) -> Result<ReferenceClass, Status> {
        let found = self.read(place).await?;
        Ok(match found.map(|owner| NodeState::of(&owner.meta)) {
            Some(NodeState::DeletingDependents) => ReferenceClass::WaitingForDependentsDeletion,
            None => {
                self.shared.absent(place);
                ReferenceClass::Dangling
            }
            Some(_) => ReferenceClass::Solid,
        })
    }

    /// Deletes the object if no owner keeps it.
    async fn judge(&self, identity: &Identity) -> Result<(), Status> {
        let Some(object) = self.read(identity).await?.filter(|object| NodeState::of(&object.meta) == NodeState::Lives)
        else {
            return Ok(());
        };
        let mut owners = Vec::new();
        for reference in &object.meta.owner_references {
            owners.push((reference.uid.clone(), self.classify(identity, reference).await?));
        }
        let has_dependents = self.shared.graph().has_dependents(&identity.uid);
        match judge(&owners, has_dependents, &object.meta.finalizers) {
            Action::Keep => Ok(()),
            Action::DropReferences(gone) => self.drop_references(identity, &object, &gone).await,
            Action::Delete(propagation) => self.delete(identity, &object, propagation).await,
        }
    }

    async fn classify(&self, dependent: &Identity, reference: &OwnerReference) -> Result<ReferenceClass, Status> {
        let owner = self.shared.graph().owner(dependent, reference);
        match owner {
            Owner::Lives => Ok(ReferenceClass::Solid),
            Owner::Absent => Ok(ReferenceClass::Dangling),
            Owner::Ask(place) => self.find(&place).await,
            Owner::Unresolvable(why) => {
                self.tell_unresolvable(dependent, reference, why);
                Ok(ReferenceClass::Solid)
            }
        }
    }

    fn tell_unresolvable(&self, dependent: &Identity, reference: &OwnerReference, why: Unresolvable) {
        if why == Unresolvable::UnknownKind {
            return tracing::debug!(%dependent, kind = reference.kind, "an owner has a kind that is not served here");
        }
        let owner = Identity::named(reference, &dependent.namespace);
        let message = format!("ownerRef {owner} does not exist in namespace {:?}", dependent.namespace);
        self.events.event_about(&about(dependent), Severity::Warning, "OwnerRefInvalidNamespace", message);
    }

    /// Deletes the version of the object that was judged, no other.
    async fn delete(&self, identity: &Identity, object: &Object, propagation: Propagation) -> Result<(), Status> {
        let options = DeleteOptions {
            propagation_policy: Some(propagation.policy()),
            precondition_uid: Some(object.meta.uid.clone()),
            precondition_resource_version: Some(object.meta.resource_version.clone()),
            ..DeleteOptions::default()
        };
        tracing::debug!(object = %identity, ?propagation, "its owners are gone");
        ignore_not_found(self.call(identity, Verb::Delete(options)).await).map(|_| ())
    }

    async fn drop_references(&self, identity: &Identity, object: &Object, owners: &[String]) -> Result<(), Status> {
        let mut left = object.value()["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        left.retain(|reference| !owners.iter().any(|uid| reference["uid"] == **uid));
        let left = if left.is_empty() { Value::Null } else { json!(left) };
        self.patch_metadata(identity, object, "ownerReferences", left).await
    }

    async fn remove_finalizer(&self, identity: &Identity, finalizer: &str) -> Result<(), Status> {
        let Some(object) = self.read(identity).await? else { return Ok(()) };
        if !object.meta.finalizers.iter().any(|held| held == finalizer) {
            return Ok(());
        }
        let left: Vec<&String> = object.meta.finalizers.iter().filter(|held| *held != finalizer).collect();
        self.patch_metadata(identity, &object, "finalizers", json!(left)).await
    }

    /// Changes a field of the version that was read, no other.
    async fn patch_metadata(
        &self,
        identity: &Identity,
        object: &Object,
        field: &str,
        value: Value,
    ) -> Result<(), Status> {
        let meta = json!({"uid": object.meta.uid, "resourceVersion": object.meta.resource_version, field: value});
        let body = serde_json::to_vec(&json!({"metadata": meta})).expect("JSON serializes").into();
        let patch = Verb::Patch { kind: PatchType::Merge, body, force: false };
        ignore_not_found(self.call(identity, patch).await).map(|_| ())
    }

    /// Removes the dependents' references to their owner. It lists dependents in the API: one that no watch has shown
    /// yet would be deleted with its owner.
    async fn orphan(&self, owner: &Identity) -> Result<(), Status> {
        for resource in self.table.iter().filter(|resource| is_collected(resource)) {
            let namespace = Some(owner.namespace.as_str()).filter(|namespace| !namespace.is_empty());
            if namespace.is_some() && !resource.is_namespaced() {
                continue;
            }
            let list = Verb::List(ListOptions::default());
            let request =
                Request { target: target(resource, namespace, None), verb: list, write: WriteOptions::default() };
            let Response::List(list) = self.client.call(request).await? else { continue };
            let names_it = |object: &&Arc<Object>| object.meta.owner_references.iter().any(|o| o.uid == owner.uid);
            for dependent in list.items.iter().filter(names_it) {
                let identity = Identity::of(&dependent.meta);
                self.drop_references(&identity, dependent, std::slice::from_ref(&owner.uid)).await?;
            }
        }
        self.remove_finalizer(owner, ORPHAN).await
    }

    async fn call(&self, object: &Identity, verb: Verb) -> Result<Response, Status> {
        let resource = self.table.by_kind(&object.api_version, &object.kind).ok_or_else(Status::no_such_resource)?;
        let namespace = Some(object.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let target = target(resource, namespace, Some(&object.name));
        self.client.call(Request { target, verb, write: WriteOptions::default() }).await
    }
}

fn names(status: &Status, object: &str) -> bool {
    status.details.as_ref().is_some_and(|details| details.name == object)
}

fn about(object: &Identity) -> ObjectReference {
    ObjectReference {
        api_version: Some(object.api_version.clone()),
        kind: Some(object.kind.clone()),
        namespace: Some(object.namespace.clone()),
        name: Some(object.name.clone()),
        uid: Some(object.uid.clone()),
        ..ObjectReference::default()
    }
}
