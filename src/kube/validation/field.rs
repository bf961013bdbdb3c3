//! Field errors: which field of an object breaks which rule, in the words clients know.

use std::fmt;

use serde_json::Value;

use crate::kube::status::{Cause, Status};

/// The place of a field: `spec.containers[0].image`, `metadata.labels[a/b]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The path of a field of the object itself.
    pub fn new(field: &str) -> Path {
        Path(field.to_owned())
    }

    /// A field below; `field` may itself have dots.
    #[must_use]
    pub fn child(&self, field: &str) -> Path {
        if self.0.is_empty() { Path::new(field) } else { Path(format!("{}.{field}", self.0)) }
    }

    #[must_use]
    pub fn index(&self, index: usize) -> Path {
        Path(format!("{}[{index}]", self.0))
    }

    #[must_use]
    pub fn key(&self, key: &str) -> Path {
        Path(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    Required,
    Invalid,
    Duplicate,
    NotFound,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TypeInvalid,
}

impl ErrorType {
    fn reason(self) -> &'static str {
        match self {
            ErrorType::Required => "FieldValueRequired",
            ErrorType::Invalid => "FieldValueInvalid",
            ErrorType::Duplicate => "FieldValueDuplicate",
            ErrorType::NotFound => "FieldValueNotFound",
            ErrorType::NotSupported => "FieldValueNotSupported",
            ErrorType::Forbidden => "FieldValueForbidden",
            ErrorType::TooLong => "FieldValueTooLong",
            ErrorType::TooMany => "FieldValueTooMany",
            ErrorType::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub type_: ErrorType,
    pub path: Path,
    /// What is wrong, without the path: `Invalid value: "x": must be ...`.
    pub body: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body)
    }
}

/// The errors of one object, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldErrors(Vec<FieldError>);

/// Errors of one object that are reported at most: the message stays readable and bounded.
const ERRORS_MAX: usize = 100;

impl FieldErrors {
    pub fn new() -> FieldErrors {
        FieldErrors::default()
    }

    fn push(&mut self, type_: ErrorType, path: &Path, body: String) {
        if self.0.len() < ERRORS_MAX {
            self.0.push(FieldError { type_, path: path.clone(), body });
        }
    }

    pub fn required(&mut self, path: &Path, detail: &str) {
        self.push(ErrorType::Required, path, with_detail("Required value", detail));
    }

    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl AsRef<str>) {
        let body = format!("Invalid value: {}", value.into());
        self.push(ErrorType::Invalid, path, with_detail(&body, detail.as_ref()));
    }

    pub fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(ErrorType::Duplicate, path, format!("Duplicate value: {}", value.into()));
    }

    pub fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(ErrorType::NotFound, path, format!("Not found: {}", value.into()));
    }

    pub fn not_supported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]) {
        let supported = supported.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
        let body = format!("Unsupported value: {}: supported values: {supported}", value.into());
        self.push(ErrorType::NotSupported, path, body);
    }

    pub fn forbidden(&mut self, path: &Path, detail: impl AsRef<str>) {
        self.push(ErrorType::Forbidden, path, with_detail("Forbidden", detail.as_ref()));
    }

    pub fn too_long(&mut self, path: &Path, bytes_max: usize) {
        self.push(ErrorType::TooLong, path, format!("Too long: may not be more than {bytes_max} bytes"));
    }

    pub fn too_many(&mut self, path: &Path, count: usize, count_max: usize) {
        self.push(ErrorType::TooMany, path, format!("Too many: {count}: must have at most {count_max} items"));
    }

    pub fn type_invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl AsRef<str>) {
        let body = format!("Invalid value: {}", value.into());
        self.push(ErrorType::TypeInvalid, path, with_detail(&body, detail.as_ref()));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &FieldError> {
        self.0.iter()
    }

    pub fn extend(&mut self, other: FieldErrors) {
        self.0.extend(other.0);
        self.0.truncate(ERRORS_MAX);
    }

    /// `Ok` when no rule is broken, else the `Invalid` status of the object with one cause an error.
    pub fn into_result(self, group: &str, kind: &str, name: &str) -> Result<(), Status> {
        if self.is_empty() {
            return Ok(());
        }
        let causes = self.0.iter().map(|error| Cause {
            reason: error.type_.reason().to_owned(),
            message: error.body.clone(),
            field: error.path.to_string(),
        });
        Err(Status::invalid_with(group, kind, name, &self.text(), causes.collect()))
    }

    /// One error as it is, several in brackets, each text once.
    fn text(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        for error in &self.0 {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        if texts.len() == 1 { texts.swap_remove(0) } else { format!("[{}]", texts.join(", ")) }
    }
}

fn with_detail(body: &str, detail: &str) -> String {
    if detail.is_empty() { body.to_owned() } else { format!("{body}: {detail}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_error_reads_plainly_and_several_stand_in_brackets() {
        let image = Path::new("spec").child("containers").index(0).child("image");
        let mut errors = FieldErrors::new();
        errors.required(&image, "");
        let status = errors.clone().into_result("", "Pod", "x").unwrap_err();
        assert_eq!(status.message, "Pod \"x\" is invalid: spec.containers[0].image: Required value");
        let cause = &status.details.unwrap().causes[0];
        assert_eq!((cause.reason.as_str(), cause.message.as_str()), ("FieldValueRequired", "Required value"));

        errors.not_supported(&Path::new("spec.type"), "Foo", &["A", "B"]);
        let status = errors.into_result("apps", "Deployment", "x").unwrap_err();
        assert_eq!(
            status.message,
            "Deployment.apps \"x\" is invalid: [spec.containers[0].image: Required value, spec.type: Unsupported \
             value: \"Foo\": supported values: \"A\", \"B\"]"
        );
    }
}
