//! Rules that several kinds share.

use serde_json::Value;

use super::field::{FieldErrors, Path};
use super::metadata::validate_labels;
use crate::kube::names;
use crate::kube::quantity::Quantity;
use crate::kube::tree::{entries, has, items, plain, text};

pub const IMMUTABLE: &str = "field is immutable";
const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";

/// A text that must be there: `false` when it is not.
pub fn required(object: &Value, field: &str, path: &Path, errors: &mut FieldErrors) -> bool {
    let is_there = !text(object, field).is_empty();
    if !is_there {
        errors.required(&path.child(field), "");
    }
    is_there
}

/// A number that is absent or at least 0.
pub fn not_negative(object: &Value, field: &str, path: &Path, errors: &mut FieldErrors) {
    if let Some(number) = object[field].as_i64()
        && number < 0
    {
        errors.invalid(&path.child(field), number, NOT_NEGATIVE);
    }
}

/// A text out of a few; empty texts are left to [`required`].
pub fn one_of(object: &Value, field: &str, supported: &[&str], path: &Path, errors: &mut FieldErrors) {
    let value = text(object, field);
    if !value.is_empty() && !supported.contains(&value) {
        errors.not_supported(&path.child(field), value, supported);
    }
}

/// Reports the rules that a name breaks.
pub fn well_formed(rules: Vec<String>, value: &str, path: &Path, errors: &mut FieldErrors) {
    for rule in rules {
        errors.invalid(path, value, rule);
    }
}

pub fn port_number(value: &Value, path: &Path, errors: &mut FieldErrors) {
    let number = value.as_i64().unwrap_or(0);
    if !(1..=65_535).contains(&number) {
        errors.invalid(path, number, PORT_RANGE);
    }
}

/// A port by number or by name, as probes and services give it.
pub fn port_or_name(value: &Value, path: &Path, errors: &mut FieldErrors) {
    match value {
        Value::String(name) => well_formed(names::port_name(name), name, path, errors),
        number => port_number(number, path, errors),
    }
}

pub fn protocol(object: &Value, path: &Path, errors: &mut FieldErrors) {
    if text(object, "protocol").is_empty() {
        errors.required(&path.child("protocol"), "");
    }
    one_of(object, "protocol", &["SCTP", "TCP", "UDP"], path, errors);
}

/// A value that has to stay as it was.
pub fn immutable(new: &Value, old: &Value, field: &str, path: &Path, errors: &mut FieldErrors) {
    if new[field] != old[field] {
        errors.invalid(&path.child(field), new[field].clone(), IMMUTABLE);
    }
}

/// An amount that must not be negative. Decoding has seen to it that it is one.
pub fn quantity(value: &Value, path: &Path, errors: &mut FieldErrors) -> Option<Quantity> {
    let amount: Quantity = plain(value).parse().ok()?;
    if amount.is_negative() {
        errors.invalid(path, plain(value), NOT_NEGATIVE);
    }
    Some(amount)
}

/// A label selector: operators with their values, well-formed keys.
pub fn label_selector(selector: &Value, path: &Path, errors: &mut FieldErrors) {
    validate_labels(&selector["matchLabels"], &path.child("matchLabels"), errors);
    for (index, expression) in items(selector, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let has_values = !items(expression, "values").is_empty();
        match text(expression, "operator") {
            "In" | "NotIn" if !has_values => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if has_values => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&path.child("values"), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        let key = text(expression, "key");
        well_formed(names::qualified_name(key), key, &path.child("key"), errors);
    }
}

/// Does the label selector select these labels?
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let exact = entries(selector, "matchLabels").iter().all(|(key, value)| label(key) == value.as_str());
    exact
        && items(selector, "matchExpressions").iter().all(|expression| {
            let found = label(text(expression, "key"));
            let listed = || found.is_some_and(|value| items(expression, "values").iter().any(|one| one == value));
            match text(expression, "operator") {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// An IP address, in its usual form.
pub fn ip_address(text: &str, path: &Path, errors: &mut FieldErrors) {
    if text.parse::<std::net::IpAddr>().is_err() {
        errors.invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
}

/// `25%` or a count, not negative.
pub fn count_or_percent(object: &Value, field: &str, path: &Path, errors: &mut FieldErrors) {
    if !has(object, field) {
        return;
    }
    match &object[field] {
        Value::String(text) => {
            let digits = text.strip_suffix('%');
            if !digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())) {
                let rule = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%', or \
                            '93%', regex used for validation is '[0-9]+%')";
                errors.invalid(&path.child(field), text.as_str(), rule);
            }
        }
        _ => not_negative(object, field, path, errors),
    }
}

/// Is it `0` or `0%`?
pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim_end_matches('%').parse::<u64>() == Ok(0),
        other => other.as_i64() == Some(0),
    }
}
