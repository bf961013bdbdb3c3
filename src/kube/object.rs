//! An object is its bytes: compact JSON, shared among watchers, with the metadata that all of them need parsed once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::status::Status;

/// A Kubernetes object: its JSON and its parsed identity. Shared as `Arc<Object>`.
#[derive(Clone, Debug)]
pub struct Object {
    pub meta: Meta,
    /// Compact JSON of the whole object, `apiVersion`, `kind` and `metadata.resourceVersion` included.
    pub json: Bytes,
}

/// The parts of an object that generic code looks at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    #[serde(skip)]
    pub api_version: String,
    #[serde(skip)]
    pub kind: String,
    pub name: String,
    pub namespace: Option<String>,
    pub uid: String,
    pub resource_version: String,
    pub generation: i64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub owner_references: Vec<OwnerReference>,
    pub finalizers: Vec<String>,
    pub deletion_timestamp: Option<String>,
    pub creation_timestamp: Option<String>,
}

/// The name of an object within its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty for objects of the cluster.
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Key {
        Key { namespace: namespace.into(), name: name.into() }
    }

    /// The key of a typed object.
    pub fn of(meta: &ObjectMeta) -> Key {
        Key::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

impl Meta {
    pub fn key(&self) -> Key {
        Key::new(self.namespace.clone().unwrap_or_default(), self.name.clone())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Envelope {
    api_version: String,
    kind: String,
    metadata: Meta,
}

/// Any JSON that can be read as a whole. A parser that skips a value looks neither at its depth nor at the size of its
/// numbers.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Readable, D::Error> {
        deserializer.deserialize_any(Readable)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Readable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_str<E>(self, _: &str) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Readable, A::Error> {
        while let Some(Readable) = items.next_element()? {}
        Ok(Readable)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Readable, A::Error> {
        while let Some((Readable, Readable)) = entries.next_entry()? {}
        Ok(Readable)
    }
}

impl Object {
    /// Parses the identity of `json`, all of which must be readable: the store may hold what others wrote.
    pub fn from_json(json: Bytes) -> Result<Object, serde_json::Error> {
        let Readable: Readable = serde_json::from_slice(&json)?;
        let Envelope { api_version, kind, metadata } = serde_json::from_slice(&json)?;
        Ok(Object { meta: Meta { api_version, kind, ..metadata }, json })
    }

    pub fn from_value(value: &serde_json::Value) -> Result<Object, serde_json::Error> {
        Object::from_json(serde_json::to_vec(value)?.into())
    }

    /// The object as one of `k8s-openapi`'s types.
    pub fn decode<K: DeserializeOwned>(&self) -> Result<K, Status> {
        serde_json::from_slice(&self.json).map_err(|error| {
            let Meta { kind, name, .. } = &self.meta;
            Status::new(500, "InternalError", format!("stored {kind} {name:?} does not decode: {error}"))
        })
    }

    pub fn value(&self) -> serde_json::Value {
        serde_json::from_slice(&self.json).expect("an Object holds JSON that is readable")
    }
}

/// What a watch delivers.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    Added(Arc<Object>),
    Modified(Arc<Object>),
    /// The last state, with the resource version of the deletion.
    Deleted(Arc<Object>),
    Bookmark {
        resource_version: String,
        /// Ends the initial list of a watch that asked for `sendInitialEvents`.
        initial_events_end: bool,
    },
}
