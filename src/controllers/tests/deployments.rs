//! Deployments from their first pod to their last.

use std::time::Duration;

use serde_json::{Value, json};

use super::{BAD, SLOW, Story, story};

const WEB: &str = "apps:deployments/default/web";
const SETS: &str = "apps:replicasets/default";

impl Story {
    async fn deploy(&self, spec: Value) {
        let mut whole = json!({
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "good"}]}},
        });
        json_patch::merge(&mut whole, &spec);
        let web = json!({"metadata": {"name": "web"}, "spec": whole});
        self.admin.create("apps:deployments/default", web).await.unwrap();
    }

    async fn patch(&self, spec: Value) {
        self.admin.merge(WEB, json!({"spec": spec})).await.unwrap();
    }

    async fn use_image(&self, image: &str) {
        self.patch(json!({"template": {"spec": {"containers": [{"name": "c", "image": image}]}}})).await;
    }

    async fn until_ready(&self, count: i64) {
        let complete = |web: &Value| {
            let status = &web["status"];
            ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|field| status[field] == count)
                && status["observedGeneration"] == web["metadata"]["generation"]
        };
        self.until(WEB, complete).await;
    }

    /// The sizes of the replica sets of this image, the largest first.
    async fn sizes(&self, image: &str) -> Vec<i64> {
        let of_image = |set: &Value| set["spec"]["template"]["spec"]["containers"][0]["image"] == image;
        let sets = self.all(SETS).await;
        let mut sizes: Vec<i64> =
            sets.iter().filter(|set| of_image(set)).map(|set| set["spec"]["replicas"].as_i64().unwrap()).collect();
        sizes.sort_unstable_by_key(|size| -size);
        sizes
    }

    async fn until_sizes(&self, expected: [(&str, &[i64]); 2]) {
        let same = async || {
            for (image, sizes) in expected {
                if self.sizes(image).await != sizes {
                    return None;
                }
            }
            Some(())
        };
        self.eventually(&format!("{expected:?}"), same).await;
    }
}

fn condition(web: &Value, kind: &str) -> Option<Value> {
    web["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind).cloned()
}

fn reason(web: &Value) -> String {
    condition(web, "Progressing").map(|condition| condition["reason"].as_str().unwrap().to_owned()).unwrap_or_default()
}

#[test]
fn only_users_make_new_generations() {
    story(async |story| {
        story.deploy(json!({"replicas": 2})).await;
        story.until_ready(2).await;
        let web = story.until(WEB, |web| reason(web) == "NewReplicaSetAvailable").await;
        assert_eq!(web["metadata"]["generation"], 1);
        assert_eq!(web["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
        story.use_image("better").await;
        story.until_ready(2).await;
        let web =
            story.until(WEB, |web| web["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2").await;
        assert_eq!(web["metadata"]["generation"], 2);
        assert_eq!(story.sizes("good").await, [0]);
    });
}

#[test]
fn a_rollout_under_way_is_scaled_in_proportion() {
    story(async |story| {
        story
            .deploy(json!({"replicas": 10, "strategy": {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}))
            .await;
        story.until_ready(10).await;
        story.use_image(BAD).await;
        story.until_sizes([("good", &[8]), (BAD, &[5])]).await;
        story.patch(json!({"replicas": 15})).await;
        story.until_sizes([("good", &[11]), (BAD, &[7])]).await;
        story.use_image("good").await;
        story.until_ready(15).await;
        story.until_sizes([("good", &[15]), (BAD, &[0])]).await;
    });
}

#[test]
fn a_paused_deployment_is_scaled_and_not_rolled_out() {
    story(async |story| {
        story.deploy(json!({"replicas": 2})).await;
        story.until_ready(2).await;
        story.patch(json!({"paused": true})).await;
        story.use_image("better").await;
        story.patch(json!({"replicas": 4})).await;
        story.until_sizes([("good", &[4]), ("better", &[])]).await;
        story.until(WEB, |web| reason(web) == "DeploymentPaused").await;
        story.patch(json!({"paused": false})).await;
        story.until_ready(4).await;
        assert_eq!((story.sizes("good").await, story.sizes("better").await), (vec![0], vec![4]));
    });
}

#[test]
fn recreating_waits_until_the_last_old_pod_is_gone() {
    story(async |story| {
        let slow = json!({"metadata": {"annotations": {SLOW: ""}}});
        story.deploy(json!({"replicas": 2, "strategy": {"type": "Recreate"}, "template": slow})).await;
        story.until_ready(2).await;
        let old = story.names("pods/default").await;
        story.patch(json!({"template": {"metadata": {"annotations": {SLOW: null, "v": "2"}}}})).await;
        story.until_sizes([("good", &[0]), (BAD, &[])]).await;
        for pod in &old {
            assert_eq!(story.names(SETS).await.len(), 1, "no new replica set while {pod} is there");
            let pod = format!("pods/default/{pod}");
            story.until(&pod, |pod| !pod["metadata"]["deletionTimestamp"].is_null()).await;
            story.admin.merge(&pod, json!({"metadata": {"annotations": {SLOW: null}}})).await.unwrap();
            story.until_gone(&pod).await;
        }
        story.until_ready(2).await;
        assert_eq!(story.sizes("good").await, [2, 0]);
    });
}

#[test]
fn a_missed_deadline_stays_told() {
    story(async |story| {
        story.deploy(json!({"replicas": 1, "progressDeadlineSeconds": 1})).await;
        story.until_ready(1).await;
        story.use_image(BAD).await;
        let late = story.until(WEB, |web| reason(web) == "ProgressDeadlineExceeded").await;
        assert_eq!(condition(&late, "Progressing").unwrap()["status"], "False");
        // The controller looks at it again for whatever reason.
        story.admin.merge(WEB, json!({"metadata": {"labels": {"touched": "yes"}}})).await.unwrap();
        story.pass(Duration::from_secs(2)).await;
        assert_eq!(reason(&story.admin.get(WEB).await.unwrap()), "ProgressDeadlineExceeded");
        story.use_image("better").await;
        story.until_ready(1).await;
        story.until(WEB, |web| reason(web) == "NewReplicaSetAvailable").await;
    });
}

#[test]
fn pods_count_as_available_after_their_time_by_themselves() {
    story(async |story| {
        story.deploy(json!({"replicas": 2, "minReadySeconds": 2})).await;
        let ready = story.until(WEB, |web| web["status"]["readyReplicas"] == 2).await;
        assert_eq!(ready["status"]["availableReplicas"], Value::Null, "ready, and not for long enough yet");
        story.until_ready(2).await;
        let set = story.all(SETS).await.remove(0);
        assert_eq!(set["spec"]["minReadySeconds"], 2);
        story.patch(json!({"minReadySeconds": 1})).await;
        let told = async || (story.all(SETS).await[0]["spec"]["minReadySeconds"] == 1).then_some(());
        story.eventually("the replica set hears of it", told).await;
    });
}

#[test]
fn what_a_deployment_says_of_itself_reaches_its_replica_set() {
    story(async |story| {
        story.deploy(json!({"replicas": 1})).await;
        story.until_ready(1).await;
        let cause = json!({"metadata": {"annotations": {"kubernetes.io/change-cause": "because"}}});
        story.admin.merge(WEB, cause).await.unwrap();
        let told = async || {
            let set = story.all(SETS).await.remove(0);
            (set["metadata"]["annotations"]["kubernetes.io/change-cause"] == "because").then_some(set)
        };
        let set = story.eventually("the cause", told).await;
        assert_eq!(set["metadata"]["annotations"]["deployment.kubernetes.io/desired-replicas"], "1");
        assert_eq!(set["metadata"]["annotations"]["deployment.kubernetes.io/max-replicas"], "2");
    });
}

#[test]
fn a_quota_that_is_used_up_shows_in_the_deployment() {
    story(async |story| {
        let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
        story.admin.create("resourcequotas/default", quota).await.unwrap();
        story.deploy(json!({"replicas": 1})).await;
        let web = story.until(WEB, |web| condition(web, "ReplicaFailure").is_some()).await;
        let failure = condition(&web, "ReplicaFailure").unwrap();
        assert_eq!(failure["reason"], "FailedCreate");
        assert!(failure["message"].as_str().unwrap().contains("exceeded quota"), "{failure}");
        story.admin.delete("resourcequotas/default/none").await.unwrap();
        story.until_ready(1).await;
        story.until(WEB, |web| condition(web, "ReplicaFailure").is_none()).await;
    });
}

#[test]
fn a_rollout_back_takes_the_highest_revision() {
    story(async |story| {
        story.deploy(json!({"replicas": 1, "revisionHistoryLimit": 1})).await;
        story.until_ready(1).await;
        for image in ["b", "c", "good"] {
            story.use_image(image).await;
            story.until_ready(1).await;
        }
        let kept = async || {
            let sets = story.all(SETS).await;
            let revision = |set: &Value| set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone();
            (sets.len() == 2).then(|| sets.iter().map(revision).collect::<Vec<_>>())
        };
        let mut kept = story.eventually("the history", kept).await;
        kept.sort_by_key(Value::to_string);
        assert_eq!(kept, [json!("3"), json!("4")]);
    });
}
