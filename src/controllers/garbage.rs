//! The garbage collector: deletes objects whose owners are gone, and carries out foreground and orphaning deletions.
//!
//! Owns a cache of every kind that can be deleted; speaks to the API. A cache may be behind, so an owner counts as gone
//! only when the API itself says so.

use std::sync::Arc;

use serde_json::json;

use super::Kit;
use super::replication::ignore_gone;
use crate::kube::client::{Client, DeleteOptions, PatchType, Request, Response, Target, Verb, WriteOptions};
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::informer::Informer;
use crate::kube::object::{Key, Object, OwnerReference};
use crate::kube::resources::{Resource, Table};
use crate::kube::status::Status;
use crate::world::planted::planted;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The objects of one resource.
struct Kind {
    resource: Arc<Resource>,
    objects: Informer<Object>,
}

struct Garbage {
    client: Client,
    table: Arc<Table>,
    kinds: Arc<Vec<Kind>>,
}

pub fn start(kit: &Kit) {
    let table = Table::builtin();
    let collected = |resource: &&Arc<Resource>| {
        resource.storage_prefix.is_some() && resource.allows("delete") && resource.plural != "events"
    };
    let kinds: Vec<Kind> = table
        .iter()
        .filter(collected)
        .map(|resource| Kind {
            resource: resource.clone(),
            objects: Informer::at(&kit.client, target(resource, None, None)).start(&kit.world, &kit.shutdown),
        })
        .collect();
    let kinds = Arc::new(kinds);
    let garbage = Garbage { client: kit.client.clone(), table: table.clone(), kinds: kinds.clone() };
    let mut builder = Builder::new("GarbageCollector", garbage);
    for (number, kind) in kinds.iter().enumerate() {
        let all = kinds.clone();
        builder = builder.watches(&kind.objects, move |object: &Object| touched(&all, number, object));
    }
    builder.leadership(&kit.leadership).start(&kit.world, &kit.shutdown);
}

/// What a change of an object gives reason to look at: itself, its owners, and what it owns.
fn touched(kinds: &[Kind], number: usize, object: &Object) -> Vec<Key> {
    let mut keys = Vec::new();
    if !object.meta.owner_references.is_empty() || waits_for_dependents(object) {
        keys.push(key(number, object));
    }
    let held = kinds[number].objects.get(&object.meta.key());
    let gone = held.is_none_or(|held| held.meta.uid != object.meta.uid);
    if gone || object.meta.deletion_timestamp.is_some() {
        keys.extend(dependents(kinds, &object.meta.uid).map(|(number, dependent)| key(number, &dependent)));
    }
    for owner in &object.meta.owner_references {
        let namespace = object.meta.namespace.as_deref();
        if let Some((number, owner)) = cached_owner(kinds, owner, namespace)
            && waits_for_dependents(&owner)
        {
            keys.push(key(number, &owner));
        }
    }
    keys
}

/// A queue key that also tells the kind: its number in the list of kinds goes before the name.
fn key(number: usize, object: &Object) -> Key {
    Key::new(object.meta.namespace.clone().unwrap_or_default(), format!("{number}:{}", object.meta.name))
}

fn waits_for_dependents(object: &Object) -> bool {
    object.meta.deletion_timestamp.is_some() && object.meta.finalizers.iter().any(|f| f == FOREGROUND || f == ORPHAN)
}

fn dependents(kinds: &[Kind], uid: &str) -> impl Iterator<Item = (usize, Arc<Object>)> {
    kinds.iter().enumerate().flat_map(move |(number, kind)| {
        kind.objects.owned_by(uid).into_iter().map(move |dependent| (number, dependent))
    })
}

fn cached_owner(kinds: &[Kind], owner: &OwnerReference, namespace: Option<&str>) -> Option<(usize, Arc<Object>)> {
    let is_kind = |kind: &&Kind| kind.resource.kind == owner.kind && kind.resource.group_version() == owner.api_version;
    let number = kinds.iter().position(|kind| is_kind(&kind))?;
    let kind = &kinds[number];
    let namespace = if kind.resource.is_namespaced() { namespace.unwrap_or_default() } else { "" };
    let object = kind.objects.get(&Key::new(namespace, owner.name.clone()))?;
    (object.meta.uid == owner.uid).then_some((number, object))
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
impl Reconcile for Garbage {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let Some((kind, object)) = self.find(key) else { return Ok(Requeue::No) };
        if waits_for_dependents(&object) {
            self.release_owner(kind, &object).await?;
        } else if object.meta.deletion_timestamp.is_none() && !object.meta.owner_references.is_empty() {
            self.collect(kind, &object).await?;
        }
        Ok(Requeue::No)
    }
}

/// What is known of an owner.
enum Owner {
    Lives,
    /// It waits, in a foreground deletion, until this dependent is gone.
    Waits,
    Gone,
}

impl Garbage {
    fn find(&self, key: &Key) -> Option<(&Kind, Arc<Object>)> {
        let (number, name) = key.name.split_once(':')?;
        let kind = self.kinds.get(number.parse::<usize>().ok()?)?;
        Some((kind, kind.objects.get(&Key::new(key.namespace.clone(), name))?))
    }

    /// Deletes an object none of whose owners lives.
    async fn collect(&self, kind: &Kind, object: &Object) -> Result<(), Status> {
        let (mut waits, mut gone) = (false, Vec::new());
        let mut lives = false;
        for owner in &object.meta.owner_references {
            match self.owner(owner, object).await? {
                Owner::Lives => lives = true,
                Owner::Waits => waits = true,
                Owner::Gone => gone.push(owner),
            }
        }
        if lives && (waits || !gone.is_empty()) {
            return self.drop_references(kind, object, &gone).await;
        }
        if lives {
            return Ok(());
        }
        let has_dependents = dependents(&self.kinds, &object.meta.uid).next().is_some();
        let policy = if waits && has_dependents { "Foreground" } else { "Background" };
        let options = DeleteOptions {
            propagation_policy: Some(policy.to_owned()),
            precondition_uid: Some(object.meta.uid.clone()),
            ..DeleteOptions::default()
        };
        tracing::debug!(kind = object.meta.kind, key = %object.meta.key(), "its owners are gone");
        self.call(kind, object, Verb::Delete(options)).await
    }

    async fn owner(&self, owner: &OwnerReference, object: &Object) -> Result<Owner, Status> {
        let namespace = object.meta.namespace.as_deref();
        if let Some((_, cached)) = cached_owner(&self.kinds, owner, namespace) {
            let foreground = waits_for_dependents(&cached) && cached.meta.finalizers.iter().any(|f| f == FOREGROUND);
            return Ok(if foreground { Owner::Waits } else { Owner::Lives });
        }
        let Some(resource) = self.table.by_kind(&owner.api_version, &owner.kind) else {
            // A kind that this server does not know may be known to another.
            return Ok(Owner::Lives);
        };
        let namespace = if resource.is_namespaced() { namespace } else { None };
        let target = target(resource, namespace, Some(&owner.name));
        let request = Request { target, verb: Verb::Get, write: WriteOptions::default() };
        match self.client.call(request).await {
            Ok(Response::Object(found)) if found.meta.uid == owner.uid => Ok(Owner::Lives),
            Ok(_) => Ok(Owner::Gone),
            Err(status) if status.is_not_found() && !planted!("orphan-pod") => Ok(Owner::Gone),
            Err(status) if status.is_not_found() => Ok(Owner::Lives),
            Err(status) => Err(status),
        }
    }

    /// Takes the references to owners that are gone from an object that another owner keeps.
    async fn drop_references(&self, kind: &Kind, object: &Object, gone: &[&OwnerReference]) -> Result<(), Status> {
        for owner in gone {
            self.remove_reference(kind, object, &owner.uid).await?;
        }
        Ok(())
    }

    async fn remove_reference(&self, kind: &Kind, object: &Object, owner: &str) -> Result<(), Status> {
        let references = json!([{"$patch": "delete", "uid": owner}]);
        let patch = json!({"metadata": {"uid": object.meta.uid, "ownerReferences": references}});
        self.patch(kind, object, PatchType::Strategic, &patch).await
    }

    /// Lets an owner go once what it waits for is done: no dependent blocks it, or all are orphaned.
    async fn release_owner(&self, kind: &Kind, owner: &Object) -> Result<(), Status> {
        let uid = &owner.meta.uid;
        if owner.meta.finalizers.iter().any(|f| f == ORPHAN) {
            for (number, dependent) in dependents(&self.kinds, uid).collect::<Vec<_>>() {
                self.remove_reference(&self.kinds[number], &dependent, uid).await?;
            }
            return self.remove_finalizer(kind, owner, ORPHAN).await;
        }
        let blocks = |dependent: &Object| {
            dependent
                .meta
                .owner_references
                .iter()
                .any(|reference| &reference.uid == uid && reference.block_owner_deletion)
        };
        if dependents(&self.kinds, uid).any(|(_, dependent)| blocks(&dependent)) {
            return Ok(()); // Each of them is looked at by itself, and its end brings us back.
        }
        self.remove_finalizer(kind, owner, FOREGROUND).await
    }

    async fn remove_finalizer(&self, kind: &Kind, object: &Object, finalizer: &str) -> Result<(), Status> {
        let left: Vec<&String> = object.meta.finalizers.iter().filter(|f| *f != finalizer).collect();
        let meta = json!({"resourceVersion": object.meta.resource_version, "finalizers": left});
        self.patch(kind, object, PatchType::Merge, &json!({"metadata": meta})).await
    }

    async fn patch(
        &self,
        kind: &Kind,
        object: &Object,
        how: PatchType,
        patch: &serde_json::Value,
    ) -> Result<(), Status> {
        let body = serde_json::to_vec(patch).expect("JSON serializes").into();
        self.call(kind, object, Verb::Patch { kind: how, body, force: false }).await
    }

    async fn call(&self, kind: &Kind, object: &Object, verb: Verb) -> Result<(), Status> {
        let target = target(&kind.resource, object.meta.namespace.as_deref(), Some(&object.meta.name));
        ignore_gone(self.client.call(Request { target, verb, write: WriteOptions::default() }).await)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::actor::Shutdown;
    use crate::kube::client::fake::Fake;
    use crate::world::{MemoryDisk, World};

    #[tokio::test(start_paused = true)]
    async fn a_pod_goes_with_its_last_owner() {
        let test = async {
            let (world, fake, shutdown) =
                (World::simulated(1, MemoryDisk::default()), Fake::default(), Shutdown::new());
            let table = Table::builtin();
            let resource = table.by_kind("v1", "Pod").unwrap().clone();
            let objects = Informer::at(&fake.client(), target(&resource, None, None)).start(&world, &shutdown);
            let garbage = Garbage { client: fake.client(), table: table.clone(), kinds: Arc::default() };
            let owner =
                |name: &str| json!({"apiVersion": "v1", "kind": "ReplicationController", "name": name, "uid": name});
            let pod = |name: &str, owner: serde_json::Value| {
                let meta = json!({"namespace": "default", "name": name, "ownerReferences": [owner]});
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta})
            };
            let meta = json!({"namespace": "default", "name": "lives", "uid": "lives"});
            fake.put(
                "replicationcontrollers",
                json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": meta}),
            );
            fake.put("pods", pod("kept", owner("lives")));
            fake.put("pods", pod("orphan", owner("gone")));
            let kind = Kind { resource, objects };
            for pod in fake.all("pods") {
                garbage.collect(&kind, &Object::from_value(&pod).unwrap()).await.unwrap();
            }
            let left: Vec<_> = fake.all("pods").into_iter().map(|pod| pod["metadata"]["name"].clone()).collect();
            assert_eq!(left, ["kept"], "a pod stays without an owner");
        };
        LocalSet::new().run_until(test).await;
    }
}
