use serde_json::{Value, json};

use crate::kube::resources::{Resource, Subresource, Table};

fn resource(api_version: &str, kind: &str) -> std::sync::Arc<Resource> {
    Table::builtin().by_kind(api_version, kind).unwrap().clone()
}

fn named(mut object: Value) -> Value {
    object["metadata"]["name"] = json!("x");
    object["metadata"]["namespace"] = json!("n");
    object
}

/// The text of the refusal of a new object, without its front; `ok` when there is none.
fn created(api_version: &str, kind: &str, object: Value) -> String {
    let resource = resource(api_version, kind);
    let mut object = named(object);
    if !resource.is_namespaced() {
        object["metadata"].as_object_mut().unwrap().remove("namespace");
    }
    resource.default(&mut object);
    told(resource.validate_create(&object))
}

fn updated(api_version: &str, kind: &str, old: Value, new: Value) -> String {
    let resource = resource(api_version, kind);
    let (mut old, mut new) = (named(old), named(new));
    resource.default(&mut old);
    resource.default(&mut new);
    resource.prepare_for_update(Subresource::None, &mut new, &old);
    told(resource.validate_update(Subresource::None, &new, &old))
}

fn told(result: Result<(), crate::kube::status::Status>) -> String {
    match result {
        Ok(()) => "ok".into(),
        Err(status) => status.message.split_once(" is invalid: ").unwrap().1.to_owned(),
    }
}

fn container(extra: Value) -> Value {
    let mut container = json!({"name": "a", "image": "i"});
    container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"spec": {"containers": [container]}})
}

#[test]
fn pods() {
    let table = [
        (container(json!({})), "ok"),
        (json!({"spec": {}}), "spec.containers: Required value"),
        (container(json!({"image": ""})), "spec.containers[0].image: Required value"),
        (container(json!({"name": ""})), "spec.containers[0].name: Required value"),
        (
            json!({"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]}}),
            "spec.containers[1].name: Duplicate value: \"a\"",
        ),
        (
            container(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            container(json!({"resources": {"requests": {"memory": "-1"}}})),
            "spec.containers[0].resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            container(json!({"ports": [{"containerPort": 70000}]})),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            container(json!({"ports": [{"containerPort": 1, "protocol": "ICMP"}]})),
            "spec.containers[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \
             \"UDP\"",
        ),
        (
            container(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            container(json!({"livenessProbe": {}})),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (container(json!({"livenessProbe": {"tcpSocket": {"port": "web"}}})), "ok"),
    ];
    for (object, text) in table {
        assert_eq!(created("v1", "Pod", object.clone()), text, "{object}");
    }
    let mut restarts = container(json!({}));
    restarts["spec"]["restartPolicy"] = json!("Sometimes");
    assert_eq!(
        created("v1", "Pod", restarts),
        "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\""
    );
    let mut volumes = container(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
    volumes["spec"]["volumes"] = json!([{"name": "v", "hostPath": {}, "emptyDir": {}}]);
    assert!(created("v1", "Pod", volumes).contains("may not specify more than 1 volume type"));
}

#[test]
fn a_running_pod_changes_its_images_and_little_else() {
    let old = container(json!({}));
    assert_eq!(updated("v1", "Pod", old.clone(), container(json!({"image": "j", "imagePullPolicy": "Always"}))), "ok");
    let changed = updated("v1", "Pod", old.clone(), container(json!({"command": ["sh"]})));
    assert!(changed.starts_with("spec: Forbidden: pod updates may not change fields other than"), "{changed}");
    let mut tolerates = old.clone();
    tolerates["spec"]["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
    assert_eq!(updated("v1", "Pod", old, tolerates), "ok");
}

fn deployment(selector: Value, labels: Value) -> Value {
    json!({"spec": {"selector": selector, "template": {
        "metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "i"}]},
    }}})
}

#[test]
fn deployments() {
    let good = deployment(json!({"matchLabels": {"app": "x"}}), json!({"app": "x"}));
    assert_eq!(created("apps/v1", "Deployment", good.clone()), "ok");
    assert_eq!(
        created("apps/v1", "Deployment", deployment(json!({"matchLabels": {"app": "y"}}), json!({"app": "x"}))),
        "spec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match template `labels`"
    );
    let without = deployment(Value::Null, json!({"app": "x"}));
    assert_eq!(created("apps/v1", "Deployment", without), "spec.selector: Required value");
    let mut both_zero = good.clone();
    both_zero["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}});
    assert_eq!(
        created("apps/v1", "Deployment", both_zero),
        "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"
    );
    let mut other = deployment(json!({"matchLabels": {"app": "z"}}), json!({"app": "z"}));
    other["spec"]["replicas"] = json!(-1);
    assert_eq!(
        updated("apps/v1", "Deployment", good, other),
        "[spec.replicas: Invalid value: -1: must be greater than or equal to 0, spec.selector: Invalid value: \
         {\"matchLabels\":{\"app\":\"z\"}}: field is immutable]"
    );
}

#[test]
fn smaller_kinds() {
    let table = [
        ("v1", "Service", json!({"spec": {"ports": []}}), "spec.ports: Required value"),
        (
            "v1",
            "Service",
            json!({"spec": {"ports": [{"port": 80}, {"port": 81}]}}),
            "[spec.ports[0].name: Required value, spec.ports[1].name: Required value]",
        ),
        (
            "v1",
            "Service",
            json!({"spec": {"ports": [{"port": 0}]}}),
            "[spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, spec.ports[0].targetPort: \
             Invalid value: 0: must be between 1 and 65535, inclusive]",
        ),
        (
            "v1",
            "Secret",
            json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}),
            "data[tls.key]: Required value",
        ),
        (
            "v1",
            "LimitRange",
            json!({"spec": {"limits": [{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}}),
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
        ),
        (
            "v1",
            "ResourceQuota",
            json!({"spec": {"hard": {"pods": "1500m"}}}),
            "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "Role",
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}]}),
            "rules[0].verbs: Required value: verbs must contain at least one value",
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "ClusterRoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "r"}}),
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
        ),
        (
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}]}),
            "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, \
             ::1/128)",
        ),
        (
            "v1",
            "Event",
            json!({"involvedObject": {"namespace": "other"}}),
            "involvedObject.namespace: Invalid value: \"other\": does not match event.namespace",
        ),
        (
            "coordination.k8s.io/v1",
            "Lease",
            json!({"spec": {"leaseDurationSeconds": 0}}),
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
        ),
    ];
    for (api_version, kind, object, text) in table {
        assert_eq!(created(api_version, kind, object), text, "{kind}");
    }
}

#[test]
fn metadata_is_checked_for_every_kind() {
    let pods = resource("v1", "Pod");
    let check = |metadata: Value| {
        let mut pod = container(json!({}));
        pod["metadata"] = metadata;
        pods.default(&mut pod);
        told(pods.validate_create(&pod))
    };
    assert_eq!(check(json!({"namespace": "n"})), "metadata.name: Required value: name or generateName is required");
    let bad = check(json!({"name": "Bad_Name", "namespace": "n"}));
    assert!(
        bad.starts_with("metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must"),
        "{bad}"
    );
    let label = check(json!({"name": "x", "namespace": "n", "labels": {"a": "b c"}}));
    assert!(label.starts_with("metadata.labels: Invalid value: \"b c\": a valid label must be"), "{label}");
}

#[test]
fn updates_keep_what_is_not_theirs() {
    let pods = resource("v1", "Pod");
    let mut old = named(container(json!({})));
    pods.prepare_for_create(&mut old);
    old["metadata"]["uid"] = json!("u");
    old["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(old["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));

    // A write to the object cannot touch the status, and gets the server's metadata back.
    let mut new = old.clone();
    new["status"] = json!({"phase": "Failed"});
    new["metadata"].as_object_mut().unwrap().remove("uid");
    new["spec"]["containers"][0]["image"] = json!("j");
    pods.prepare_for_update(Subresource::None, &mut new, &old);
    assert_eq!((&new["status"], &new["metadata"]["uid"]), (&old["status"], &json!("u")));
    assert_eq!(new["metadata"]["generation"], 2);

    // A write to the status cannot touch anything else.
    let mut new = old.clone();
    new["status"]["phase"] = json!("Running");
    new["spec"]["containers"][0]["image"] = json!("j");
    new["metadata"]["labels"] = json!({"a": "b"});
    pods.prepare_for_update(Subresource::Status, &mut new, &old);
    assert_eq!(new["status"]["phase"], "Running");
    assert_eq!((&new["spec"], &new["metadata"]), (&old["spec"], &old["metadata"]));
    assert_eq!(pods.validate_update(Subresource::Status, &new, &old), Ok(()));

    // A resize cannot touch anything but resources.
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = json!("j");
    new["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    pods.prepare_for_update(Subresource::Other("resize"), &mut new, &old);
    assert_eq!(new["spec"]["containers"][0]["image"], "i");
    assert_eq!(new["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1");
}

#[test]
fn a_deployments_status_takes_annotations_and_makes_no_new_generation() {
    let deployments = resource("apps/v1", "Deployment");
    let old = json!({"metadata": {"name": "x", "generation": 1, "labels": {"a": "b"}}, "spec": {"replicas": 1}});
    let annotated = |subresource: Subresource<'_>| {
        let mut new = old.clone();
        new["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "1"});
        new["metadata"]["labels"] = json!({"a": "c"});
        deployments.prepare_for_update(subresource, &mut new, &old);
        new["metadata"].clone()
    };
    let by_status = annotated(Subresource::Status);
    assert_eq!(by_status["annotations"], json!({"deployment.kubernetes.io/revision": "1"}));
    assert_eq!((&by_status["generation"], &by_status["labels"]), (&json!(1), &json!({"a": "b"})));
    assert_eq!(annotated(Subresource::None)["generation"], 2, "users' annotations reach the replica sets");
}

#[test]
fn finalizers_of_a_namespace_go_through_finalize_alone() {
    let namespaces = resource("v1", "Namespace");
    let mut old = json!({"metadata": {"name": "x"}});
    namespaces.prepare_for_create(&mut old);
    let without = |subresource: Subresource<'_>| {
        let mut new = old.clone();
        new["spec"]["finalizers"] = json!([]);
        namespaces.prepare_for_update(subresource, &mut new, &old);
        new["spec"]["finalizers"].clone()
    };
    assert_eq!(without(Subresource::None), json!(["kubernetes"]));
    assert_eq!(without(Subresource::Other("finalize")), json!([]));
}
