//! Quotas and limits hold, whatever is written, and however many write at once.

use futures::future::join_all;
use serde_json::{Value, json};

use super::{Caller, pod, run};
use crate::kube::client::ListOptions;

fn quota(name: &str, hard: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"hard": hard}})
}

fn sized(name: &str, cpu: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
    pod
}

fn resize(cpu: &str) -> Value {
    let container =
        json!({"name": "c", "image": "busybox", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}});
    json!({"spec": {"containers": [container]}})
}

/// Waits until the status of the quota says so: it follows deletions a moment later.
async fn until_used(admin: &Caller, path: &str, expected: Value) {
    let used = async {
        while admin.get(path).await.unwrap()["status"]["used"] != expected {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), used).await;
    assert!(waited.is_ok(), "{} is not {expected}", admin.get(path).await.unwrap()["status"]["used"]);
}

#[test]
fn fifty_at_once_fill_a_quota_of_twenty_five() {
    run(async |cluster| {
        let callers = [cluster.admin().await, cluster.admin().await];
        callers[0].namespace("q").await;
        callers[0].create("resourcequotas/q", quota("few", json!({"pods": "25", "requests.cpu": "1"}))).await.unwrap();
        let create = |at: usize| {
            let (caller, object) = (callers[at % 2].clone(), sized(&format!("p{at}"), "10m"));
            async move { caller.create("pods/q", object).await }
        };
        let results = join_all((0..50).map(create)).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 25);
        for refused in results.into_iter().filter_map(Result::err) {
            let text = "exceeded quota: few, requested: pods=1, used: pods=25, limited: pods=25";
            assert!(refused.code == 403 && refused.message.contains(text), "{refused}");
        }
        let status = callers[0].get("resourcequotas/q/few").await.unwrap()["status"].clone();
        assert_eq!(status["used"], json!({"pods": "25", "requests.cpu": "250m"}));
        // What goes makes room.
        let pods = callers[0].list("pods/q", ListOptions::default()).await.unwrap();
        let name = &pods.items[0].meta.name;
        callers[0].delete(&format!("pods/q/{name}")).await.unwrap();
        callers[1].create("pods/q", sized("again", "10m")).await.unwrap();
        assert_eq!(callers[1].create("pods/q", sized("more", "10m")).await.unwrap_err().code, 403);
    });
}

#[test]
fn a_new_quota_counts_what_is_there_at_once() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        admin.namespace("q").await;
        admin.create("pods/q", sized("a", "100m")).await.unwrap();
        admin.create("resourcequotas/q", quota("all", json!({"pods": "2", "limits.cpu": "1"}))).await.unwrap();
        let stored = admin.get("resourcequotas/q/all").await.unwrap();
        assert_eq!(
            stored["status"],
            json!({"hard": {"pods": "2", "limits.cpu": "1"}, "used": {"pods": "1", "limits.cpu": "100m"}})
        );
        // What is newly limited is counted before anything is charged to it.
        let hard = json!({"spec": {"hard": {"pods": "2", "limits.cpu": "1", "requests.cpu": "150m"}}});
        admin.merge("resourcequotas/q/all", hard).await.unwrap();
        let refused = admin.create("pods/q", sized("b", "100m")).await.unwrap_err();
        assert!(refused.message.contains("requested: requests.cpu=100m, used: requests.cpu=100m"), "{refused}");
        admin.create("pods/q", sized("c", "50m")).await.unwrap();
        until_used(&admin, "resourcequotas/q/all", json!({"pods": "2", "limits.cpu": "150m", "requests.cpu": "150m"}))
            .await;
    });
}

#[test]
fn a_quota_holds_for_what_an_update_makes_of_an_object() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        admin.namespace("q").await;
        admin.create("resourcequotas/q", quota("ports", json!({"services.nodeports": "1"}))).await.unwrap();
        admin.create("resourcequotas/q", quota("cpu", json!({"requests.cpu": "300m"}))).await.unwrap();
        for name in ["a", "b"] {
            let service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
            admin.create("services/q", service).await.unwrap();
        }
        let open = json!({"spec": {"type": "NodePort"}});
        admin.merge("services/q/a", open.clone()).await.unwrap();
        let refused = admin.merge("services/q/b", open.clone()).await.unwrap_err();
        let text = "services \"b\" is forbidden: exceeded quota: ports, requested: services.nodeports=1, used: \
            services.nodeports=1, limited: services.nodeports=1";
        assert_eq!((refused.code, refused.message.as_str()), (403, text));
        let more = json!({"spec": {"ports": [{"name": "x", "port": 80}, {"name": "y", "port": 81}]}});
        assert_eq!(admin.merge("services/q/a", more).await.unwrap_err().code, 403);
        admin.merge("services/q/a", json!({"spec": {"type": "ClusterIP"}})).await.unwrap();
        until_used(&admin, "resourcequotas/q/ports", json!({"services.nodeports": "0"})).await;
        admin.merge("services/q/b", open).await.unwrap();

        admin.create("pods/q", sized("p", "100m")).await.unwrap();
        admin.merge("pods/q/p/resize", resize("250m")).await.unwrap();
        let refused = admin.merge("pods/q/p/resize", resize("350m")).await.unwrap_err();
        assert!(
            refused.message.contains("exceeded quota: cpu, requested: requests.cpu=100m, used: requests.cpu=250m"),
            "{refused}"
        );
        // A status is told, never refused.
        admin.merge("pods/q/p/status", json!({"status": {"phase": "Succeeded"}})).await.unwrap();
        until_used(&admin, "resourcequotas/q/cpu", json!({"requests.cpu": "0"})).await;
        admin.create("pods/q", sized("other", "300m")).await.unwrap();
        admin.merge("pods/q/p/status", json!({"status": {"phase": "Running"}})).await.unwrap();
        until_used(&admin, "resourcequotas/q/cpu", json!({"requests.cpu": "550m"})).await;
    });
}

#[test]
fn a_resize_keeps_to_limits_and_to_the_class_of_its_pod() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        admin.namespace("q").await;
        let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [
            {"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "50m"}, "default": {"cpu": "200m"}}]}});
        admin.create("limitranges/q", range).await.unwrap();
        // What a LimitRange fills in decides the class, too.
        let bare = admin.create("pods/q", pod("bare")).await.unwrap();
        assert_eq!(
            (&bare["spec"]["containers"][0]["resources"]["limits"]["cpu"], &bare["status"]["qosClass"]),
            (&json!("200m"), &json!("Burstable"))
        );
        admin.create("pods/q", sized("p", "100m")).await.unwrap();
        admin.merge("pods/q/p/resize", resize("1")).await.unwrap();
        let refused = admin.merge("pods/q/p/resize", resize("2")).await.unwrap_err();
        assert!(refused.message.contains("maximum cpu usage per Container is 1, but limit is 2"), "{refused}");
        assert_eq!(admin.merge("pods/q/p/resize", resize("10m")).await.unwrap_err().code, 403);
        let mut unequal = resize("500m");
        unequal["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("600m");
        assert_eq!(admin.merge("pods/q/p/resize", unequal).await.unwrap_err().code, 422, "requests exceed limits");
        let mut other = resize("500m");
        other["spec"]["containers"][0]["resources"]["requests"]["ephemeral-storage"] = json!("1Gi");
        let refused = admin.merge("pods/q/p/resize", other).await.unwrap_err();
        assert!(refused.message.contains("only cpu and memory resources are mutable"), "{refused}");
        let mut guaranteed = resize("500m");
        guaranteed["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
        let refused = admin.merge("pods/q/p/resize", guaranteed).await.unwrap_err();
        assert!(refused.message.contains("Pod QOS Class may not change as a result of resizing"), "{refused}");
    });
}

#[test]
fn an_ephemeral_container_is_checked() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        admin.namespace("q").await;
        let mut with = pod("with");
        with["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "busybox"}]);
        let refused = admin.create("pods/q", with).await.unwrap_err();
        assert!(refused.message.contains("spec.ephemeralContainers: Forbidden: cannot be set on create"), "{refused}");
        admin.create("pods/q", pod("p")).await.unwrap();
        let debug = |container: Value| json!({"spec": {"ephemeralContainers": [container]}});
        for (container, text) in [
            (json!({"name": "c", "image": "i"}), "Duplicate value: \"c\""),
            (json!({"name": "D_", "image": "i"}), "RFC 1123"),
            (json!({"name": "d"}), "image: Required value"),
            (json!({"name": "d", "image": "i", "resources": {"limits": {"cpu": "1"}}}), "resources: Forbidden"),
            (json!({"name": "d", "image": "i", "ports": [{"containerPort": 1}]}), "ports: Forbidden"),
            (json!({"name": "d", "image": "i", "targetContainerName": "x"}), "targetContainerName: Not found"),
            (
                json!({"name": "d", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
                "Not found: \"v\"",
            ),
        ] {
            let refused = admin.merge("pods/q/p/ephemeralcontainers", debug(container)).await.unwrap_err();
            assert!(refused.code == 422 && refused.message.contains(text), "{text}: {refused}");
        }
        let fine = json!({"name": "d", "image": "i", "targetContainerName": "c"});
        admin.merge("pods/q/p/ephemeralcontainers", debug(fine)).await.unwrap();
    });
}

#[test]
fn a_quota_for_one_class_leaves_the_others_alone() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        admin.namespace("q").await;
        let mut critical = quota("critical", json!({"pods": "1"}));
        critical["spec"]["scopeSelector"] = json!({"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["system-cluster-critical"]}]});
        admin.create("resourcequotas/q", critical).await.unwrap();
        for name in ["a", "b"] {
            admin.create("pods/q", pod(name)).await.unwrap();
        }
        let of_class = |name: &str| {
            let mut pod = pod(name);
            pod["spec"]["priorityClassName"] = json!("system-cluster-critical");
            pod
        };
        admin.create("pods/q", of_class("c")).await.unwrap();
        let refused = admin.create("pods/q", of_class("d")).await.unwrap_err();
        assert!(refused.message.contains("exceeded quota: critical"), "{refused}");
        for selector in [
            json!([{"scopeName": "PriorityClass", "operator": "In"}]),
            json!([{"scopeName": "BestEffort", "operator": "In", "values": ["x"]}]),
            json!([{"scopeName": "Nothing", "operator": "Exists"}]),
        ] {
            let mut wrong = quota("wrong", json!({"pods": "1"}));
            wrong["spec"]["scopeSelector"] = json!({"matchExpressions": selector});
            assert_eq!(admin.create("resourcequotas/q", wrong).await.unwrap_err().code, 422);
        }
        let mut both = quota("both", json!({"pods": "1"}));
        both["spec"]["scopes"] = json!(["BestEffort", "NotBestEffort"]);
        assert_eq!(admin.create("resourcequotas/q", both).await.unwrap_err().code, 422);
        let mut odd = quota("odd", json!({"services": "1"}));
        odd["spec"]["scopes"] = json!(["BestEffort"]);
        assert_eq!(admin.create("resourcequotas/q", odd).await.unwrap_err().code, 422);
    });
}

#[test]
fn a_service_changes_its_type_and_back() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        admin.create("services/default", service).await.unwrap();
        let outside = json!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
        let named = admin.merge("services/default/s", outside).await.unwrap();
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "externalTrafficPolicy", "internalTrafficPolicy"] {
            assert!(named["spec"][field].is_null(), "{field}: {}", named["spec"]);
        }
        assert!(named["spec"]["ports"][0]["nodePort"].is_null());
        let inside = json!({"spec": {"type": "ClusterIP", "externalName": null}});
        let back = admin.merge("services/default/s", inside).await.unwrap();
        assert!(back["spec"]["clusterIP"].as_str().is_some_and(|ip| !ip.is_empty()), "{}", back["spec"]);
        assert_eq!(back["spec"]["ipFamilies"], json!(["IPv4"]));
    });
}
