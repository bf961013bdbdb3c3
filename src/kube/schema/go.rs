//! Type mismatches in the words of Go's JSON decoder, which clients and test suites match.

use serde_json::Value;

use super::field_path::FieldPath;
use super::types::Type;

/// A JSON value as Go's `%v` prints it: `map[spec:map[replicas:2]]`.
pub fn printed(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(" ");
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", joined(items.iter().map(printed).collect())),
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            let fields = sorted.into_iter().map(|(key, value)| format!("{key}:{}", printed(value)));
            format!("map[{}]", joined(fields.collect()))
        }
    }
}

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_printed_as_go_prints_them() {
        let value = json!({"spec": {"replicas": "x", "paused": true}, "a": [1, null, {}]});
        assert_eq!(printed(&value), "map[a:[1 <nil> map[]] spec:map[paused:true replicas:x]]");
    }
}
