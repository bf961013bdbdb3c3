use serde_json::{Value, json};

use super::*;
use crate::kube::resources::Table;

fn defaulted(api_version: &str, kind: &str, mut object: Value) -> Value {
    Table::builtin().by_kind(api_version, kind).unwrap().default(&mut object);
    object
}

#[test]
fn a_pod_is_fully_defaulted() {
    let object = json!({"metadata": {"name": "www"}, "spec": {
        "hostNetwork": true,
        "serviceAccount": "robot",
        "containers": [{
            "name": "nginx", "image": "nginx:1.27",
            "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1"}},
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "livenessProbe": {"httpGet": {"port": 80}},
        }],
        "volumes": [{"name": "a"}, {"name": "b", "configMap": {"name": "c"}}, {"name": "h", "hostPath": {"path": "/x"}}],
    }});
    let spec = &defaulted("v1", "Pod", object)["spec"];
    assert_eq!(spec["securityContext"], json!({}));
    assert_eq!(spec["serviceAccountName"], "robot");
    assert_eq!(spec["enableServiceLinks"], true);
    assert_eq!(
        spec["containers"][0],
        json!({
            "name": "nginx", "image": "nginx:1.27",
            "ports": [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}],
            "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP", "apiVersion": "v1"}}}],
            "livenessProbe": {
                "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
            },
            "imagePullPolicy": "IfNotPresent",
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        })
    );
    assert_eq!(spec["volumes"][0], json!({"name": "a", "emptyDir": {}}));
    assert_eq!(spec["volumes"][1]["configMap"]["defaultMode"], 420);
}

#[test]
fn images_whose_content_may_change_are_always_pulled() {
    let table = [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("host:5000/nginx", "Always"),
        ("nginx@sha256:0123", "IfNotPresent"),
    ];
    for (image, policy) in table {
        let object = json!({"spec": {"containers": [{"image": image}]}});
        assert_eq!(defaulted("v1", "Pod", object)["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn classes_of_pods() {
    let spec = |resources: Value| json!({"containers": [{"resources": resources}]});
    let table = [
        (json!({}), "BestEffort"),
        (json!({"requests": {"cpu": "1"}}), "Burstable"),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}),
            "Guaranteed",
        ),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}), "Burstable"),
        (json!({"requests": {"cpu": "0"}}), "BestEffort"),
    ];
    for (resources, class) in table {
        assert_eq!(qos::class(&spec(resources.clone())), class, "{resources}");
    }
}

#[test]
fn workloads_and_services() {
    let deployment = defaulted("apps/v1", "Deployment", json!({"spec": {"template": {"spec": {"containers": []}}}}));
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(
        deployment["spec"]["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    );
    assert_eq!(deployment["spec"]["template"]["spec"]["dnsPolicy"], "ClusterFirst");
    assert_eq!(deployment["spec"]["template"]["spec"].get("enableServiceLinks"), None);

    let controller = json!({"metadata": {"name": "c"}, "spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
    let controller = defaulted("v1", "ReplicationController", controller);
    assert_eq!(controller["spec"]["selector"], json!({"a": "b"}));
    assert_eq!(controller["metadata"]["labels"], json!({"a": "b"}));

    let service = defaulted("v1", "Service", json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}}));
    assert_eq!(
        service["spec"],
        json!({
            "type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "sessionAffinity": "None", "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster",
        })
    );
}

#[test]
fn a_service_keeps_what_was_allocated() {
    let old = json!({"spec": {
        "type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}],
    }});
    let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}});
    service::keep_allocated(&mut new, &old);
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.1"]));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30080);
}

#[test]
fn secrets_and_limit_ranges() {
    let secret = defaulted("v1", "Secret", json!({"stringData": {"a": "hello"}, "data": {"b": "eA=="}}));
    assert_eq!(secret, json!({"type": "Opaque", "data": {"b": "eA==", "a": "aGVsbG8="}}));
    let limits = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}});
    let limits = defaulted("v1", "LimitRange", limits);
    let item = &limits["spec"]["limits"][0];
    assert_eq!(item["default"], json!({"cpu": "2"}));
    assert_eq!(item["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
}

#[test]
fn defaults_are_idempotent_and_keep_to_the_schema() {
    let rich = json!({
        "metadata": {"name": "x", "namespace": "n", "labels": {"a": "b"}},
        "spec": {
            "type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 1}],
            "limits": [{"type": "Container", "max": {"cpu": "1"}}],
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            "containers": [{"name": "c", "image": "i", "readinessProbe": {"grpc": {"port": 1}}}],
            "volumes": [{"name": "v"}, {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
        },
        "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}],
        "stringData": {"a": "b"}, "subsets": [{"ports": [{"port": 1}]}], "ports": [{"port": 1}],
    });
    let schemas = crate::kube::schema::Schemas::builtin();
    for resource in Table::builtin().iter() {
        let mut once = rich.clone();
        schemas.clean(&resource.definition, &mut once).unwrap();
        resource.default(&mut once);
        let mut twice = once.clone();
        resource.default(&mut twice);
        assert_eq!(once, twice, "{resource:?}");
        let unknown = schemas.clean(&resource.definition, &mut twice).unwrap();
        assert_eq!(unknown, Vec::<String>::new(), "{resource:?} defaults fields it does not have");
    }
}
