use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::kube::resources;

fn cells(api_version: &str, kind: &str, object: Value) -> Vec<Value> {
    let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
    let table = resources::Table::builtin();
    let printer = &table.by_kind(api_version, kind).unwrap().printer;
    let table = render_table(printer, [&object], json!({}), now, &TableOptions::default());
    table["rows"][0]["cells"].as_array().unwrap().clone()
}

fn meta(name: &str) -> Value {
    json!({"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"})
}

#[test]
fn every_entry_has_as_many_cells_as_columns_also_of_an_empty_object() {
    let now = Timestamp::UNIX_EPOCH;
    for resource in resources::Table::builtin().iter() {
        let cells = (resource.printer.row)(&json!({}), now);
        assert_eq!(cells.len(), resource.printer.columns.len(), "{resource:?}");
        assert!(resource.printer.columns.iter().any(|column| column.name == "Name"), "{resource:?}");
    }
}

#[test]
fn rows_read_as_people_know_them() {
    let table = [
        (
            ("apps/v1", "Deployment"),
            json!({"metadata": meta("web"), "spec": {
                "replicas": 3, "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["b", "a"]}]},
                "template": {"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}},
            }, "status": {"readyReplicas": 2, "updatedReplicas": 3}}),
            json!(["web", "2/3", 3, 0, "60m", "a,b", "i,j", "app=web,tier in (a,b)"]),
        ),
        (
            ("v1", "Service"),
            json!({"metadata": meta("s"), "spec": {
                "type": "NodePort", "clusterIP": "10.0.0.1", "selector": {"b": "2", "a": "1"},
                "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}],
            }}),
            json!(["s", "NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP", "60m", "a=1,b=2"]),
        ),
        (
            ("v1", "Node"),
            json!({"metadata": {"name": "n1", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"node-role.kubernetes.io/control-plane": ""}},
                "spec": {"unschedulable": true}, "status": {
                "conditions": [{"type": "Ready", "status": "Unknown"}],
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.35.0"}}}),
            json!([
                "n1",
                "NotReady,SchedulingDisabled",
                "control-plane",
                "60m",
                "v1.35.0",
                "127.0.0.1",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>"
            ]),
        ),
        (
            ("v1", "Event"),
            json!({"metadata": meta("e"), "type": "Warning", "reason": "FailedScheduling", "message": " no room\n",
                "involvedObject": {"kind": "Pod", "name": "www"}, "lastTimestamp": "2026-01-01T00:59:30Z",
                "firstTimestamp": "2026-01-01T00:00:00Z", "count": 4, "source": {"component": "default-scheduler"}}),
            json!(["30s", "Warning", "FailedScheduling", "pod/www", "", "default-scheduler", "no room", "60m", 4, "e"]),
        ),
        (
            ("v1", "Endpoints"),
            json!({"metadata": meta("s"), "subsets": [{
                "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 1}, {"port": 2}]}]}),
            json!(["s", "10.0.0.1:1,10.0.0.1:2,10.0.0.2:1 + 1 more...", "60m"]),
        ),
        (
            ("v1", "ResourceQuota"),
            json!({"metadata": meta("q"), "status": {
                "hard": {"pods": "4", "limits.cpu": "2"}, "used": {"pods": "1"}}}),
            json!(["q", "pods: 1/4", "limits.cpu: 0/2", "60m"]),
        ),
        (
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
            json!({"metadata": meta("b"), "roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": [
                {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
            json!(["b", "ClusterRole/admin", "60m", "u", "", "n/s"]),
        ),
    ];
    for ((api_version, kind), object, wanted) in table {
        assert_eq!(Value::Array(cells(api_version, kind, object)), wanted, "{kind}");
    }
}

#[test]
fn a_table_has_definitions_and_metadata_of_its_objects() {
    let resources = resources::Table::builtin();
    let printer = &resources.get("", "v1", "configmaps").unwrap().printer;
    let object = json!({"metadata": meta("a"), "data": {"k": "v"}});
    let now = Timestamp::UNIX_EPOCH;
    let table = render_table(printer, [&object], json!({"resourceVersion": "7"}), now, &TableOptions::default());
    assert_eq!((&table["kind"], &table["metadata"]), (&json!("Table"), &json!({"resourceVersion": "7"})));
    assert_eq!(table["columnDefinitions"][0]["format"], "name");
    assert_eq!(
        table["rows"][0]["object"],
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta("a")})
    );
    let options = TableOptions { include_object: IncludeObjectPolicy::None, no_headers: true };
    let table = render_table(printer, [&object], json!({}), now, &options);
    assert_eq!(table["columnDefinitions"], json!([]));
    assert_eq!(table["rows"][0].get("object"), None);
}
