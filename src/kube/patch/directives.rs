//! The directives of a strategic merge patch.
//!
//! | directive | where | effect |
//! |---|---|---|
//! | `$patch: replace` | map, or an item of a list | the patch replaces the whole |
//! | `$patch: delete` | map, or an item of a list | the map, or the item with that key, is removed |
//! | `$patch: merge` | map | as without it |
//! | `$retainKeys: [..]` | map | all other keys are removed |
//! | `$setElementOrder/field: [..]` | beside a list | the order of its items |
//! | `$deleteFromPrimitiveList/field: [..]` | beside a list of scalars | these items are removed |

use serde_json::{Map, Value};

pub(super) const DIRECTIVE: &str = "$patch";
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const ELEMENT_ORDER: &str = "$setElementOrder/";
pub(super) const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// What is wrong with a strategic merge patch: surface it as 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a strategic merge patch must be a JSON object")]
    NotAnObject,
    #[error("unknown patch type found: {0}")]
    UnknownDirective(String),
    #[error("map: {item} does not contain declared merge key: {key}")]
    NoMergeKey { item: String, key: String },
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirectiveInList,
    #[error("the field {0} of a patch must be a list")]
    NotAList(String),
    #[error("$retainKeys directive doesn't list the key {0} that the patch has")]
    KeyNotRetained(String),
    #[error("the order in the patch list of {0} doesn't match its $setElementOrder list")]
    OrderMismatch(String),
}

/// What the patch says about a list beside its items.
#[derive(Clone, Copy, Default)]
pub(super) struct ListDirectives<'a> {
    pub order: Option<&'a Value>,
    pub delete: Option<&'a Value>,
}

/// Takes the directives with this prefix out of the patch, by the field they are about.
pub(super) fn take_directives(patch: &mut Map<String, Value>, prefix: &str) -> Result<Map<String, Value>, Error> {
    let mut taken = Map::new();
    let names: Vec<String> = patch.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    for name in names {
        if let Some(value) = patch.shift_remove(&name) {
            if !value.is_array() {
                return Err(Error::NotAList(name));
            }
            taken.insert(name[prefix.len()..].to_owned(), value);
        }
    }
    Ok(taken)
}

pub(super) fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    retained: &Value,
) -> Result<(), Error> {
    let Some(retained) = retained.as_array() else { return Err(Error::NotAList(RETAIN_KEYS.into())) };
    let is_retained = |key: &str| retained.iter().any(|kept| kept == key);
    let own = patch.iter().filter(|(key, value)| !key.starts_with('$') && !value.is_null());
    if let Some((key, _)) = own.into_iter().find(|(key, _)| !is_retained(key)) {
        return Err(Error::KeyNotRetained(key.clone()));
    }
    original.retain(|key, _| is_retained(key));
    Ok(())
}

pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
