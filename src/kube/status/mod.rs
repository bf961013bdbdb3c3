//! Kubernetes' `Status`: the form of every refusal.
//!
//! - this file: the type and its JSON form, in both directions
//! - [`reasons`]: a constructor for every refusal the API knows, with the texts that clients and test suites match

mod reasons;

pub use reasons::AuthorizerAttributes;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// A failure as the API reports it (`meta.k8s.io/v1 Status`). It serializes as the whole `Status` object.
#[derive(Clone, Debug, PartialEq, Deserialize, thiserror::Error)]
#[error("{message}")]
#[serde(rename_all = "camelCase", from = "Wire")]
pub struct Status {
    /// The HTTP code.
    pub code: u16,
    /// A machine-readable word: `NotFound`, `AlreadyExists`, `Conflict`, `Invalid`, `Forbidden`, ...
    pub reason: String,
    pub message: String,
    pub details: Option<Details>,
    /// A token that continues a list whose own token expired, inconsistently: `metadata.continue`.
    pub continue_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The plural (`pods`); the kind itself when the object is invalid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, ...
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// The form in which a `Status` arrives.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    code: u16,
    reason: String,
    message: String,
    details: Option<Details>,
    metadata: WireMeta,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireMeta {
    r#continue: Option<String>,
}

impl From<Wire> for Status {
    fn from(Wire { code, reason, message, details, metadata }: Wire) -> Status {
        Status { code, reason, message, details, continue_token: metadata.r#continue }
    }
}

#[derive(Serialize)]
struct Continue<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#continue: Option<&'a str>,
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", "Status")?;
        map.serialize_entry("apiVersion", "v1")?;
        map.serialize_entry("metadata", &Continue { r#continue: self.continue_token.as_deref() })?;
        map.serialize_entry("status", if self.code < 400 { "Success" } else { "Failure" })?;
        if !self.message.is_empty() {
            map.serialize_entry("message", &self.message)?;
        }
        if !self.reason.is_empty() {
            map.serialize_entry("reason", &self.reason)?;
        }
        if let Some(details) = &self.details {
            map.serialize_entry("details", details)?;
        }
        if self.code >= 400 {
            map.serialize_entry("code", &self.code)?;
        }
        map.end()
    }
}

impl Status {
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Status {
        Status { code, reason: reason.to_owned(), message: message.into(), details: None, continue_token: None }
    }

    pub fn with_details(mut self, details: Details) -> Status {
        self.details = Some(details);
        self
    }

    /// Asks the client to wait; the frontend also sends it as the header `Retry-After`.
    pub fn retry_after(mut self, seconds: u32) -> Status {
        self.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    /// The `Status` object as JSON.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("a status has string keys only")
    }

    /// The body of the response.
    pub fn to_bytes(&self) -> bytes::Bytes {
        serde_json::to_vec(self).expect("a status has string keys only").into()
    }

    pub fn is_not_found(&self) -> bool {
        self.reason == "NotFound"
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    /// The resource version or continue token is too old: list again.
    pub fn is_expired(&self) -> bool {
        self.code == 410
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_failure_has_the_form_clients_parse() {
        let status = Status::not_found("", "pods", "www");
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "pods \"www\" not found", "reason": "NotFound",
            "details": {"name": "www", "kind": "pods"}, "code": 404,
        });
        assert_eq!(status.to_value(), body);
        assert_eq!(serde_json::from_value::<Status>(body).unwrap(), status);
    }

    #[test]
    fn success_has_no_code() {
        let value = Status::deleted("apps", "deployments", "web", "u-1").to_value();
        assert_eq!(value["status"], "Success");
        assert_eq!(value.get("code"), None);
        assert_eq!(value["details"], json!({"name": "web", "group": "apps", "kind": "deployments", "uid": "u-1"}));
    }

    #[test]
    fn the_continue_token_travels_in_the_metadata() {
        let status = Status::continue_expired(Some("again".into()));
        assert_eq!(status.to_value()["metadata"], json!({"continue": "again"}));
        assert_eq!(serde_json::from_value::<Status>(status.to_value()).unwrap(), status);
    }
}
