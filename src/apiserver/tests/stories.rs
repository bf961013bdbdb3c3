//! What clients rely on, told through frontends on one store.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{Caller, config_map, pod, run};
use crate::actor::Shutdown;
use crate::apiserver::User;
use crate::apiserver::watch_cache::lister_watcher::ListerWatcher;
use crate::apiserver::watch_cache::{Behind, WatchCache};
use crate::kube::client::{ListOptions, PatchType, Verb, WatchOptions};
use crate::world::Revision;

#[test]
fn an_object_is_written_by_whoever_saw_its_last_state() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        let created = admin.create("configmaps/default", config_map("a")).await.unwrap();
        assert!(created["metadata"]["uid"].is_string() && created["metadata"]["creationTimestamp"].is_string());
        assert_eq!(admin.create("configmaps/default", config_map("a")).await.unwrap_err().code, 409);

        let mut newer = created.clone();
        newer["data"] = json!({"x": "1"});
        admin.update("configmaps/default/a", &newer).await.unwrap();
        let mut stale = created;
        stale["data"] = json!({"x": "2"});
        let refused = admin.update("configmaps/default/a", &stale).await.unwrap_err();
        assert!(refused.is_conflict() && refused.message.contains("the object has been modified"));
        assert_eq!(admin.get("configmaps/default/a").await.unwrap()["data"], json!({"x": "1"}));

        admin.delete("configmaps/default/a").await.unwrap();
        let gone = admin.get("configmaps/default/a").await.unwrap_err();
        assert_eq!((gone.code, gone.message.as_str()), (404, "configmaps \"a\" not found"));
    });
}

#[test]
fn a_watch_goes_on_at_another_frontend_without_a_gap() {
    run(async |cluster| {
        let (one, two) = (cluster.admin().await, cluster.admin().await);
        let list = one.list("configmaps/default", ListOptions::default()).await.unwrap();
        for name in ["a", "b"] {
            one.create("configmaps/default", config_map(name)).await.unwrap();
        }
        let from =
            |version: &str| WatchOptions { resource_version: Some(version.to_owned()), ..WatchOptions::default() };
        let first = one.events("configmaps/default", from(&list.resource_version), 1).await;
        assert_eq!(first, ["ADDED a"]);
        let seen = one.get("configmaps/default/a").await.unwrap();
        two.delete("configmaps/default/b").await.unwrap();
        let version = seen["metadata"]["resourceVersion"].as_str().unwrap();
        let rest = two.events("configmaps/default", from(version), 2).await;
        assert_eq!(rest, ["ADDED b", "DELETED b"]);
        // A frontend that starts now never saw those revisions: it reads the store's history.
        let late = cluster.admin().await;
        assert_eq!(late.events("configmaps/default", from(version), 2).await, rest);
    });
}

#[test]
fn a_cache_that_is_behind_answers_nobody_who_must_see_more() {
    run(async |cluster| {
        let shutdown = Shutdown::new();
        let (store, prefix) = (cluster.store.clone(), "/registry/configmaps/".to_owned());
        let lister_watcher = ListerWatcher { store, prefix, end: None, fields: Arc::new(|_| Vec::new()) };
        let cache = WatchCache::start(&cluster.world, lister_watcher, shutdown.clone());
        let soon = || cluster.world.clock.now() + Duration::from_secs(1);
        let held = cache.any(soon()).await.unwrap().revision;
        assert_eq!(cache.at_least(held, soon()).await.unwrap().revision, held);
        shutdown.begin();
        let more = cache.at_least(Revision(held.0 + 1), soon()).await;
        assert_eq!(more.map(|view| view.revision), Err(Behind { revision: held }), "a stale view");
    });
}

#[test]
fn a_list_in_pages_shows_one_moment() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        for name in ["a", "b", "c"] {
            admin.create("configmaps/default", config_map(name)).await.unwrap();
        }
        let page =
            |token: Option<String>| ListOptions { limit: Some(2), continue_token: token, ..ListOptions::default() };
        let first = admin.list("configmaps/default", page(None)).await.unwrap();
        assert_eq!((first.items.len(), first.remaining_item_count), (2, Some(1)));
        admin.delete("configmaps/default/c").await.unwrap();
        let second = admin.list("configmaps/default", page(first.continue_token)).await.unwrap();
        assert_eq!(second.items[0].meta.name, "c", "the page is of the first one's moment");
        assert_eq!(second.resource_version, first.resource_version);
        assert!(second.continue_token.is_none());
    });
}

#[test]
fn a_watch_can_begin_with_what_is_there() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        admin.create("configmaps/default", config_map("a")).await.unwrap();
        let options = WatchOptions {
            send_initial_events: true,
            allow_bookmarks: true,
            resource_version_match: Some("NotOlderThan".to_owned()),
            ..WatchOptions::default()
        };
        assert_eq!(admin.events("configmaps/default", options, 2).await, ["ADDED a", "BOOKMARK"]);
    });
}

#[test]
fn a_quota_holds_through_several_frontends() {
    run(async |cluster| {
        let callers = [cluster.admin().await, cluster.admin().await];
        callers[0].namespace("q").await;
        let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "3"}}});
        callers[0].create("resourcequotas/q", quota).await.unwrap();
        let pods: Vec<String> = (0..8).map(|at| format!("p{at}")).collect();
        let create = |(at, name): (usize, &String)| {
            let (caller, object) = (callers[at % 2].clone(), pod(name));
            async move { caller.create("pods/q", object).await }
        };
        let results = futures::future::join_all(pods.iter().enumerate().map(create)).await;
        let created = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(created, 3);
        let refused = results.into_iter().find_map(Result::err).unwrap();
        assert!(
            refused.message.contains("exceeded quota: few, requested: pods=1, used: pods=3, limited: pods=3"),
            "{refused}"
        );
    });
}

#[test]
fn a_namespace_in_deletion_takes_nothing_new_and_goes_when_it_is_finalized() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        admin.namespace("n").await;
        let mut ending = admin.delete("namespaces//n").await.unwrap();
        assert_eq!(ending["status"]["phase"], "Terminating");
        let refused = admin.create("configmaps/n", config_map("late")).await.unwrap_err();
        assert!(refused.message.contains("because it is being terminated"), "{refused}");
        ending["spec"]["finalizers"] = json!([]);
        admin.update("namespaces//n/finalize", &ending).await.unwrap();
        assert!(admin.get("namespaces//n").await.unwrap_err().is_not_found());
        assert_eq!(admin.delete("namespaces//default").await.unwrap_err().code, 403);
    });
}

#[test]
fn services_get_addresses_of_their_own() {
    run(async |cluster| {
        let callers = [cluster.admin().await, cluster.admin().await];
        let create = |at: usize| {
            let caller: Caller = callers[at % 2].clone();
            let service =
                json!({"metadata": {"name": format!("s{at}")}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
            async move { caller.create("services/default", service).await.unwrap() }
        };
        let services = futures::future::join_all((0..12).map(create)).await;
        let distinct = |pointer: &str| {
            let all = services.iter().map(|service| service.pointer(pointer).unwrap().to_string());
            all.collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!((distinct("/spec/clusterIP"), distinct("/spec/ports/0/nodePort")), (12, 12));
        let taken = services[0]["spec"]["clusterIP"].clone();
        let same = json!({"metadata": {"name": "x"}, "spec": {"clusterIP": taken, "ports": [{"port": 80}]}});
        assert_eq!(callers[0].create("services/default", same.clone()).await.unwrap_err().code, 422);
        callers[0].delete("services/default/s0").await.unwrap();
        callers[1].create("services/default", same).await.unwrap();
    });
}

#[test]
fn users_may_what_they_are_bound_to() {
    run(async |cluster| {
        let frontend = cluster.frontend().await;
        let as_user = |user: User| Caller(frontend.transport(user));
        let (admin, alice) = (as_user(User::master("admin")), as_user(User::new("alice", Vec::<String>::new())));
        let refused = alice.list("pods/default", ListOptions::default()).await.unwrap_err();
        let text = "pods is forbidden: User \"alice\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
        assert_eq!((refused.code, refused.message.as_str()), (403, text));
        let binding = json!({"metadata": {"name": "alice"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}]});
        admin.create("rbac.authorization.k8s.io:rolebindings/default", binding).await.unwrap();
        // Rights come from the cache, which follows the store.
        let granted = async {
            while alice.list("pods/default", ListOptions::default()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), granted).await.unwrap();
        assert_eq!(alice.create("configmaps/default", config_map("x")).await.unwrap_err().code, 403);
    });
}

#[test]
fn a_pod_is_bound_once_and_ends_in_its_own_time() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        admin.namespace("n").await;
        let created = admin.create("pods/n", pod("p")).await.unwrap();
        assert_eq!(created["spec"]["serviceAccountName"], "default");
        assert!(created["spec"]["volumes"][0]["projected"].is_object());
        let bind = |node: &str| json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}});
        admin.create("pods/n/p/binding", bind("n1")).await.unwrap();
        assert!(admin.create("pods/n/p/binding", bind("n2")).await.unwrap_err().is_conflict());
        let ending = admin.delete("pods/n/p").await.unwrap();
        assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 30);
        let status = json!({"status": {"phase": "Succeeded"}});
        admin.merge("pods/n/p/status", status).await.unwrap();
        assert_eq!(admin.get("pods/n/p").await.unwrap()["status"]["phase"], "Succeeded");
    });
}

#[test]
fn the_refusal_of_a_patch_shows_what_does_not_fit() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        admin.namespace("n").await;
        admin.create("pods/n", pod("p")).await.unwrap();
        let patch = |kind| Verb::Patch { kind, body: br#"{"spec":{"priority":"x"}}"#.as_slice().into(), force: false };
        let refused = admin.object("pods/n/p", patch(PatchType::Strategic)).await.unwrap_err();
        let shown = r#"patch: Invalid value: "map[spec:map[priority:x]]": "#;
        assert!(refused.code == 422 && refused.message.contains(shown), "{refused:?}");
        let refused = admin.object("pods/n/p", patch(PatchType::Merge)).await.unwrap_err();
        let shown = r#"\"priority\":\"x\""#;
        assert!(refused.code == 422 && refused.message.contains(shown), "{refused:?}");
    });
}

#[test]
fn replicas_are_set_through_scale() {
    run(async |cluster| {
        let admin = cluster.admin().await;
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]});
        let deployment = json!({"metadata": {"name": "web"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}});
        admin.create("apps:deployments/default", deployment).await.unwrap();
        let scale = admin.merge("apps:deployments/default/web/scale", json!({"spec": {"replicas": 4}})).await.unwrap();
        assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(4)));
        assert_eq!(scale["status"]["selector"], "a=b");
        let web = admin.get("apps:deployments/default/web").await.unwrap();
        assert_eq!((&web["spec"]["replicas"], &web["metadata"]["generation"]), (&json!(4), &json!(2)));
    });
}
