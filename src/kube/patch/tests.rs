use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";
const POD: &str = "io.k8s.api.core.v1.Pod";

fn strategic(definition: &str, object: &Value, patch: Value) -> Result<Value, String> {
    let body = patch.to_string();
    super::patch(&Schemas::builtin(), definition, PatchType::Strategic, body.as_bytes(), object)
        .map_err(|status| format!("{} {}", status.code, status.message))
}

fn pod(spec: Value) -> Value {
    json!({"spec": spec})
}

#[test]
fn content_types_name_the_patch() {
    assert_eq!(type_of("application/merge-patch+json; charset=utf-8").unwrap(), PatchType::Merge);
    assert_eq!(type_of("application/json").unwrap_err().code, 415);
}

#[test]
fn merge_patch_removes_nulls() {
    let patched =
        super::patch(&Schemas::builtin(), POD, PatchType::Merge, br#"{"a":null,"b":{"c":1}}"#, &json!({"a": 1}));
    assert_eq!(patched.unwrap(), json!({"b": {"c": 1}}));
}

#[test]
fn directives_do_what_the_table_says() {
    let two = || json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]);
    let table = [
        // Items merge by key, new ones come behind.
        (
            pod(json!({"containers": two()})),
            pod(json!({"containers": [{"name": "b", "image": "3"}, {"name": "c"}]})),
            pod(json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "3"}, {"name": "c"}]})),
        ),
        (
            pod(json!({"containers": two()})),
            pod(json!({"containers": [{"name": "a", "$patch": "delete"}]})),
            pod(json!({"containers": [{"name": "b", "image": "2"}]})),
        ),
        (
            pod(json!({"containers": two()})),
            pod(json!({"containers": [{"$patch": "replace"}, {"name": "z"}]})),
            pod(json!({"containers": [{"name": "z"}]})),
        ),
        // Order: ordered items as the patch says, others where they stood.
        (
            pod(json!({"containers": two()})),
            pod(json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]})),
            pod(json!({"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "1"}]})),
        ),
        (
            pod(json!({"containers": [{"name": "server"}, {"name": "a"}]})),
            pod(json!({"$setElementOrder/containers": [{"name": "n"}, {"name": "a"}], "containers": [{"name": "n"}]})),
            pod(json!({"containers": [{"name": "n"}, {"name": "server"}, {"name": "a"}]})),
        ),
        // Maps.
        (
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
            json!({"metadata": {"labels": {"b": "2", "c": "3"}}}),
        ),
        (
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
            json!({"metadata": {"labels": {"c": "3"}}}),
        ),
        (
            json!({"metadata": {"labels": {"a": "1"}, "name": "x"}}),
            json!({"metadata": {"labels": {"$patch": "delete"}}}),
            json!({"metadata": {"name": "x"}}),
        ),
        // Lists of scalars.
        (
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c", "b"]}}),
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
        ),
        (
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["b"]}}),
        ),
        // Atomic lists are replaced.
        (
            pod(json!({"containers": [{"name": "a", "args": ["x", "y"]}]})),
            pod(json!({"containers": [{"name": "a", "args": ["z"]}]})),
            pod(json!({"containers": [{"name": "a", "args": ["z"]}]})),
        ),
        // The source of a volume changes: the old one goes.
        (
            pod(json!({"volumes": [{"name": "v", "emptyDir": {}}]})),
            pod(json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}]})),
            pod(json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]})),
        ),
        // Directives for a list that is not there yet leave no trace.
        (
            pod(json!({})),
            pod(json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a", "x": null}]})),
            pod(json!({"containers": [{"name": "a"}]})),
        ),
    ];
    for (object, patch, wanted) in table {
        assert_eq!(strategic(POD, &object, patch.clone()).unwrap(), wanted, "{patch}");
    }
}

#[test]
fn a_deployment_changes_its_strategy() {
    let object = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(strategic(DEPLOYMENT, &object, patch).unwrap(), json!({"spec": {"strategy": {"type": "Recreate"}}}));
}

#[test]
fn broken_patches_are_refused() {
    let object = pod(json!({"containers": [{"name": "a"}]}));
    let table = [
        (json!([]), "must be a JSON object"),
        (pod(json!({"containers": [{"image": "x"}]})), "does not contain declared merge key: name"),
        (pod(json!({"$patch": "explode"})), "unknown patch type found: explode"),
        (pod(json!({"$setElementOrder/containers": 1})), "must be a list"),
        (
            pod(json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]})),
            "doesn't match its $setElementOrder list",
        ),
        (pod(json!({"securityContext": {"$retainKeys": [], "runAsUser": 1}})), "$retainKeys"),
    ];
    for (patch, text) in table {
        let error = strategic(POD, &object, patch).unwrap_err();
        assert!(error.starts_with("400 ") && error.contains(text), "{error}");
    }
}

/// The strategic patch that leads from `from` to `to`, for pods' containers, labels and finalizers.
fn diff(from: &Value, to: &Value) -> Value {
    let mut patch = Map::new();
    let labels = |value: &Value| value["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let mut label_patch = labels(to);
    for gone in labels(from).keys().filter(|key| !labels(to).contains_key(*key)) {
        label_patch.insert(gone.clone(), Value::Null);
    }
    patch.insert("metadata".into(), json!({"labels": label_patch}));
    let containers = |value: &Value| value["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let mut items = containers(to);
    for item in &mut items {
        let known = containers(from).into_iter().find(|known| known["name"] == item["name"]);
        for gone in known.iter().flat_map(|known| known.as_object().unwrap().keys()) {
            if item.get(gone).is_none() {
                item[gone] = Value::Null;
            }
        }
    }
    let is_gone = |known: &&Value| !containers(to).iter().any(|item| item["name"] == known["name"]);
    let old = containers(from);
    let deleted = old.iter().filter(is_gone).map(|known| json!({"name": known["name"], "$patch": "delete"}));
    items.extend(deleted);
    let order: Vec<Value> = containers(to).iter().map(|item| json!({"name": item["name"]})).collect();
    patch.insert("spec".into(), json!({"containers": items, "$setElementOrder/containers": order}));
    Value::Object(patch)
}

prop_compose! {
    fn any_pod()(
        names in proptest::sample::subsequence(vec!["a", "b", "c", "d", "e"], 0..5).prop_shuffle(),
        images in proptest::collection::vec(proptest::option::of("[x-z]"), 5),
        labels in proptest::collection::btree_map("[a-d]", "[0-9]", 0..4),
    ) -> Value {
        let containers: Vec<Value> = names.iter().zip(images).map(|(name, image)| match image {
            Some(image) => json!({"name": name, "image": image}),
            None => json!({"name": name}),
        }).collect();
        json!({"metadata": {"labels": labels}, "spec": {"containers": containers}})
    }
}

proptest! {
    #[test]
    fn a_diff_leads_to_its_target_and_is_idempotent(from in any_pod(), to in any_pod()) {
        let patch = diff(&from, &to);
        let once = strategic(POD, &from, patch.clone()).unwrap();
        prop_assert_eq!(&once, &to);
        prop_assert_eq!(strategic(POD, &once, patch).unwrap(), once);
    }

    #[test]
    fn any_value_as_a_patch_is_answered(text in "[\\{\\}\\[\\]:,\"$a-c0-9/]{0,40}") {
        for type_ in [PatchType::Json, PatchType::Merge, PatchType::Strategic] {
            let _ = super::patch(&Schemas::builtin(), POD, type_, text.as_bytes(), &json!({"spec": {}}));
        }
    }
}
