//! Strict decoding: from a parsed body to an object that has only known fields of the right types, in their canonical
//! form. The texts are those that Go clients and test suites know.

use base64::Engine;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::field_path::FieldPath;
use super::parse::{self, Format};
use super::types::{Struct, Type};
use super::{Schemas, go};
use crate::kube::quantity::Quantity;
use crate::kube::resources::Resource;
use crate::kube::status::Status;
use crate::kube::validation::{FieldErrors, Path};

/// Strict errors of one body that are reported at most.
const PROBLEMS_MAX: usize = 100;

/// What to do about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    /// Report them in `Warning` headers.
    #[default]
    Warn,
    /// Refuse.
    Strict,
}

impl FieldValidation {
    /// Parses the query parameter `fieldValidation`. The `Err` is a 400.
    pub fn parse(text: Option<&str>) -> Result<FieldValidation, Status> {
        match text {
            None | Some("" | "Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => {
                let mut errors = FieldErrors::new();
                errors.not_supported(&Path::new("fieldValidation"), other, &["Ignore", "Warn", "Strict"]);
                let status = errors.into_result("meta.k8s.io", "CreateOptions", "");
                Err(status.expect_err("there is an error in it"))
            }
        }
    }
}

/// What a body is expected to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The name of the schema: `io.k8s.api.core.v1.Pod`.
    pub definition: &'a str,
    /// `apps/v1`.
    pub api_version: &'a str,
    pub kind: &'a str,
}

/// A decoded body.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object; `apiVersion` and `kind` are filled in.
    pub object: Value,
    /// What `Warning` headers say, each `unknown field "spec.x"`.
    pub warnings: Vec<String>,
}

impl Schemas {
    /// Decodes the body of a create or update of `resource`. Errors are 400s.
    pub fn decode(
        &self,
        resource: &Resource,
        body: &[u8],
        format: Format,
        validation: FieldValidation,
    ) -> Result<Decoded, Status> {
        let api_version = resource.group_version();
        let expected = Expected { definition: &resource.definition, api_version: &api_version, kind: &resource.kind };
        self.decode_as(expected, body, format, validation)
    }

    /// Decodes the body of a request whose kind is not the resource's own: scales, bindings, delete options.
    pub fn decode_as(
        &self,
        expected: Expected<'_>,
        body: &[u8],
        format: Format,
        validation: FieldValidation,
    ) -> Result<Decoded, Status> {
        let refuse = |why: &str| cannot_be_handled(expected, why);
        let parsed = parse::parse(body, format).map_err(|error| refuse(&format!("json parse error: {error}")))?;
        let mut object = parsed.value;
        check_kind(&mut object, expected)?;
        let mut problems = self.clean(expected.definition, &mut object).map_err(|error| refuse(&error))?;
        problems.extend(parsed.duplicates.iter().map(|path| format!("duplicate field {path:?}")));
        problems.truncate(PROBLEMS_MAX);
        match validation {
            FieldValidation::Strict if !problems.is_empty() => {
                Err(refuse(&format!("strict decoding error: {}", problems.join(", "))))
            }
            FieldValidation::Ignore => Ok(Decoded { object, warnings: Vec::new() }),
            _ => Ok(Decoded { object, warnings: problems }),
        }
    }

    /// Checks the result of a patch, which is a value already. Errors are 422s about the field `patch`, whose value is
    /// `shown`.
    pub fn decode_patched(
        &self,
        resource: &Resource,
        mut object: Value,
        validation: FieldValidation,
        shown: impl Fn() -> String,
    ) -> Result<Decoded, Status> {
        let api_version = resource.group_version();
        let expected = Expected { definition: &resource.definition, api_version: &api_version, kind: &resource.kind };
        check_kind(&mut object, expected)?;
        let refuse = |why: &str| {
            let mut errors = FieldErrors::new();
            errors.invalid(&Path::new("patch"), shown(), why);
            errors.into_result("", "", "").expect_err("there is an error in it")
        };
        let problems = self.clean(&resource.definition, &mut object).map_err(|error| refuse(&error))?;
        match validation {
            FieldValidation::Strict if !problems.is_empty() => {
                Err(refuse(&format!("strict decoding error: {}", problems.join(", "))))
            }
            FieldValidation::Ignore => Ok(Decoded { object, warnings: Vec::new() }),
            _ => Ok(Decoded { object, warnings: problems }),
        }
    }

    /// Makes `object` one of `definition`: removes unknown fields and nulls, brings quantities and times in their
    /// canonical form. `Ok` names the unknown fields, `Err` the first wrong type.
    pub fn clean(&self, definition: &str, object: &mut Value) -> Result<Vec<String>, String> {
        let mut walk = Walk { schemas: self, problems: Vec::new() };
        let type_ = Type::Struct(definition.into());
        walk.check(&type_, object, &FieldPath::default(), "")?;
        Ok(walk.problems)
    }
}

fn cannot_be_handled(expected: Expected<'_>, why: &str) -> Status {
    let Expected { api_version, kind, .. } = expected;
    let version = api_version.rsplit('/').next().unwrap_or_default();
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
}

/// A body may leave out what it is; it may not say something else.
fn check_kind(object: &mut Value, expected: Expected<'_>) -> Result<(), Status> {
    let Some(map) = object.as_object_mut() else {
        let word = go::json_word(object);
        let type_ = go::struct_name(expected.definition);
        return Err(cannot_be_handled(
            expected,
            &format!("json: cannot unmarshal {word} into Go value of type {type_}"),
        ));
    };
    let given = |field: &str| map.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (given("apiVersion"), given("kind"));
    if !api_version.is_empty() && api_version != expected.api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            expected.api_version
        )));
    }
    if !kind.is_empty() && kind != expected.kind {
        let version = expected.api_version.rsplit('/').next().unwrap_or_default();
        return Err(Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: the kind in the data does not match",
            expected.kind
        )));
    }
    map.insert("apiVersion".into(), json!(expected.api_version));
    map.insert("kind".into(), json!(expected.kind));
    Ok(())
}

struct Walk<'a> {
    schemas: &'a Schemas,
    problems: Vec<String>,
}

impl Walk<'_> {
    /// `owner` is the struct whose field this is, for messages.
    fn check(&mut self, type_: &Type, value: &mut Value, path: &FieldPath<'_>, owner: &str) -> Result<(), String> {
        let mismatch = |value: &Value| go::type_mismatch(type_, value, path, owner);
        match (type_, &mut *value) {
            (Type::Any, _)
            | (Type::String, Value::String(_))
            | (Type::Boolean, Value::Bool(_))
            | (Type::Number, Value::Number(_)) => Ok(()),
            (Type::Struct(name), Value::Object(_)) => match self.schemas.get(name) {
                Some(schema) => self.check_struct(schema, value, path, name),
                None => Ok(()),
            },
            (Type::Map(values), Value::Object(map)) => {
                for (key, value) in map {
                    let path = path.field(key);
                    match value {
                        Value::Null => *value = zero(values),
                        _ => self.check(values, value, &path, owner)?,
                    }
                }
                Ok(())
            }
            (Type::List(items), Value::Array(list)) => {
                for (index, item) in list.iter_mut().enumerate() {
                    match item {
                        Value::Null => *item = zero(items),
                        _ => self.check(items, item, &path.index(index), owner)?,
                    }
                }
                Ok(())
            }
            (Type::Int32 | Type::Int64, Value::Number(_)) => check_integer(type_, value).ok_or_else(|| mismatch(value)),
            (Type::IntOrString, Value::String(_)) => Ok(()),
            (Type::IntOrString, Value::Number(_)) => {
                check_integer(&Type::Int32, value).ok_or_else(|| go::value_mismatch("int32", value))
            }
            (Type::IntOrString, other) => Err(go::value_mismatch("int32", other)),
            (Type::Quantity, _) => canonical_quantity(value),
            (Type::Time | Type::MicroTime, Value::String(text)) => {
                *text = canonical_time(type_, text)?;
                Ok(())
            }
            (Type::Bytes, Value::String(text)) => check_base64(text),
            _ => Err(mismatch(value)),
        }
    }

    fn check_struct(
        &mut self,
        schema: &Struct,
        value: &mut Value,
        path: &FieldPath<'_>,
        name: &str,
    ) -> Result<(), String> {
        let Some(map) = value.as_object_mut() else { return Ok(()) };
        let mut failed = None;
        map.retain(|key, value| {
            let Some(field) = schema.fields.get(key) else {
                if !schema.open && self.problems.len() < PROBLEMS_MAX {
                    self.problems.push(format!("unknown field {:?}", path.field(key).text()));
                }
                return schema.open;
            };
            if value.is_null() {
                return field.type_ == Type::Any;
            }
            if failed.is_none() {
                failed = self.check(&field.type_, value, &path.field(key), name).err();
            }
            true
        });
        failed.map_or(Ok(()), Err)
    }
}

/// What null stands for as an item or a map's value.
fn zero(type_: &Type) -> Value {
    match type_ {
        Type::Struct(_) | Type::Map(_) => json!({}),
        Type::List(_) => json!([]),
        Type::String | Type::Bytes => json!(""),
        Type::Int32 | Type::Int64 | Type::Number | Type::IntOrString => json!(0),
        Type::Quantity => json!("0"),
        Type::Boolean => json!(false),
        Type::Time | Type::MicroTime | Type::Any => Value::Null,
    }
}

/// Whole numbers that fit, also when they are written `3.0` or `1e3`.
fn check_integer(type_: &Type, value: &mut Value) -> Option<()> {
    let whole = value.as_i64().or_else(|| {
        let float = value.as_f64()?;
        (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
    })?;
    if *type_ == Type::Int32 && i32::try_from(whole).is_err() {
        return None;
    }
    *value = json!(whole);
    Some(())
}

fn canonical_quantity(value: &mut Value) -> Result<(), String> {
    let text = match &*value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let quantity: Quantity = text.parse().map_err(|error: crate::kube::quantity::ParseError| error.to_string())?;
    *value = Value::String(quantity.to_string());
    Ok(())
}

fn canonical_time(type_: &Type, text: &str) -> Result<String, String> {
    let time: Timestamp = text.parse().map_err(|_| {
        format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\"")
    })?;
    Ok(match type_ {
        Type::MicroTime => format!("{time:.6}"),
        _ => Timestamp::from_second(time.as_second()).unwrap_or(time).to_string(),
    })
}

fn check_base64(text: &str) -> Result<(), String> {
    let clean: String = text.chars().filter(|character| !matches!(character, '\n' | '\r')).collect();
    match base64::engine::general_purpose::STANDARD.decode(&clean) {
        Ok(_) => Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(format!("illegal base64 data at input byte {at}"))
        }
        Err(_) => Err(format!("illegal base64 data at input byte {}", clean.len().saturating_sub(1))),
    }
}
