//! What an informer knows: objects by key, found again by owner and by the indexes that were asked for. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::kube::object::{Key, Object};
use crate::kube::status::Status;

use super::cached::Cached;

/// One step of an object's life.
#[derive(Debug)]
pub enum Change<K> {
    Added(Arc<K>),
    Updated { old: Arc<K>, new: Arc<K> },
    Deleted(Arc<K>),
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Change<K> {
        match self {
            Change::Added(new) => Change::Added(new.clone()),
            Change::Updated { old, new } => Change::Updated { old: old.clone(), new: new.clone() },
            Change::Deleted(old) => Change::Deleted(old.clone()),
        }
    }
}

impl<K> Change<K> {
    /// The object as last seen.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Change::Added(object) | Change::Updated { new: object, .. } | Change::Deleted(object) => object,
        }
    }

    /// The object before this step, where it was there.
    pub fn old(&self) -> Option<&Arc<K>> {
        match self {
            Change::Added(_) => None,
            Change::Updated { old, .. } | Change::Deleted(old) => Some(old),
        }
    }

    /// The object after this step, where it is there.
    #[allow(clippy::new_ret_no_self, reason = "the counterpart of `old`, not a constructor")]
    pub fn new(&self) -> Option<&Arc<K>> {
        match self {
            Change::Added(new) | Change::Updated { new, .. } => Some(new),
            Change::Deleted(_) => None,
        }
    }

    /// This step and the `next` one of the same object as one; `None` where they cancel out.
    pub fn then(self, next: Change<K>) -> Option<Change<K>> {
        match (self, next) {
            (Change::Added(_), Change::Deleted(_)) => None,
            (Change::Added(_), Change::Added(new) | Change::Updated { new, .. }) => Some(Change::Added(new)),
            (Change::Updated { old, .. }, Change::Added(new) | Change::Updated { new, .. }) => {
                Some(Change::Updated { old, new })
            }
            (Change::Updated { .. }, deleted @ Change::Deleted(_)) => Some(deleted),
            (Change::Deleted(old), Change::Added(new) | Change::Updated { new, .. }) => {
                Some(Change::Updated { old, new })
            }
            (Change::Deleted(_), deleted @ Change::Deleted(_)) => Some(deleted),
        }
    }
}

/// A step of the object with this uid.
pub(super) struct Step<K> {
    pub uid: String,
    pub change: Change<K>,
}

/// An index: its name, and the values under which an object is found.
pub(super) struct Index<K> {
    pub name: &'static str,
    pub values: Box<dyn Fn(&K) -> Vec<String> + Send + Sync>,
    keys: Postings,
}

type Postings = BTreeMap<String, BTreeSet<Key>>;

struct Entry<K> {
    uid: String,
    resource_version: String,
    owners: Vec<String>,
    /// Under what each index finds it, in the order of the indexes.
    indexed: Vec<Vec<String>>,
    value: Arc<K>,
}

/// Code from elsewhere, which decodes and indexes, is called before anything is changed: a panic in it changes nothing.
pub(super) struct Cache<K> {
    entries: BTreeMap<Key, Entry<K>>,
    owners: Postings,
    indexes: Vec<Index<K>>,
}

impl<K> Index<K> {
    pub fn new(name: &'static str, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Index<K> {
        Index { name, values: Box::new(values), keys: Postings::new() }
    }
}

impl<K: Cached> Cache<K> {
    pub fn new(indexes: Vec<Index<K>>) -> Cache<K> {
        Cache { entries: BTreeMap::new(), owners: Postings::new(), indexes }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn get(&self, key: &Key) -> Option<&Arc<K>> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    pub fn all(&self) -> impl Iterator<Item = (&Key, &Arc<K>)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value))
    }

    /// What a new subscriber has to hear first.
    pub fn as_additions(&self) -> Vec<Step<K>> {
        let addition = |entry: &Entry<K>| Step { uid: entry.uid.clone(), change: Change::Added(entry.value.clone()) };
        self.entries.values().map(addition).collect()
    }

    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a Key, &'a Arc<K>)> {
        let from = Key::new(namespace, "");
        self.entries
            .range(from..)
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(key, entry)| (key, &entry.value))
    }

    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.found(self.owners.get(uid))
    }

    /// Panics where no index of this name was asked for.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let index = self.indexes.iter().find(|index| index.name == name);
        let index = index.unwrap_or_else(|| panic!("the informer was started without an index {name:?}"));
        self.found(index.keys.get(value))
    }

    fn found(&self, keys: Option<&BTreeSet<Key>>) -> Vec<Arc<K>> {
        keys.into_iter().flatten().filter_map(|key| self.get(key).cloned()).collect()
    }

    /// Takes in an object that was added or changed.
    pub fn put(&mut self, object: &Arc<Object>) -> Result<Vec<Step<K>>, Status> {
        let entry = self.news(object)?;
        Ok(entry.map(|entry| self.exchange(object.meta.key(), entry)).unwrap_or_default())
    }

    /// What is to be kept of `object`, unless it is known already.
    fn news(&self, object: &Arc<Object>) -> Result<Option<Entry<K>>, Status> {
        let meta = &object.meta;
        let known = self.entries.get(&meta.key());
        if known.is_some_and(|e| e.uid == meta.uid && e.resource_version == meta.resource_version) {
            return Ok(None);
        }
        let value = K::from_object(object)?;
        Ok(Some(Entry {
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            owners: meta.owner_references.iter().map(|owner| owner.uid.clone()).collect(),
            indexed: self.indexes.iter().map(|index| (index.values)(&value)).collect(),
            value,
        }))
    }

    fn exchange(&mut self, key: Key, entry: Entry<K>) -> Vec<Step<K>> {
        let old = self.remove(&key);
        let (uid, value) = (entry.uid.clone(), entry.value.clone());
        self.insert(key, entry);
        match old {
            None => vec![Step { uid, change: Change::Added(value) }],
            Some(old) if old.uid == uid => vec![Step { uid, change: Change::Updated { old: old.value, new: value } }],
            Some(old) => vec![
                Step { uid: old.uid, change: Change::Deleted(old.value) },
                Step { uid, change: Change::Added(value) },
            ],
        }
    }

    /// Forgets an object.
    pub fn delete(&mut self, object: &Arc<Object>) -> Option<Step<K>> {
        let last = K::from_object(object);
        let old = self.remove(&object.meta.key())?;
        let last = last.unwrap_or(old.value);
        Some(Step { uid: old.uid, change: Change::Deleted(last) })
    }

    /// Takes in a whole new list: what is not in it is gone.
    pub fn replace(&mut self, objects: &[Arc<Object>], mut undecodable: impl FnMut(&Object, Status)) -> Vec<Step<K>> {
        let listed: BTreeSet<Key> = objects.iter().map(|object| object.meta.key()).collect();
        let gone: Vec<Key> = self.entries.keys().filter(|key| !listed.contains(key)).cloned().collect();
        let mut news = Vec::new();
        for object in objects {
            match self.news(object) {
                Ok(entry) => news.extend(entry.map(|entry| (object.meta.key(), entry))),
                Err(status) => undecodable(object, status),
            }
        }
        let mut steps = Vec::new();
        for key in gone {
            let old = self.remove(&key).expect("the key was just read from the cache");
            steps.push(Step { uid: old.uid, change: Change::Deleted(old.value) });
        }
        for (key, entry) in news {
            steps.extend(self.exchange(key, entry));
        }
        steps
    }

    fn insert(&mut self, key: Key, entry: Entry<K>) {
        for owner in &entry.owners {
            self.owners.entry(owner.clone()).or_default().insert(key.clone());
        }
        for (index, values) in self.indexes.iter_mut().zip(&entry.indexed) {
            for value in values {
                index.keys.entry(value.clone()).or_default().insert(key.clone());
            }
        }
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &Key) -> Option<Entry<K>> {
        let entry = self.entries.remove(key)?;
        for owner in &entry.owners {
            forget(&mut self.owners, owner, key);
        }
        for (index, values) in self.indexes.iter_mut().zip(&entry.indexed) {
            for value in values {
                forget(&mut index.keys, value, key);
            }
        }
        Some(entry)
    }
}

fn forget(postings: &mut Postings, value: &str, key: &Key) {
    if let Some(keys) = postings.get_mut(value) {
        keys.remove(key);
        if keys.is_empty() {
            postings.remove(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, uid: &str, version: u64, owner: &str, node: &str) -> Arc<Object> {
        let owners = if owner.is_empty() { json!([]) } else { json!([{"uid": owner, "name": "o", "kind": "RS"}]) };
        let value = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "uid": uid, "resourceVersion": version.to_string(),
                "ownerReferences": owners},
            "spec": {"nodeName": node},
        });
        Arc::new(Object::from_value(&value).unwrap())
    }

    fn cache() -> Cache<Object> {
        let node = |pod: &Object| vec![pod.value()["spec"]["nodeName"].as_str().unwrap_or_default().to_owned()];
        Cache::new(vec![Index::new("node", node)])
    }

    fn told(steps: &[Step<Object>]) -> Vec<String> {
        steps
            .iter()
            .map(|Step { uid, change }| match change {
                Change::Added(new) => format!("+{uid}@{}", new.meta.resource_version),
                Change::Updated { old, new } => {
                    format!("{uid}@{}>{}", old.meta.resource_version, new.meta.resource_version)
                }
                Change::Deleted(_) => format!("-{uid}"),
            })
            .collect()
    }

    #[test]
    fn each_change_is_told_once_and_found_by_every_index() {
        let mut cache = cache();
        assert_eq!(told(&cache.put(&object("a", "u1", 1, "rs", "")).unwrap()), ["+u1@1"]);
        assert!(cache.put(&object("a", "u1", 1, "rs", "")).unwrap().is_empty(), "seen before");
        assert_eq!(told(&cache.put(&object("a", "u1", 2, "rs", "n1")).unwrap()), ["u1@1>2"]);
        assert_eq!((cache.by_index("node", "n1").len(), cache.by_index("node", "").len()), (1, 0));
        assert_eq!(cache.owned_by("rs").len(), 1);
        assert_eq!(told(&cache.put(&object("a", "u2", 3, "", "n1")).unwrap()), ["-u1", "+u2@3"], "replaced unseen");
        assert!(cache.owned_by("rs").is_empty());
        assert_eq!(cache.delete(&object("a", "u2", 4, "", "n1")).map(|s| s.uid), Some("u2".to_owned()));
        assert_eq!(cache.len(), 0);
        assert!(cache.by_index("node", "n1").is_empty());
    }

    #[test]
    fn a_new_list_tells_only_what_differs() {
        let mut cache = cache();
        let fail = |_: &Object, status| panic!("{status}");
        cache
            .replace(&[object("a", "u1", 1, "", ""), object("b", "u2", 2, "", ""), object("c", "u3", 3, "", "")], fail);
        let steps = cache
            .replace(&[object("b", "u2", 2, "", ""), object("c", "u3", 7, "", ""), object("d", "u4", 8, "", "")], fail);
        assert_eq!(told(&steps), ["-u1", "u3@3>7", "+u4@8"]);
    }

    #[test]
    fn a_panic_of_an_index_changes_nothing() {
        let node = |pod: &Object| {
            let node = pod.value()["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
            assert!(node != "bad", "a bug");
            vec![node]
        };
        let fail = |_: &Object, status| panic!("{status}");
        let mut cache = Cache::new(vec![Index::new("node", node)]);
        cache.replace(&[object("a", "u1", 1, "", "n1"), object("b", "u2", 2, "", "n1")], fail);
        let changed = |cache: &mut Cache<Object>, change: &dyn Fn(&mut Cache<Object>)| {
            let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(cache)));
            assert!(changed.is_err());
            assert_eq!((cache.len(), cache.by_index("node", "n1").len()), (2, 2));
        };
        let list = [object("b", "u2", 3, "", "n2"), object("c", "u3", 4, "", "bad")];
        changed(&mut cache, &|cache| drop(cache.replace(&list, fail)));
        changed(&mut cache, &|cache| drop(cache.put(&object("a", "u1", 5, "", "bad"))));
        let steps = cache.replace(&[object("b", "u2", 3, "", "n2"), object("c", "u3", 6, "", "n2")], fail);
        assert_eq!(told(&steps), ["-u1", "u2@2>3", "+u3@6"]);
    }

    #[test]
    fn steps_of_one_object_merge() {
        let at = |version| object("a", "u", version, "", "");
        let added = || Change::Added(at(1));
        let updated = |from, to| Change::Updated { old: at(from), new: at(to) };
        let deleted = || Change::Deleted(at(9));
        let told = |change: Option<Change<Object>>| {
            change.map(|change| told(&[Step { uid: "u".into(), change }]).remove(0)).unwrap_or_default()
        };
        assert_eq!(told(added().then(updated(1, 2))), "+u@2");
        assert_eq!(told(added().then(deleted())), "");
        assert_eq!(told(updated(1, 2).then(updated(2, 3))), "u@1>3");
        assert_eq!(told(updated(1, 2).then(deleted())), "-u");
        assert_eq!(told(deleted().then(Change::Added(at(10)))), "u@9>10");
    }
}
