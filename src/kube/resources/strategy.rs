//! The strategy of a resource: what the request path does with its objects before it writes them. All of it is pure;
//! the frontend adds uid, timestamps and resource version.

use serde_json::{Value, json};

use super::resource::{Resource, Subresource};
use super::update;
use crate::kube::status::Status;
use crate::kube::validation::FieldErrors;
use crate::kube::validation::metadata::{validate_metadata, validate_metadata_update};

impl Resource {
    /// Fills in what the object leaves out. Idempotent; runs on decode, and again after admission changed the object.
    pub fn default(&self, object: &mut Value) {
        if let Some(defaults) = &self.defaults {
            defaults(object);
        }
    }

    /// Before a create, after defaulting and admission: clears the status, starts the generation.
    pub fn prepare_for_create(&self, object: &mut Value) {
        if self.has_status()
            && !self.takes_status_on_create
            && let Some(map) = object.as_object_mut()
        {
            map.shift_remove("status");
        }
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.shift_remove("generation");
            if self.has_generation {
                metadata.insert("generation".into(), json!(1));
            }
        }
        if let Some(on_create) = &self.on_create {
            on_create(object);
        }
        self.default(object);
    }

    /// Before an update or patch, after defaulting: resets the fields that a write to this subresource may not change
    /// to those of `old`, fills in the metadata that the server owns, counts the generation. The resource version of
    /// `new` is not looked at.
    pub fn prepare_for_update(&self, subresource: Subresource<'_>, new: &mut Value, old: &Value) {
        update::reset_fields(self, subresource, new, old);
        if let Some(on_update) = &self.on_update
            && subresource == Subresource::None
        {
            on_update(new, old);
        }
        update::keep_server_metadata(new, old);
        if subresource != Subresource::Status {
            update::count_generation(self, new, old);
        }
    }

    /// All rules of a new object. The `Err` is a status `Invalid` (422).
    pub fn validate_create(&self, object: &Value) -> Result<(), Status> {
        let mut errors = FieldErrors::new();
        validate_metadata(object, self.is_namespaced(), self.name_rule, &mut errors);
        for check in [&self.check, &self.check_create].into_iter().flatten() {
            check(object, &mut errors);
        }
        self.verdict(object, errors)
    }

    /// All rules of a new state of an object, immutable fields among them.
    pub fn validate_update(&self, subresource: Subresource<'_>, new: &Value, old: &Value) -> Result<(), Status> {
        let mut errors = FieldErrors::new();
        validate_metadata(new, self.is_namespaced(), self.name_rule, &mut errors);
        validate_metadata_update(new, old, &mut errors);
        if let Some(check) = &self.check
            && subresource == Subresource::None
        {
            check(new, &mut errors);
        }
        if let Some(check) = &self.check_update {
            check(new, old, subresource, &mut errors);
        }
        self.verdict(new, errors)
    }

    fn verdict(&self, object: &Value, errors: FieldErrors) -> Result<(), Status> {
        errors.into_result(&self.group, &self.kind, object["metadata"]["name"].as_str().unwrap_or_default())
    }
}
