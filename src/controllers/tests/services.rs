//! Services and what stands behind them; roles that gather others.

use serde_json::{Value, json};

use super::{SLOW, Story, story};

const SLICES: &str = "discovery.k8s.io:endpointslices/default";

impl Story {
    /// The one slice of a service that `holds`.
    async fn slice(&self, service: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let found = async || {
            let slices = self.all(SLICES).await;
            let of_service = |slice: &Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service;
            slices.into_iter().find(|slice| of_service(slice) && holds(slice))
        };
        self.eventually(&format!("the slice of {service}"), found).await
    }
}

#[test]
fn endpoints_written_by_hand_are_mirrored() {
    story(async |story| {
        let service = json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}});
        story.admin.create("services/default", service).await.unwrap();
        let subset = json!({"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 5432, "protocol": "TCP"}]});
        let endpoints = json!({"metadata": {"name": "db", "labels": {"app": "db"}}, "subsets": [subset]});
        story.admin.create("endpoints/default", endpoints).await.unwrap();
        let slice = story.slice("db", |slice| slice["endpoints"][0]["addresses"] == json!(["10.1.2.3"])).await;
        let labels = &slice["metadata"]["labels"];
        assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslicemirroring-controller.k8s.io");
        assert_eq!((&labels["app"], &slice["ports"][0]["port"]), (&json!("db"), &json!(5432)));

        let subset = json!({"notReadyAddresses": [{"ip": "10.1.2.4"}], "ports": [{"port": 5432}]});
        story.admin.merge("endpoints/default/db", json!({"subsets": [subset]})).await.unwrap();
        story.slice("db", |slice| slice["endpoints"][0]["conditions"]["ready"] == false).await;
        story.admin.delete("endpoints/default/db").await.unwrap();
        let gone = async || (!story.names(SLICES).await.iter().any(|name| name.starts_with("db-"))).then_some(());
        story.eventually("the end of the slice", gone).await;
    });
}

#[test]
fn serving_follows_the_probe_to_the_end() {
    story(async |story| {
        let service = json!({"metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
        story.admin.create("services/default", service).await.unwrap();
        let pod = json!({"metadata": {"name": "web", "labels": {"app": "web"}, "annotations": {SLOW: ""}},
            "spec": {"containers": [{"name": "c", "image": "good"}]}});
        story.admin.create("pods/default", pod).await.unwrap();
        let is = |ready: bool, serving: bool, terminating: bool| {
            let wanted = json!({"ready": ready, "serving": serving, "terminating": terminating});
            move |slice: &Value| slice["endpoints"][0]["conditions"] == wanted
        };
        story.slice("web", is(true, true, false)).await;
        story.admin.delete("pods/default/web").await.unwrap();
        story.slice("web", is(false, true, true)).await;
        let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        story.admin.merge("pods/default/web/status", unready).await.unwrap();
        story.slice("web", is(false, false, true)).await;
    });
}

#[test]
fn built_in_roles_have_the_rules_that_they_gather() {
    story(async |story| {
        for name in ["view", "edit", "admin"] {
            let path = format!("rbac.authorization.k8s.io:clusterroles//{name}");
            story.until(&path, |role| role["rules"].as_array().is_some_and(|rules| !rules.is_empty())).await;
        }
        let rule = json!({"apiGroups": ["example.com"], "resources": ["gizmos"], "verbs": ["get"]});
        let labels = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
        let part = json!({"metadata": {"name": "gizmos", "labels": labels}, "rules": [rule]});
        story.admin.create("rbac.authorization.k8s.io:clusterroles", part).await.unwrap();
        let has = |role: &Value| role["rules"].as_array().unwrap().contains(&rule);
        story.until("rbac.authorization.k8s.io:clusterroles//view", has).await;
        story.admin.delete("rbac.authorization.k8s.io:clusterroles//gizmos").await.unwrap();
        story.until("rbac.authorization.k8s.io:clusterroles//view", |role| !has(role)).await;
    });
}
