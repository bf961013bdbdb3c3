//! Validation: the rules an object must meet, told field by field.

pub mod field;
pub mod metadata;

pub use field::{FieldError, FieldErrors, Path};
