//! The rules of config maps and secrets.

use serde_json::Value;

use super::common::{IMMUTABLE, well_formed};
use super::field::{FieldErrors, Path};
use crate::kube::names;
use crate::kube::resources::Subresource;
use crate::kube::tree::{entries, text};

/// All values of one config map or secret together.
const BYTES_MAX: usize = 1 << 20;

pub fn config_map(object: &Value, errors: &mut FieldErrors) {
    let mut bytes = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in entries(object, field) {
            let path = Path::new(field).key(key);
            well_formed(names::config_key(key), key, &path, errors);
            if field == "data" && entries(object, "binaryData").contains_key(key) {
                errors.invalid(&path, key.as_str(), "duplicate of key present in binaryData");
            }
            bytes += value.as_str().map_or(0, str::len);
        }
    }
    if bytes > BYTES_MAX {
        errors.too_long(&Path::default(), BYTES_MAX);
    }
}

pub fn secret(object: &Value, errors: &mut FieldErrors) {
    let data = entries(object, "data");
    let mut bytes = 0;
    for (key, value) in data {
        well_formed(names::config_key(key), key, &Path::new("data").key(key), errors);
        // Base64 writes three bytes in four.
        bytes += value.as_str().map_or(0, |text| text.trim_end_matches('=').len() * 3 / 4);
    }
    if bytes > BYTES_MAX {
        errors.too_long(&Path::new("data"), BYTES_MAX);
    }
    let wants = |key: &str, errors: &mut FieldErrors| {
        if !data.contains_key(key) {
            errors.required(&Path::new("data").key(key), "");
        }
    };
    match text(object, "type") {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if text(&object["metadata"]["annotations"], key).is_empty() {
                errors.required(&Path::new("metadata.annotations").key(key), "");
            }
        }
        "kubernetes.io/dockercfg" => wants(".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => wants(".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !data.contains_key("username") && !data.contains_key("password") => {
            wants("username", errors);
            wants("password", errors);
        }
        "kubernetes.io/ssh-auth" => wants("ssh-privatekey", errors),
        "kubernetes.io/tls" => {
            wants("tls.crt", errors);
            wants("tls.key", errors);
        }
        _ => {}
    }
}

pub fn config_map_update(new: &Value, old: &Value, _: Subresource<'_>, errors: &mut FieldErrors) {
    frozen(new, old, &["data", "binaryData"], errors);
}

pub fn secret_update(new: &Value, old: &Value, _: Subresource<'_>, errors: &mut FieldErrors) {
    if new["type"] != old["type"] {
        errors.invalid(&Path::new("type"), new["type"].clone(), IMMUTABLE);
    }
    frozen(new, old, &["data"], errors);
}

/// Once an object is marked `immutable`, its data and the mark stay.
fn frozen(new: &Value, old: &Value, fields: &[&str], errors: &mut FieldErrors) {
    if old["immutable"] != true {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if new["immutable"] != true {
        errors.forbidden(&Path::new("immutable"), detail);
    }
    for field in fields {
        if new[*field] != old[*field] {
            errors.forbidden(&Path::new(field), detail);
        }
    }
}
