//! Schemas of the served kinds: strict decoding, pruning, merge rules and OpenAPI documents.
//!
//! ```text
//!   k8s-openapi types ──schemars──▶ JSON schemas ──build──▶ structs ◀── lists (merge keys, list types)
//!                                        │                     │
//!                                        ▼                     ├──▶ decode: body -> object, or the first clear error
//!                                     the room openapi         └──▶ patch: how lists and maps merge
//! ```
//!
//! - [`types`]: structural schemas
//! - [`lists`]: merge keys and list types of the built-in kinds
//! - [`build`]: structs from JSON schemas
//! - [`parse`]: JSON and YAML text, with duplicate fields noted
//! - [`decode`]: strict decoding and canonical forms
//! - [`go`]: mismatches in the words clients know
//! - [`field_path`]: the path of a value inside an object

mod build;
mod decode;
mod field_path;
mod go;
mod lists;
mod parse;
mod types;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::resources::Table;

pub(crate) use build::{REFERENCE, extensions};
pub use decode::{Decoded, Expected, FieldValidation};
pub use go::printed;
pub use parse::{Format, Parsed, parse};
pub use types::{Field, PatchRule, Struct, Topology, Type};

/// The schemas of everything in a table. Immutable; shared as `Arc<Schemas>`.
#[derive(Debug)]
pub struct Schemas {
    structs: BTreeMap<Arc<str>, Struct>,
    /// The JSON schemas they were made of, with descriptions.
    definitions: BTreeMap<String, Value>,
}

impl Schemas {
    /// The schemas of the built-in table; built once, in some milliseconds.
    pub fn builtin() -> Arc<Schemas> {
        static BUILTIN: LazyLock<Arc<Schemas>> = LazyLock::new(|| Arc::new(Schemas::of(&Table::builtin())));
        BUILTIN.clone()
    }

    /// The schemas of all entries of `table`.
    pub fn of(table: &Table) -> Schemas {
        let definitions = build::definitions(table);
        Schemas { structs: build::structs(&definitions), definitions }
    }

    /// The struct of this definition: `io.k8s.api.core.v1.Pod`.
    pub fn get(&self, definition: &str) -> Option<&Struct> {
        self.structs.get(definition)
    }

    pub fn structs(&self) -> impl Iterator<Item = (&str, &Struct)> {
        self.structs.iter().map(|(name, schema)| (&**name, schema))
    }

    /// The JSON schema of this definition, descriptions included.
    pub fn definition(&self, definition: &str) -> Option<&Value> {
        self.definitions.get(definition)
    }
}

#[cfg(test)]
mod tests;
