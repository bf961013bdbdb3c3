//! Type mismatches in the words of Go's JSON decoder, which clients and test suites match.

use serde_json::Value;

use super::field_path::FieldPath;
use super::types::Type;

/// What Go calls a JSON value of the wrong type.
pub(super) fn json_word(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
    }
}

/// `v1.Pod` of `io.k8s.api.core.v1.Pod`.
pub(super) fn struct_name(definition: &str) -> String {
    let mut parts = definition.rsplit('.');
    let name = parts.next().unwrap_or_default();
    match parts.next() {
        Some(package) => format!("{package}.{name}"),
        None => name.to_owned(),
    }
}

fn type_name(type_: &Type) -> String {
    match type_ {
        Type::Struct(definition) => struct_name(definition),
        Type::Map(values) => format!("map[string]{}", type_name(values)),
        Type::List(items) => format!("[]{}", type_name(items)),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Number => "float64".into(),
        Type::Boolean => "bool".into(),
        Type::Bytes => "[]uint8".into(),
        Type::Quantity => "resource.Quantity".into(),
        Type::IntOrString => "intstr.IntOrString".into(),
        Type::String | Type::Time | Type::MicroTime | Type::Any => "string".into(),
    }
}

/// The word of the value, with its digits where the type is right and the number is not.
fn offender(type_: &Type, value: &Value) -> String {
    match (type_, value) {
        (Type::Int32 | Type::Int64, Value::Number(number)) => format!("number {number}"),
        _ => json_word(value),
    }
}

/// `json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container`.
pub(super) fn type_mismatch(type_: &Type, value: &Value, path: &FieldPath<'_>, owner: &str) -> String {
    let (offender, type_) = (offender(type_, value), type_name(type_));
    let fields = path.fields_text();
    if fields.is_empty() {
        return format!("json: cannot unmarshal {offender} into Go value of type {type_}");
    }
    let owner = owner.rsplit('.').next().unwrap_or_default();
    format!("json: cannot unmarshal {offender} into Go struct field {owner}.{fields} of type {type_}")
}

/// A mismatch inside a type that decodes itself, and so does not know its path.
pub(super) fn value_mismatch(type_: &str, value: &Value) -> String {
    let offender = match value {
        Value::Number(number) => format!("number {number}"),
        other => json_word(other),
    };
    format!("json: cannot unmarshal {offender} into Go value of type {type_}")
}
