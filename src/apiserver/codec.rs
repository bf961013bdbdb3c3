//! Between what the store keeps and what the API shows: a stored object is compact JSON that begins with
//! `apiVersion`, `kind` and `metadata`, without a resource version; the resource version is the store's revision of
//! the key and is spliced in on the way out, so that reading parses no more than the metadata.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};

use crate::kube::object::Object;
use crate::world::Revision;

/// The stored form of `object`.
pub fn encode(object: &Value) -> Bytes {
    let mut ordered = Map::new();
    let source = object.as_object().expect("an API object is a JSON object");
    for first in ["apiVersion", "kind", "metadata"] {
        if let Some(value) = source.get(first) {
            ordered.insert(first.to_owned(), value.clone());
        }
    }
    if let Some(metadata) = ordered.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("resourceVersion");
    }
    for (key, value) in source {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            ordered.insert(key.clone(), value.clone());
        }
    }
    serde_json::to_vec(&ordered).expect("JSON values serialize").into()
}

/// A stored object at `revision`.
pub fn decode(stored: &[u8], revision: Revision) -> Result<Object, serde_json::Error> {
    match metadata_at(stored) {
        Some(at) => Object::from_json(splice(stored, at, revision)),
        None => decode_foreign(stored, revision),
    }
}

fn splice(stored: &[u8], at: usize, revision: Revision) -> Bytes {
    let more = stored.get(at) != Some(&b'}');
    let field = format!("\"resourceVersion\":\"{revision}\"{}", if more { "," } else { "" });
    let mut json = BytesMut::with_capacity(stored.len() + field.len());
    json.put_slice(&stored[..at]);
    json.put_slice(field.as_bytes());
    json.put_slice(&stored[at..]);
    json.freeze()
}

/// An object that somebody else wrote, in another order or with a resource version of its own.
fn decode_foreign(stored: &[u8], revision: Revision) -> Result<Object, serde_json::Error> {
    let mut value: Value = serde_json::from_slice(stored)?;
    set_resource_version(&mut value, revision);
    Object::from_value(&value)
}

/// Writes the resource version into an object's metadata.
pub fn set_resource_version(object: &mut Value, revision: Revision) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
    }
}

/// Where the metadata's first field begins, if the object was written by [`encode`].
fn metadata_at(stored: &[u8]) -> Option<usize> {
    let rest = stored.strip_prefix(b"{\"apiVersion\":\"")?;
    let rest = after_plain_string(rest)?.strip_prefix(b",\"kind\":\"")?;
    let rest = after_plain_string(rest)?.strip_prefix(b",\"metadata\":{")?;
    Some(stored.len() - rest.len())
}

/// What follows the closing quote of a string without escapes.
fn after_plain_string(rest: &[u8]) -> Option<&[u8]> {
    let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    (rest[end] == b'"').then(|| &rest[end + 1..])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_resource_version_is_the_revision_and_is_not_stored() {
        let object = json!({
            "spec": {"metadata": {"x": 1}},
            "metadata": {"name": "a", "resourceVersion": "3"},
            "kind": "Pod",
            "apiVersion": "v1",
        });
        let stored = encode(&object);
        assert_eq!(stored, r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"metadata":{"x":1}}}"#);
        let read = decode(&stored, Revision(7)).unwrap();
        assert_eq!(read.meta.resource_version, "7");
        assert_eq!(read.value()["metadata"], json!({"resourceVersion": "7", "name": "a"}));
    }

    #[test]
    fn objects_that_others_wrote_are_read_too() {
        for stored in [
            r#"{"kind":"Pod","metadata":{"name":"a","resourceVersion":"1"},"apiVersion":"v1"}"#,
            r#"{"apiVersion":"v\u0031","kind":"Pod","metadata":{"name":"a"}}"#,
        ] {
            let read = decode(stored.as_bytes(), Revision(9)).unwrap();
            assert_eq!((read.meta.resource_version.as_str(), read.meta.name.as_str()), ("9", "a"));
            assert_eq!(read.meta.api_version, "v1");
        }
        let empty = decode(br#"{"apiVersion":"v1","kind":"Pod","metadata":{}}"#, Revision(2)).unwrap();
        assert_eq!(empty.meta.resource_version, "2");
        let deep = "[".repeat(200) + &"]".repeat(200);
        for unreadable in ["1e999", "\"\\ud800\"", deep.as_str()] {
            let stored = format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"a"}},"x":{unreadable}}}"#);
            assert!(decode(stored.as_bytes(), Revision(1)).is_err(), "{unreadable}");
        }
        assert!(decode(b"\x01not json", Revision(1)).is_err());
    }
}
