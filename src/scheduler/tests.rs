//! Whole schedulers against an API in memory.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::LocalSet;

use super::*;
use crate::kube::client::fake::Fake;
use crate::kube::object::Key;
use crate::kube::status::Status;
use crate::world::MemoryDisk;

fn world() -> World {
    World::simulated(1, MemoryDisk::default())
}

fn node(name: &str, memory: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"allocatable": {"cpu": "4", "memory": memory, "pods": "110"}},
    })
}

fn pod(name: &str, memory: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default", "name": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"memory": memory}}}]},
    })
}

fn key(name: &str) -> Key {
    Key::new("default", name)
}

fn node_of(fake: &Fake, pod: &str) -> Option<String> {
    fake.get("pods", &key(pod))?["spec"]["nodeName"].as_str().map(str::to_owned)
}

fn condition(fake: &Fake, pod: &str) -> Option<Value> {
    let pod = fake.get("pods", &key(pod))?;
    pod["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "PodScheduled").cloned()
}

fn has_event(fake: &Fake, reason: &str, message: &str) -> bool {
    fake.all("events").iter().any(|event| event["reason"] == reason && event["message"] == message)
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_and_one_that_fits_nowhere_says_why_until_there_is_room() {
    LocalSet::new()
        .run_until(async {
            let (fake, shutdown) = (Fake::default(), Shutdown::new());
            for name in ["n1", "n2", "n3"] {
                fake.put("nodes", node(name, "8Gi"));
            }
            fake.put("pods", pod("big", "16Gi"));
            start(&world(), fake.client(), Config::new("s1"), shutdown.clone());
            fake.put("pods", pod("www", "1Gi"));
            fake.until(|fake| node_of(fake, "www").is_some()).await;
            let bound = format!("Successfully assigned default/www to {}", node_of(&fake, "www").unwrap());
            fake.until(|fake| has_event(fake, "Scheduled", &bound)).await;

            let why = "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available: \
                       3 Preemption is not helpful for scheduling.";
            fake.until(|fake| condition(fake, "big").is_some() && has_event(fake, "FailedScheduling", why)).await;
            let told = condition(&fake, "big").unwrap();
            assert_eq!((&told["status"], &told["reason"]), (&json!("False"), &json!("Unschedulable")));
            assert_eq!(told["message"], why);

            fake.put("nodes", node("n4", "32Gi"));
            fake.until(|fake| node_of(fake, "big").is_some()).await;
            assert_eq!(node_of(&fake, "big").as_deref(), Some("n4"));
            shutdown.begin();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn bindings_that_fail_are_tried_again() {
    LocalSet::new()
        .run_until(async {
            let (fake, shutdown) = (Fake::default(), Shutdown::new());
            fake.put("nodes", node("n1", "8Gi"));
            let leadership = start(&world(), fake.client(), Config::new("s1"), shutdown.clone());
            let mut leads = leadership.changes();
            while !futures::StreamExt::next(&mut leads).await.unwrap() {}
            fake.put("pods", pod("www", "1Gi"));
            fake.fail((0..5).map(|_| Status::service_unavailable("away")));
            fake.until(|fake| node_of(fake, "www").is_some()).await;
            shutdown.begin();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_standby_follows_along_and_takes_over() {
    LocalSet::new()
        .run_until(async {
            let (fake, world) = (Fake::default(), world());
            let (one, two) = (Shutdown::new(), Shutdown::new());
            fake.put("nodes", node("n1", "8Gi"));
            let first = start(&world, fake.client(), Config::new("s1"), one.clone());
            fake.put("pods", pod("a", "5Gi"));
            fake.until(|fake| node_of(fake, "a").is_some()).await;
            let second = start(&world, fake.client(), Config::new("s2"), two.clone());
            world.clock.sleep(Duration::from_secs(30)).await;
            assert!(first.is_leader() && !second.is_leader());
            one.begin();
            fake.put("pods", pod("b", "5Gi"));
            fake.until(|fake| condition(fake, "b").is_some_and(|condition| condition["status"] == "False")).await;
            assert!(second.is_leader(), "it knows that a takes the room");
            fake.remove("pods", &key("a"));
            fake.until(|fake| node_of(fake, "b").is_some()).await;
            two.begin();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn victims_leave_for_a_more_important_pod() {
    LocalSet::new()
        .run_until(async {
            let (fake, shutdown) = (Fake::default(), Shutdown::new());
            fake.put("nodes", node("n1", "8Gi"));
            fake.put("pods", pod("low", "6Gi"));
            start(&world(), fake.client(), Config::new("s1"), shutdown.clone());
            fake.until(|fake| node_of(fake, "low").is_some()).await;
            fake.edit("pods", &key("low"), |pod| pod["metadata"]["finalizers"] = json!(["example.com/hold"]));
            let mut important = pod("vip", "6Gi");
            important["spec"]["priority"] = json!(1000);
            fake.put("pods", important);
            let leaves = |pod: &Value| !pod["metadata"]["deletionTimestamp"].is_null();
            fake.until(|fake| fake.get("pods", &key("low")).is_some_and(|low| leaves(&low))).await;
            let low = fake.get("pods", &key("low")).unwrap();
            let conditions = low["status"]["conditions"].as_array().unwrap();
            assert!(conditions.iter().any(|c| c["reason"] == "PreemptionByScheduler"), "{conditions:?}");
            fake.until(|fake| {
                fake.get("pods", &key("vip")).is_some_and(|vip| vip["status"]["nominatedNodeName"] == "n1")
            })
            .await;
            fake.remove("pods", &key("low"));
            fake.until(|fake| node_of(fake, "vip").is_some()).await;
            shutdown.begin();
        })
        .await;
}
