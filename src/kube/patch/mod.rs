//! Patches: from an object and the body of a PATCH to the object that is wanted.
//!
//! ```text
//!   object + body ──┬─ json       RFC 6902 operations
//!                   ├─ merge      RFC 7386                        ──▶ value ──▶ Schemas::decode_patched ──▶ object
//!                   └─ strategic  merge keys of the schemas
//! ```
//!
//! - this file: the choice
//! - [`json`]: RFC 6902, bounded
//! - [`strategic`]: strategic merge, [`directives`]: its directives
//! - [`unfit`]: the answer to one that does not fit
//! - [`lists`]: how strategic merge joins and orders lists

mod directives;
mod json;
mod lists;
mod strategic;
mod unfit;

use serde_json::Value;

use super::client::PatchType;
use super::schema::{Format, Schemas, parse};
use super::status::Status;

/// The content types of patches.
pub const CONTENT_TYPES: [(&str, PatchType); 5] = [
    ("application/json-patch+json", PatchType::Json),
    ("application/merge-patch+json", PatchType::Merge),
    ("application/strategic-merge-patch+json", PatchType::Strategic),
    ("application/apply-patch+yaml", PatchType::Apply),
    ("application/apply-patch+json", PatchType::Apply),
];

/// The kind of patch that a content type (parameters allowed) names. The `Err` is a 415.
pub fn type_of(content_type: &str) -> Result<PatchType, Status> {
    let plain = content_type.split(';').next().unwrap_or_default().trim();
    CONTENT_TYPES.iter().find(|(name, _)| *name == plain).map(|(_, type_)| *type_).ok_or_else(|| {
        let accepted: Vec<&str> = CONTENT_TYPES.iter().map(|(name, _)| *name).collect();
        Status::unsupported_media_type(&accepted)
    })
}

/// Applies a JSON, merge or strategic merge patch to `object`, whose schema is `definition`. The result is not checked
/// against the schema yet. Errors: 400 for a body that is no patch, 422 for one that does not fit the object.
///
/// # Panics
/// With [`PatchType::Apply`], which needs the object's managers, too: it is not a function of the two alone.
pub fn patch(
    schemas: &Schemas,
    definition: &str,
    type_: PatchType,
    body: &[u8],
    object: &Value,
) -> Result<Value, Status> {
    let undecodable = |error: &str| Status::bad_request(format!("error decoding patch: {error}"));
    match type_ {
        PatchType::Json => json::apply(body, object),
        PatchType::Merge => {
            let patch = parse(body, Format::Json).map_err(|error| undecodable(&error))?.value;
            let mut patched = object.clone();
            json_patch::merge(&mut patched, &patch);
            Ok(patched)
        }
        PatchType::Strategic => {
            let patch = parse(body, Format::Json).map_err(|error| undecodable(&error))?.value;
            strategic::merge(schemas, definition, object, patch).map_err(|error| Status::bad_request(error.to_string()))
        }
        PatchType::Apply => unreachable!("an apply patch is merged with the managed fields"),
    }
}

#[cfg(test)]
mod tests;
