//! What the objects of a namespace use of what quotas count, kept from one count to the next: only objects that changed
//! are counted again. And the turns in which writes that are charged to the same quotas are done: without turns, all
//! concurrent writes but one would meet a conflict, and start again.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::apiserver::watch_cache::view::{Item, View};
use crate::kube::resources::Resource;

use super::scopes::{self, Scopes};
use super::usage::{self, Usage};

/// One object as quotas count it.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    pub usage: Usage,
    /// Only pods have scopes.
    scopes: Option<Scopes>,
}

impl Counted {
    pub fn of(resource: &Resource, object: &Value) -> Counted {
        let is_pod = resource.group.is_empty() && resource.plural == "pods";
        Counted {
            usage: usage::of(&resource.group, &resource.plural, object),
            scopes: is_pod.then(|| Scopes::of(object)),
        }
    }

    /// Does the quota count this object, by its scopes?
    pub fn counts_under(&self, quota: &Value) -> bool {
        scopes::counts(quota, self.scopes.as_ref())
    }

    /// What it uses of what `quota` limits.
    pub fn under(&self, quota: &Value) -> Usage {
        if !self.counts_under(quota) {
            return Usage::new();
        }
        let hard = quota["spec"]["hard"].as_object().into_iter().flatten();
        hard.filter_map(|(name, _)| Some((name.clone(), *self.usage.get(name)?))).collect()
    }
}

/// The objects of one namespace, by kind and name.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<String, BTreeMap<String, (Arc<Item>, Counted)>>);

impl Tally {
    /// Counts the objects of `namespace` as `view` has them.
    pub fn update(&mut self, resource: &Resource, view: &View, namespace: &str) {
        let known = self.0.entry(resource.group_resource()).or_default();
        let mut before = std::mem::take(known);
        for (key, item) in view.select(Some(namespace)) {
            let same = before.remove(key).filter(|(counted, _)| Arc::ptr_eq(counted, item));
            let entry = same.unwrap_or_else(|| (item.clone(), Counted::of(resource, &item.object.value())));
            known.insert(key.clone(), entry);
        }
    }

    /// What all objects of a kind use of what `quota` limits.
    pub fn add_used(&self, resource: &Resource, quota: &Value, used: &mut Usage) {
        for (_, counted) in self.0.get(&resource.group_resource()).into_iter().flat_map(BTreeMap::values) {
            for (name, amount) in counted.under(quota) {
                usage::add(used, &name, &amount);
            }
        }
    }
}

/// The turns of all namespaces with quotas.
#[derive(Debug, Default)]
pub struct Turns(std::sync::Mutex<BTreeMap<String, Arc<Mutex<Tally>>>>);

/// The right to write what is charged to the quotas of one namespace, from this frontend. Held until the write is
/// done, or given up.
#[derive(Debug, Default)]
pub struct Turn(Option<OwnedMutexGuard<Tally>>);

impl Turns {
    fn tally(&self, namespace: &str) -> Arc<Mutex<Tally>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(namespace.to_owned()).or_default().clone()
    }

    /// The namespace has no quotas any more.
    pub fn forget(&self, namespace: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(namespace);
    }
}

impl Turn {
    /// Waits for the turn, unless it is held already.
    pub async fn take(&mut self, turns: &Turns, namespace: &str) -> &mut Tally {
        let held = match self.0.take() {
            Some(held) => held,
            None => turns.tally(namespace).lock_owned().await,
        };
        self.0.insert(held)
    }
}

#[cfg(test)]
mod tests {
    use imbl::OrdMap;
    use serde_json::json;

    use super::*;
    use crate::kube::object::Object;
    use crate::kube::resources::Table;
    use crate::world::Revision;

    fn pod(cpu: &str) -> Arc<Item> {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"},
            "spec": {"containers": [{"resources": {"requests": {"cpu": cpu}}}]}});
        Arc::new(Item { object: Arc::new(Object::from_value(&object).unwrap()), fields: Vec::new() })
    }

    #[test]
    fn a_count_follows_the_objects() {
        let table = Table::builtin();
        let pods = table.get("", "v1", "pods").unwrap();
        let quota = json!({"spec": {"hard": {"pods": "9", "requests.cpu": "9"}}});
        let (kept, mut tally) = (pod("1"), Tally::default());
        let mut count = |items: &[(&str, &Arc<Item>)]| {
            let objects: OrdMap<String, Arc<Item>> =
                items.iter().map(|(key, item)| ((*key).to_owned(), (*item).clone())).collect();
            tally.update(pods, &View::listed(Revision(1), objects), "ns");
            let mut used = Usage::new();
            tally.add_used(pods, &quota, &mut used);
            used.into_iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(count(&[("ns/a", &kept), ("ns/b", &pod("2")), ("other/c", &pod("4"))]), "pods=2 requests.cpu=3");
        assert_eq!(count(&[("ns/a", &kept), ("ns/b", &pod("3"))]), "pods=2 requests.cpu=4");
        assert_eq!(count(&[("ns/a", &kept)]), "pods=1 requests.cpu=1");
        assert_eq!(count(&[]), "");
    }
}
