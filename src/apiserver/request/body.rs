//! Bodies as objects, and the checks that a body fits its path.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kube::client::PatchType;
use crate::kube::patch;
use crate::kube::resources::Resource;
use crate::kube::schema::{Decoded, FieldValidation, Format, Schemas, parse, printed};
use crate::kube::status::{Cause, Status};

use super::RequestInfo;

/// The object in a body, in the namespace of the path, and the warnings for its sender.
pub fn decode(schemas: &Schemas, info: &RequestInfo<'_>, bytes: &[u8]) -> Result<(Value, Vec<String>), Status> {
    let validation = FieldValidation::parse(info.write.field_validation.as_deref())?;
    let Decoded { mut object, warnings } = schemas.decode(info.resource, bytes, Format::Json, validation)?;
    place(info, &mut object)?;
    Ok((object, warnings))
}

/// Puts an object in the namespace of its path.
pub fn place(info: &RequestInfo<'_>, object: &mut Value) -> Result<(), Status> {
    if object["metadata"].is_null() {
        object["metadata"] = json!({});
    }
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return Err(Status::bad_request("metadata is not an object"));
    };
    let said = metadata.get("namespace").and_then(Value::as_str).filter(|namespace| !namespace.is_empty());
    if !info.resource.is_namespaced() {
        metadata.shift_remove("namespace");
        return Ok(());
    }
    let Some(namespace) = info.target.namespace.as_deref().filter(|namespace| !namespace.is_empty()) else {
        return Err(Status::bad_request("an empty namespace may not be set during creation"));
    };
    if said.is_some_and(|said| said != namespace) {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    metadata.insert("namespace".to_owned(), json!(namespace));
    Ok(())
}

/// Refuses a new object that brings a resource version.
pub fn check_new(object: &Value) -> Result<(), Status> {
    match object["metadata"]["resourceVersion"].as_str() {
        None | Some("" | "0") => Ok(()),
        Some(_) => Err(Status::bad_request("resourceVersion should not be set on objects to be created")),
    }
}

/// The name in the object must be the name in the path.
pub fn check_name(info: &RequestInfo<'_>, object: &Value) -> Result<(), Status> {
    let (path, said) = (info.name()?, object["metadata"]["name"].as_str().unwrap_or_default());
    match said {
        "" => Err(Status::bad_request("the name of the object (none) does not match the name on the URL")),
        said if said != path => Err(Status::bad_request(format!(
            "the name of the object ({said}) does not match the name on the URL ({path})"
        ))),
        _ => Ok(()),
    }
}

/// The prefix from which a name is generated, if the object asks for that.
pub fn generate_name(object: &Value) -> Option<String> {
    let text = |field: &str| object["metadata"][field].as_str().filter(|text| !text.is_empty());
    text("generateName").filter(|_| text("name").is_none()).map(str::to_owned)
}

/// The stored object after a patch.
pub fn patched(
    schemas: &Schemas,
    info: &RequestInfo<'_>,
    kind: PatchType,
    old: &Value,
    bytes: &[u8],
) -> Result<(Value, Vec<String>), Status> {
    let resource = info.resource;
    if kind == PatchType::Apply {
        return Err(no_apply());
    }
    let validation = FieldValidation::parse(info.write.field_validation.as_deref())?;
    let new = patch::patch(schemas, &resource.definition, kind, bytes, old)?;
    // As upstream, the refusal shows a strategic patch as Go prints it, and otherwise the patched object.
    let shown = || match kind {
        PatchType::Strategic => parse(bytes, Format::Json).map(|patch| printed(&patch.value)).unwrap_or_default(),
        _ => patch::patch(schemas, &resource.definition, kind, bytes, old)
            .map(|patched| patched.to_string())
            .unwrap_or_default(),
    };
    let Decoded { object: mut new, warnings } = schemas.decode_patched(resource, new, validation, shown)?;
    place(info, &mut new)?;
    check_name(info, &new)?;
    Ok((new, warnings))
}

/// The refusal of server-side apply, which is not served: clients fall back to client-side apply.
pub fn no_apply() -> Status {
    let served: Vec<&str> =
        patch::CONTENT_TYPES.iter().filter(|(_, kind)| *kind != PatchType::Apply).map(|(name, _)| *name).collect();
    let status = Status::unsupported_media_type(&served);
    Status { message: format!("server-side apply is not served: {}", status.message), ..status }
}

/// The refusal of an update without a resource version, of a resource that requires one.
pub fn must_have_version(resource: &Resource, name: &str) -> Status {
    let (field, message) = ("metadata.resourceVersion", "Invalid value: 0: must be specified for an update");
    let cause = Cause { reason: "FieldValueInvalid".to_owned(), message: message.to_owned(), field: field.to_owned() };
    Status::invalid_with(&resource.group, &resource.kind, name, &format!("{field}: {message}"), vec![cause])
}

/// A time as objects carry it: whole seconds, up to the end of the year 9999.
pub fn timestamp(since_epoch: Duration) -> String {
    let last = jiff::Timestamp::MAX.as_second();
    let seconds = i64::try_from(since_epoch.as_secs()).map_or(last, |seconds| seconds.min(last));
    jiff::Timestamp::from_second(seconds).expect("it is within the range of timestamps").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_generated_only_where_none_is_given() {
        assert_eq!(generate_name(&json!({"metadata": {"generateName": "a-"}})).as_deref(), Some("a-"));
        assert_eq!(generate_name(&json!({"metadata": {"generateName": "a-", "name": "b"}})), None);
        assert_eq!(generate_name(&json!({"metadata": {}})), None);
    }

    #[test]
    fn times_are_whole_seconds() {
        assert_eq!(timestamp(Duration::from_millis(1_767_225_600_900)), "2026-01-01T00:00:00Z");
        for beyond in [i64::MAX as u64, u64::MAX] {
            assert!(timestamp(Duration::from_secs(beyond)).starts_with("9999-12-3"), "{beyond}");
        }
    }
}
