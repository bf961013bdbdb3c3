//! JSON patches (RFC 6902), with bounds on what one body may make of an object.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::unfit;
use crate::kube::status::Status;

/// A patch with more operations is refused with 413.
const OPERATIONS_MAX: usize = 10_000;
/// How much `copy` operations may add together: without a bound, a few hundred of them fill the memory.
const COPIED_BYTES_MAX: usize = 3 << 20;

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
    let mut copied = 0;
    for operation in &operations {
        if let PatchOperation::Copy(copy) = operation {
            copied += patched.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len());
            if copied > COPIED_BYTES_MAX {
                return Err(Status::request_entity_too_large(COPIED_BYTES_MAX));
            }
        }
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(operation))
            .map_err(|error| unfit(describe(operation, &error)))?;
    }
    Ok(patched)
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
    fn copies_cannot_fill_the_memory() {
        let doubling: Vec<Value> =
            (0..64).map(|i| json!({"op": "copy", "from": "", "path": format!("/{i}")})).collect();
        let body = serde_json::to_vec(&doubling).unwrap();
        assert_eq!(apply(&body, &json!({"a": "x".repeat(64)})).unwrap_err().code, 413);
    }
}
