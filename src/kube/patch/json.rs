//! JSON patches (RFC 6902), with bounds on what one body may make of an object.

use json_patch::jsonptr::Pointer;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::unfit::unfit;
use crate::kube::status::Status;
use crate::kube::tree::{DEPTH_MAX, depth};

/// A patch with more operations is refused with 413.
const OPERATIONS_MAX: usize = 10_000;
/// How much `copy` and `move` operations may carry together: without a bound, a few hundred of them fill the memory.
const CARRIED_BYTES_MAX: usize = 3 << 20;

pub(super) fn apply(body: &[u8], object: &Value) -> Result<Value, Status> {
    let Patch(operations) =
        serde_json::from_slice(body).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    if operations.len() > OPERATIONS_MAX {
        let message = format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        );
        return Err(Status::new(413, "RequestEntityTooLarge", message));
    }
    let mut patched = object.clone();
    let mut carried = 0;
    for operation in &operations {
        let source = from(operation).and_then(|from| patched.pointer(from.as_str()));
        carried += source.map_or(0, |value| value.to_string().len());
        if carried > CARRIED_BYTES_MAX {
            return Err(Status::request_entity_too_large(CARRIED_BYTES_MAX));
        }
        // A few copies would nest an object without end.
        if let Some(value) = source.or(given(operation))
            && operation.path().tokens().count() + depth(value) >= DEPTH_MAX
        {
            return Err(unfit(format!("{}: exceeded max depth", operation.path())));
        }
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(operation))
            .map_err(|error| unfit(describe(operation, &error)))?;
    }
    Ok(patched)
}

/// The place from which an operation takes a value.
fn from(operation: &PatchOperation) -> Option<&Pointer> {
    match operation {
        PatchOperation::Copy(copy) => Some(&copy.from),
        PatchOperation::Move(operation) => Some(&operation.from),
        _ => None,
    }
}

/// The value that an operation brings along.
fn given(operation: &PatchOperation) -> Option<&Value> {
    match operation {
        PatchOperation::Add(add) => Some(&add.value),
        PatchOperation::Replace(replace) => Some(&replace.value),
        _ => None,
    }
}

fn describe(operation: &PatchOperation, error: &json_patch::PatchError) -> String {
    let path = operation.path();
    match operation {
        PatchOperation::Test(_) => format!("testing value {path} failed: test failed"),
        PatchOperation::Remove(_) => {
            format!("remove operation does not apply: doc is missing path: {path}: {}", error.kind)
        }
        PatchOperation::Replace(_) => {
            format!("replace operation does not apply: doc is missing path: {path}: {}", error.kind)
        }
        PatchOperation::Add(_) => format!("add operation does not apply: doc is missing path: {path}: {}", error.kind),
        PatchOperation::Copy(_) => format!("copy operation does not apply: {path}: {}", error.kind),
        PatchOperation::Move(_) => format!("move operation does not apply: {path}: {}", error.kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations_apply_in_order() {
        let body = br#"[{"op":"test","path":"/a","value":1},{"op":"add","path":"/l/-","value":3},
            {"op":"replace","path":"/a","value":2},{"op":"remove","path":"/b"}]"#;
        let patched = apply(body, &json!({"a": 1, "b": 0, "l": [1, 2]})).unwrap();
        assert_eq!(patched, json!({"a": 2, "l": [1, 2, 3]}));
    }

    #[test]
    fn what_does_not_fit_is_422_and_nonsense_is_400() {
        let object = json!({"a": 1});
        for body in [
            r#"[{"op":"test","path":"/a","value":2}]"#,
            r#"[{"op":"remove","path":"/b"}]"#,
            r#"[{"op":"replace","path":"/b/c","value":2}]"#,
        ] {
            assert_eq!(apply(body.as_bytes(), &object).unwrap_err().code, 422, "{body}");
        }
        for body in ["{}", "[{\"op\":\"jump\"}]", "x"] {
            assert_eq!(apply(body.as_bytes(), &object).unwrap_err().code, 400, "{body}");
        }
    }

    #[test]
    fn copies_cannot_nest_without_end() {
        let inward = |count: usize| -> Vec<Value> {
            (0..count).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/a"})).collect()
        };
        let patch = |count| apply(&serde_json::to_vec(&inward(count)).unwrap(), &json!({"a": {}}));
        assert_eq!(depth(&patch(DEPTH_MAX - 2).unwrap()), DEPTH_MAX - 1);
        assert_eq!(patch(DEPTH_MAX - 1).unwrap_err().code, 422);
    }

    #[test]
    fn copies_cannot_fill_the_memory() {
        let doubling: Vec<Value> =
            (0..64).map(|i| json!({"op": "copy", "from": "", "path": format!("/{i}")})).collect();
        let body = serde_json::to_vec(&doubling).unwrap();
        assert_eq!(apply(&body, &json!({"a": "x".repeat(64)})).unwrap_err().code, 413);
    }
}
