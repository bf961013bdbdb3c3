//! What goes with its owners, and what does not.

use serde_json::{Value, json};

use super::{Story, propagation, story};

fn map(name: &str, owners: Vec<Value>) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": owners}})
}

fn owner(object: &Value) -> Value {
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"], "blockOwnerDeletion": true})
}

fn nobody(kind: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "name": "nobody", "uid": "00000000-0000-0000-0000-000000000000"})
}

impl Story {
    async fn map(&self, name: &str, owners: Vec<Value>) -> Value {
        self.admin.create("configmaps/default", map(name, owners)).await.unwrap()
    }

    /// The collector has gone through all that there was before.
    async fn collected(&self) {
        self.map("canary", vec![nobody("ConfigMap")]).await;
        self.until_gone("configmaps/default/canary").await;
    }
}

#[test]
fn an_owner_that_cannot_be_resolved_is_no_reason_to_delete() {
    story(async |story| {
        let by_a_map = || json!({"name": "kept", "ownerReferences": [nobody("ConfigMap")]});
        story.admin.create("namespaces", json!({"metadata": by_a_map()})).await.unwrap();
        let role = json!({"metadata": by_a_map(), "rules": []});
        story.admin.create("rbac.authorization.k8s.io:clusterroles", role).await.unwrap();
        story.admin.create("namespaces", json!({"metadata": {"name": "other"}})).await.unwrap();
        let foreign = story.admin.create("configmaps/other", map("owner", vec![])).await.unwrap();
        story.map("kept", vec![owner(&foreign)]).await;
        story.map("of-unknown-kind", vec![nobody("Gizmo")]).await;
        story.collected().await;

        let told = async || {
            let events = story.all("events/default").await;
            let invalid = events.iter().filter(|event| event["reason"] == "OwnerRefInvalidNamespace");
            let about: Vec<String> = invalid.map(|event| event["involvedObject"]["kind"].to_string()).collect();
            (about.len() == 3).then_some(about)
        };
        story.eventually("an event about each invalid reference", told).await;
        for path in [
            "namespaces//kept",
            "rbac.authorization.k8s.io:clusterroles//kept",
            "configmaps/default/kept",
            "configmaps/default/of-unknown-kind",
        ] {
            let kept = story.admin.get(path).await.unwrap();
            assert!(kept["metadata"]["deletionTimestamp"].is_null(), "{path}");
        }
    });
}

#[test]
fn an_owner_that_waits_goes_when_another_keeps_its_dependent() {
    story(async |story| {
        let (waits, lives) = (story.map("waits", vec![]).await, story.map("lives", vec![]).await);
        story.map("shared", vec![owner(&waits), owner(&lives)]).await;
        story.admin.delete_with("configmaps/default/waits", propagation("Foreground")).await.unwrap();
        story.until_gone("configmaps/default/waits").await;
        let shared = story.admin.get("configmaps/default/shared").await.unwrap();
        assert_eq!(shared["metadata"]["ownerReferences"], json!([owner(&lives)]));
    });
}

#[test]
fn a_circle_ends_in_a_foreground_deletion() {
    story(async |story| {
        let one = story.map("one", vec![]).await;
        let two = story.map("two", vec![owner(&one)]).await;
        let patch = json!({"metadata": {"ownerReferences": [owner(&two)]}});
        story.admin.merge("configmaps/default/one", patch).await.unwrap();
        story.admin.delete_with("configmaps/default/one", propagation("Foreground")).await.unwrap();
        story.until_gone("configmaps/default/one").await;
        story.until_gone("configmaps/default/two").await;
    });
}

#[test]
fn dependents_go_first_in_a_foreground_deletion() {
    story(async |story| {
        let top = story.map("top", vec![]).await;
        let mut held = map("middle", vec![owner(&top)]);
        held["metadata"]["finalizers"] = json!(["example.com/held"]);
        story.admin.create("configmaps/default", held).await.unwrap();
        story.admin.delete_with("configmaps/default/top", propagation("Foreground")).await.unwrap();
        story.until("configmaps/default/middle", |middle| !middle["metadata"]["deletionTimestamp"].is_null()).await;
        story.collected().await;
        assert!(story.admin.get("configmaps/default/top").await.is_ok(), "it waits for what it owns");
        story.admin.merge("configmaps/default/middle", json!({"metadata": {"finalizers": null}})).await.unwrap();
        story.until_gone("configmaps/default/top").await;
    });
}

#[test]
fn orphans_stay_and_are_not_taken_back() {
    story(async |story| {
        let template = json!({"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "good"}]}});
        let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template});
        let web = json!({"metadata": {"name": "web"}, "spec": spec});
        story.admin.create("apps:deployments/default", web).await.unwrap();
        story.until("apps:deployments/default/web", |web| web["status"]["readyReplicas"] == 2).await;
        story.admin.delete_with("apps:deployments/default/web", propagation("Orphan")).await.unwrap();
        story.until_gone("apps:deployments/default/web").await;
        story.collected().await;
        let sets = story.all("apps:replicasets/default").await;
        assert_eq!(sets.len(), 1);
        assert_eq!(sets[0]["metadata"]["ownerReferences"], Value::Null);
        assert_eq!(story.names("pods/default").await.len(), 2);
    });
}
