use serde_json::{Value, json};

use super::*;

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";

fn manager(name: &'static str) -> Manager<'static> {
    Manager { name, api_version: "apps/v1", subresource: None, time: "2026-01-01T00:00:00Z" }
}

fn applied(live: Option<&Value>, config: Value, name: &'static str) -> Result<Value, Status> {
    apply(&Schemas::builtin(), DEPLOYMENT, live, &config, &manager(name), false)
}

fn tracked(live: &Value, mut new: Value, name: &'static str) -> Value {
    track(&Schemas::builtin(), DEPLOYMENT, Some(live), &mut new, &manager(name));
    new
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
}

fn containers(list: Value) -> Value {
    deployment(json!({"template": {"spec": {"containers": list}}}))
}

#[test]
fn the_first_apply_owns_what_it_says() {
    let config = containers(json!([{"name": "a", "ports": [{"containerPort": 80}]}]));
    let object = applied(None, config, "me").unwrap();
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{
            "manager": "me", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {
                ".": {}, "f:name": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
            }}}}}},
        }])
    );
}

#[test]
fn what_is_no_longer_said_goes_and_what_others_said_stays() {
    let first =
        applied(None, containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])), "me").unwrap();
    let mut other = first.clone();
    other["spec"]["replicas"] = json!(3);
    other["metadata"]["labels"] = json!({"x": "y"});
    let live = tracked(&first, other, "scaler");
    let second = applied(Some(&live), containers(json!([{"name": "b", "image": "2"}])), "me").unwrap();
    assert_eq!(second["spec"]["template"]["spec"]["containers"], json!([{"name": "b", "image": "2"}]));
    assert_eq!((&second["spec"]["replicas"], &second["metadata"]["labels"]), (&json!(3), &json!({"x": "y"})));
}

#[test]
fn the_last_label_of_a_manager_takes_the_map_along() {
    let labelled = json!({"metadata": {"name": "web", "labels": {"a": "1"}}, "spec": {"replicas": 1}});
    let first = applied(None, labelled, "me").unwrap();
    let second = applied(Some(&first), deployment(json!({"replicas": 1})), "me").unwrap();
    assert_eq!(second["metadata"].get("labels"), None);
}

#[test]
fn managers_that_disagree_conflict_until_one_forces() {
    let first = applied(None, deployment(json!({"replicas": 1})), "me").unwrap();
    let conflict = applied(Some(&first), deployment(json!({"replicas": 2})), "you").unwrap_err();
    assert_eq!(
        (conflict.code, conflict.message.as_str()),
        (409, "Apply failed with 1 conflict: conflict with \"me\" using apps/v1: .spec.replicas")
    );
    let cause = &conflict.details.as_ref().unwrap().causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("FieldManagerConflict", ".spec.replicas"));

    let schemas = Schemas::builtin();
    let config = deployment(json!({"replicas": 2}));
    let forced = apply(&schemas, DEPLOYMENT, Some(&first), &config, &manager("you"), true).unwrap();
    let managers = forced["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!((managers.len(), &managers[0]["manager"]), (1, &json!("you")));

    // The same value is no conflict: both own it.
    let shared = applied(Some(&first), deployment(json!({"replicas": 1})), "you").unwrap();
    assert_eq!(shared["metadata"]["managedFields"].as_array().unwrap().len(), 2);
}

#[test]
fn applying_twice_changes_nothing() {
    let config = containers(json!([{"name": "a", "image": "1", "env": [{"name": "E", "value": "1"}]}]));
    let once = applied(None, config.clone(), "me").unwrap();
    assert_eq!(applied(Some(&once), config, "me").unwrap(), once);
}

#[test]
fn an_update_owns_its_changes_and_removals_are_nobodys() {
    let first = applied(None, deployment(json!({"replicas": 1, "paused": true})), "me").unwrap();
    let mut new = first.clone();
    new["spec"] = json!({"replicas": 5});
    let updated = tracked(&first, new, "kubectl");
    let fields = |place: usize| updated["metadata"]["managedFields"][place]["fieldsV1"].clone();
    assert_eq!(updated["metadata"]["managedFields"].as_array().unwrap().len(), 1);
    assert_eq!(fields(0), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn updaters_cannot_fill_the_list() {
    let names: Vec<&'static str> = "abcdefghijklmnopqrst".split("").filter(|name| !name.is_empty()).collect();
    let mut live = deployment(json!({}));
    for name in &names {
        let mut new = live.clone();
        new["metadata"]["labels"][*name] = json!("1");
        live = tracked(&live, new, name);
    }
    let managers = live["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.len() <= 10, "{}", managers.len());
    assert!(managers.iter().any(|entry| entry["manager"] == "ancient-changes"));
}
