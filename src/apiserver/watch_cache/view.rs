//! One resource's objects at one revision, and the changes that led there: immutable, shared by all readers.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use imbl::{OrdMap, Vector};

use crate::kube::object::Object;
use crate::world::Revision;

/// Changes a view remembers. A watch that begins earlier replays the store's history.
pub const RING_CHANGES_MAX: usize = 4096;

/// One resource's objects as of [`revision`](View::revision). Keys are what follows the resource's prefix in the
/// store: `namespace/name`, or `name`.
#[derive(Clone, Debug)]
pub struct View {
    /// Everything up to here is in the view.
    pub revision: Revision,
    pub objects: OrdMap<String, Arc<Item>>,
    changes: Vector<Arc<Change>>,
    /// Every change after this revision is among `changes`.
    floor: Revision,
}

/// An object with the values of the fields that selectors may ask for, in the order of its resource's table.
#[derive(Debug)]
pub struct Item {
    pub object: Arc<Object>,
    pub fields: Vec<String>,
}

/// A change of one key.
#[derive(Debug)]
pub struct Change {
    pub key: String,
    pub revision: Revision,
    /// The state after the change; of a deletion the last state, with the deletion's resource version.
    pub item: Arc<Item>,
    /// The state before, if there was one.
    pub previous: Option<Arc<Item>>,
    pub deleted: bool,
    lines: [OnceLock<Bytes>; 3],
}

/// How a change looks to one watcher: its selectors may turn a modification into an addition or a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        }
    }
}

impl Change {
    pub fn new(key: String, revision: Revision, item: Arc<Item>, previous: Option<Arc<Item>>, deleted: bool) -> Change {
        Change { key, revision, item, previous, deleted, lines: Default::default() }
    }

    /// The change as a line of a watch response: encoded once, shared by all watchers.
    pub fn line(&self, event_type: EventType) -> Bytes {
        self.lines[event_type as usize].get_or_init(|| line(event_type.as_str(), &self.item.object.json)).clone()
    }
}

/// One line of a watch response.
pub fn line(word: &str, json: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(json.len() + 32);
    line.put_slice(b"{\"type\":\"");
    line.put_slice(word.as_bytes());
    line.put_slice(b"\",\"object\":");
    line.put_slice(json);
    line.put_slice(b"}\n");
    line.freeze()
}

impl View {
    /// The result of a list at `revision`.
    pub fn listed(revision: Revision, objects: OrdMap<String, Arc<Item>>) -> View {
        View { revision, objects, changes: Vector::new(), floor: revision }
    }

    /// Takes in a change; they come in the order of their revisions.
    pub fn apply(&mut self, change: Change) {
        assert!(change.revision >= self.revision, "changes come in order");
        self.revision = change.revision;
        if change.deleted {
            self.objects.remove(&change.key);
        } else {
            self.objects.insert(change.key.clone(), change.item.clone());
        }
        self.changes.push_back(Arc::new(change));
        while self.changes.len() > RING_CHANGES_MAX {
            let dropped = self.changes.pop_front().expect("it is over its limit, not empty");
            self.floor = dropped.revision;
        }
    }

    /// Nothing changed up to `revision`.
    pub fn progress(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// The changes after `revision`; `None` if the view no longer remembers all of them.
    pub fn since(&self, revision: Revision) -> Option<impl Iterator<Item = &Arc<Change>> + '_> {
        (revision >= self.floor).then(|| {
            let (mut low, mut high) = (0, self.changes.len());
            while low < high {
                let middle = usize::midpoint(low, high);
                if self.changes[middle].revision > revision { high = middle } else { low = middle + 1 }
            }
            self.changes.iter().skip(low)
        })
    }

    /// The objects of `namespace`, or of all, in the order of their keys.
    pub fn select(&self, namespace: Option<&str>) -> impl Iterator<Item = (&String, &Arc<Item>)> + '_ {
        let range = match namespace {
            Some(namespace) => format!("{namespace}/")..format!("{namespace}0"),
            None => String::new()..'\u{10FFFF}'.to_string(),
        };
        self.objects.range(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, revision: i64) -> Arc<Item> {
        let json = format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","resourceVersion":"{revision}"}}}}"#
        );
        let object = Arc::new(Object::from_json(json.into()).unwrap());
        Arc::new(Item { object, fields: Vec::new() })
    }

    fn put(view: &mut View, key: &str, revision: i64) {
        let previous = view.objects.get(key).cloned();
        view.apply(Change::new(key.to_owned(), Revision(revision), item(key, revision), previous, false));
    }

    fn revisions(view: &View, since: i64) -> Option<Vec<i64>> {
        view.since(Revision(since)).map(|changes| changes.map(|change| change.revision.0).collect())
    }

    #[test]
    fn changes_since_a_revision() {
        let mut view = View::listed(Revision(10), OrdMap::new());
        put(&mut view, "a/x", 12);
        put(&mut view, "a/y", 12);
        put(&mut view, "b/x", 15);
        view.progress(Revision(20));
        assert_eq!(revisions(&view, 9), None, "before the list nothing is known");
        assert_eq!(revisions(&view, 10), Some(vec![12, 12, 15]));
        assert_eq!(revisions(&view, 12), Some(vec![15]));
        assert_eq!(revisions(&view, 15), Some(vec![]));
        assert_eq!(view.revision, Revision(20));
    }

    #[test]
    fn a_full_ring_forgets_the_oldest_whole_revision() {
        let mut view = View::listed(Revision(1), OrdMap::new());
        for revision in 2..=(RING_CHANGES_MAX as i64 + 3) {
            put(&mut view, "a/x", revision);
        }
        assert_eq!(revisions(&view, 1), None);
        assert_eq!(revisions(&view, 2), None);
        assert_eq!(revisions(&view, 3).map(|all| all.len()), Some(RING_CHANGES_MAX));
    }

    #[test]
    fn a_namespace_is_a_range() {
        let mut view = View::listed(Revision(1), OrdMap::new());
        for (at, key) in ["a-b/x", "a/x", "a/y", "ab/x"].into_iter().enumerate() {
            put(&mut view, key, at as i64 + 2);
        }
        let of_a: Vec<_> = view.select(Some("a")).map(|(key, _)| key.as_str()).collect();
        assert_eq!(of_a, ["a/x", "a/y"]);
        assert_eq!(view.select(None).count(), 4);
    }

    #[test]
    fn a_line_is_encoded_once() {
        let change = Change::new("a".to_owned(), Revision(1), item("a", 1), None, false);
        let first = change.line(EventType::Added);
        assert!(first.starts_with(br#"{"type":"ADDED","object":{"apiVersion"#) && first.ends_with(b"}\n"));
        assert_eq!(first.as_ptr(), change.line(EventType::Added).as_ptr());
        assert!(change.line(EventType::Deleted).starts_with(br#"{"type":"DELETED""#));
    }
}
