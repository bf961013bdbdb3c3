//! Query parameters and bodies as the options of verbs.

use serde_json::Value;

use crate::apiserver::storage::list::invalid_options;
use crate::kube::client::{DeleteOptions, ListOptions, WatchOptions, WriteOptions};
use crate::kube::printing::IncludeObjectPolicy;
use crate::kube::status::Status;

/// Longer names of field managers are refused.
const FIELD_MANAGER_CHARS_MAX: usize = 128;

/// The parameters of one request.
pub struct Parameters(pub Vec<(String, String)>);

impl Parameters {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn text(&self, key: &str) -> Option<String> {
        self.get(key).map(str::to_owned)
    }

    /// As Go's URL decoder takes booleans: present without a value, or anything but `0` and `false`.
    pub fn flag(&self, key: &str) -> bool {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.is_some_and(|(_, value)| !matches!(value.as_str(), "0" | "false" | "False" | "FALSE" | "f" | "F"))
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Status> {
        let Some(text) = self.get(key) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Status::bad_request(format!("invalid value for {key}: {text:?} is not a number")))
    }

    pub fn list(&self) -> Result<ListOptions, Status> {
        Ok(ListOptions {
            label_selector: self.text("labelSelector"),
            field_selector: self.text("fieldSelector"),
            limit: self.number("limit")?,
            continue_token: self.text("continue"),
            resource_version: self.text("resourceVersion"),
            resource_version_match: self.text("resourceVersionMatch"),
        })
    }

    pub fn watch(&self) -> Result<WatchOptions, Status> {
        let options = WatchOptions {
            label_selector: self.text("labelSelector"),
            field_selector: self.text("fieldSelector"),
            resource_version: self.text("resourceVersion"),
            resource_version_match: self.text("resourceVersionMatch"),
            allow_bookmarks: self.flag("allowWatchBookmarks"),
            send_initial_events: self.flag("sendInitialEvents"),
            timeout_seconds: self.number("timeoutSeconds")?,
        };
        if options.send_initial_events && options.resource_version_match.as_deref() != Some("NotOlderThan") {
            let why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(invalid_options("FieldValueForbidden", "resourceVersionMatch", why.to_owned()));
        }
        Ok(options)
    }

    pub fn write(&self) -> Result<WriteOptions, Status> {
        let manager = self.text("fieldManager");
        if manager.as_ref().is_some_and(|manager| manager.chars().count() > FIELD_MANAGER_CHARS_MAX) {
            return Err(invalid_options(
                "FieldValueTooLong",
                "fieldManager",
                "Too long: may not be more than 128 bytes".to_owned(),
            ));
        }
        Ok(WriteOptions {
            dry_run: dry_run(self.0.iter().filter(|(key, _)| key == "dryRun").map(|(_, value)| value.as_str()))?,
            field_manager: manager,
            field_validation: self.text("fieldValidation"),
        })
    }

    /// The options of a deletion: parameters, overruled by the body.
    pub fn delete(&self, body: &Value) -> Result<(DeleteOptions, bool), Status> {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let orphan = body["orphanDependents"].as_bool().or(self.get("orphanDependents").map(|text| text == "true"));
        let orphan = orphan.map(|orphan| if orphan { "Orphan" } else { "Background" }.to_owned());
        let options = DeleteOptions {
            grace_period_seconds: body["gracePeriodSeconds"].as_i64().or(self.number("gracePeriodSeconds")?),
            propagation_policy: text(&body["propagationPolicy"]).or(self.text("propagationPolicy")).or(orphan),
            precondition_uid: text(&body["preconditions"]["uid"]),
            precondition_resource_version: text(&body["preconditions"]["resourceVersion"]),
        };
        let said = body["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok((options, dry_run(said)? || self.write()?.dry_run))
    }

    /// What the rows of tables carry.
    pub fn include_object(&self) -> IncludeObjectPolicy {
        match self.get("includeObject") {
            Some("None") => IncludeObjectPolicy::None,
            Some("Object") => IncludeObjectPolicy::Object,
            _ => IncludeObjectPolicy::Metadata,
        }
    }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, Status> {
    let mut dry = false;
    for value in values {
        match value {
            "All" => dry = true,
            "" => {}
            other => {
                let why = format!("Unsupported value: {other:?}: supported values: \"All\"");
                return Err(invalid_options("FieldValueNotSupported", "dryRun", why));
            }
        }
    }
    Ok(dry)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apiserver::http::route::parameters;

    #[test]
    fn deletions_listen_to_their_body_first() {
        let query = Parameters(parameters("gracePeriodSeconds=5&propagationPolicy=Orphan"));
        let (options, dry) = query.delete(&json!({"gracePeriodSeconds": 0, "dryRun": ["All"]})).unwrap();
        assert_eq!(options.grace_period_seconds, Some(0));
        assert_eq!(options.propagation_policy.as_deref(), Some("Orphan"));
        assert!(dry);
    }

    #[test]
    fn nonsense_is_refused() {
        let code = |query: &str| {
            let parameters = Parameters(parameters(query));
            let errors = [parameters.list().err(), parameters.watch().err(), parameters.write().err()];
            errors.into_iter().flatten().next().map(|status| status.code)
        };
        assert_eq!(code("limit=x"), Some(400));
        assert_eq!(code("dryRun=Some"), Some(422));
        assert_eq!(code("watch=true&sendInitialEvents=true"), Some(422));
        assert_eq!(code("watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"), None);
        assert_eq!(code(&format!("fieldManager={}", "x".repeat(129))), Some(422));
    }
}
