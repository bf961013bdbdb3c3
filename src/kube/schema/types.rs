//! Structural schemas: what the fields of each kind are, how lists and maps merge. Made once from the JSON schemas of
//! the types, joined with the tables of [`super::lists`].

use std::collections::BTreeMap;
use std::sync::Arc;

/// The type of a field, an item or a map's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// The struct of this name, to be looked up in [`super::Schemas`].
    Struct(Arc<str>),
    Map(Box<Type>),
    List(Box<Type>),
    String,
    Int32,
    Int64,
    Number,
    Boolean,
    /// Base64 text.
    Bytes,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    IntOrString,
    Quantity,
    /// Anything, kept as it is.
    Any,
}

/// Who owns what inside a list, map or struct: upstream's list types, map types and struct types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Topology {
    /// Maps and structs: each field by itself. Scalars, too.
    #[default]
    Granular,
    /// The whole value has one owner. The default of lists.
    Atomic,
    /// A list of scalars, each at most once.
    Set,
    /// A list of structs, identified by these fields.
    Map(Vec<String>),
}

/// How a strategic merge patch treats the field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchRule {
    /// Lists only: merge item by item instead of replacing the whole.
    pub merges: bool,
    /// The field that identifies the items of a merging list of structs; `None` for lists of scalars.
    pub merge_key: Option<String>,
    /// A patch says which other keys of the value it wants to keep.
    pub retains_keys: bool,
    /// Structs only: the patch replaces the whole.
    pub replaces: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub type_: Type,
    pub required: bool,
    pub topology: Topology,
    pub patch: PatchRule,
}

/// An object type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Struct {
    pub fields: BTreeMap<String, Field>,
    /// It is owned as one value.
    pub atomic: bool,
    /// Fields it does not know are kept.
    pub open: bool,
}
