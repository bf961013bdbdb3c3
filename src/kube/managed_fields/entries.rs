//! The list `metadata.managedFields`: one entry for each manager, operation, version and subresource.

use serde_json::{Value, json};

use super::set::Set;
use super::shape::Changes;
use crate::kube::tree::{items, remove, text};

/// Updaters beyond this many are joined in one entry, so that the list cannot grow without bound.
const UPDATERS_MAX: usize = 10;
const JOINED: &str = "ancient-changes";

/// The writer, and the path through which it writes.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// The query parameter `fieldManager`, or the front of the user agent.
    pub name: &'a str,
    /// `apps/v1`.
    pub api_version: &'a str,
    /// `None` for the object itself.
    pub subresource: Option<&'a str>,
    /// RFC 3339, whole seconds.
    pub time: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Apply,
    Update,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    manager: String,
    api_version: String,
    subresource: String,
    time: String,
    operation: Operation,
    pub fields: Set,
}

impl Entry {
    pub fn new(manager: &Manager<'_>, operation: Operation, fields: Set) -> Entry {
        Entry {
            manager: manager.name.to_owned(),
            api_version: manager.api_version.to_owned(),
            subresource: manager.subresource.unwrap_or_default().to_owned(),
            time: manager.time.to_owned(),
            operation,
            fields,
        }
    }

    fn read(value: &Value) -> Entry {
        Entry {
            manager: text(value, "manager").to_owned(),
            api_version: text(value, "apiVersion").to_owned(),
            subresource: text(value, "subresource").to_owned(),
            time: text(value, "time").to_owned(),
            operation: if text(value, "operation") == "Apply" { Operation::Apply } else { Operation::Update },
            fields: Set::decode(&value["fieldsV1"]),
        }
    }

    fn write(&self) -> Value {
        let mut value = json!({
            "manager": self.manager,
            "operation": if self.operation == Operation::Apply { "Apply" } else { "Update" },
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.encode(),
        });
        if !self.subresource.is_empty() {
            value["subresource"] = json!(self.subresource);
        }
        value
    }

    fn is_of(&self, manager: &Manager<'_>, operation: Operation) -> bool {
        self.manager == manager.name
            && self.operation == operation
            && self.subresource == manager.subresource.unwrap_or_default()
            && (operation == Operation::Apply || self.api_version == manager.api_version)
    }

    /// As conflicts name it: `"kubectl" using apps/v1`.
    fn title(&self) -> String {
        match self.subresource.as_str() {
            "" => format!("{:?} using {}", self.manager, self.api_version),
            subresource => format!("{:?} with subresource {subresource:?} using {}", self.manager, self.api_version),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Entries(Vec<Entry>);

impl Entries {
    pub fn of(object: &Value) -> Entries {
        Entries(items(&object["metadata"], "managedFields").iter().map(Entry::read).collect())
    }

    pub fn take(&mut self, manager: &Manager<'_>, operation: Operation) -> Option<Entry> {
        let place = self.0.iter().position(|entry| entry.is_of(manager, operation))?;
        Some(self.0.remove(place))
    }

    pub fn put(&mut self, entry: Entry) {
        self.0.push(entry);
    }

    pub fn all_fields(&self) -> Set {
        let mut all = Set::default();
        self.0.iter().for_each(|entry| all.add(&entry.fields));
        all
    }

    /// Manager and field, for each of these fields that an entry has.
    pub fn conflicts(&self, fields: &Set) -> Vec<(String, String)> {
        let mut conflicts = Vec::new();
        for entry in &self.0 {
            let common = entry.fields.common(fields).texts();
            conflicts.extend(common.into_iter().map(|field| (entry.title(), field)));
        }
        conflicts
    }

    /// What was changed by somebody else, or is gone, is no longer theirs.
    pub fn disown(&mut self, changes: &Changes) {
        for entry in &mut self.0 {
            entry.fields = entry.fields.without(&changes.set).without_trees(&changes.removed);
        }
        self.0.retain(|entry| !entry.fields.is_empty());
    }

    pub fn write(mut self, object: &mut Value) {
        self.join_old_updaters();
        // Appliers first, each kind by age and name, so that the list reads the same however it came to be.
        self.0.sort_by(|a, b| {
            let key = |entry: &Entry| (entry.operation == Operation::Update, entry.time.clone(), entry.manager.clone());
            key(a).cmp(&key(b))
        });
        let Some(metadata) = object.get_mut("metadata") else { return };
        match self.0.is_empty() {
            true => {
                remove(metadata, "managedFields");
            }
            false => metadata["managedFields"] = self.0.iter().map(Entry::write).collect(),
        }
    }

    fn join_old_updaters(&mut self) {
        loop {
            let updaters =
                self.0.iter().filter(|entry| entry.operation == Operation::Update && entry.subresource.is_empty());
            if updaters.clone().count() <= UPDATERS_MAX {
                return;
            }
            let mut oldest: Vec<Entry> = updaters.cloned().collect();
            oldest.sort_by(|a, b| (a.time.as_str(), a.manager != JOINED).cmp(&(b.time.as_str(), b.manager != JOINED)));
            let [mut joined, next] = [oldest.remove(0), oldest.remove(0)];
            self.0.retain(|entry| *entry != joined && *entry != next);
            joined.manager = JOINED.to_owned();
            joined.time = next.time;
            joined.fields.add(&next.fields);
            self.0.push(joined);
        }
    }
}
