//! The core group, `v1`.

use super::resource::Resource;
use crate::kube::names;

const PACKAGE: &str = "io.k8s.api.core.v1";
const CONNECT: [&str; 2] = ["create", "get"];

fn namespaced(kind: &str, plural: &str) -> Resource {
    Resource::namespaced("v1", kind, plural, PACKAGE)
}

fn cluster(kind: &str, plural: &str) -> Resource {
    Resource::cluster("v1", kind, plural, PACKAGE)
}

pub(super) fn resources() -> Vec<Resource> {
    vec![
        namespace(),
        node(),
        pod(),
        service(),
        endpoints(),
        replication_controller(),
        namespaced("ConfigMap", "configmaps").short(&["cm"]),
        namespaced("Secret", "secrets").selectable("type"),
        service_account(),
        namespaced("LimitRange", "limitranges").short(&["limits"]),
        namespaced("ResourceQuota", "resourcequotas").short(&["quota"]).part("status"),
        event(),
    ]
}

fn namespace() -> Resource {
    cluster("Namespace", "namespaces")
        .short(&["ns"])
        .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
        .part("status")
        .sub("finalize", &["update"])
        .named_by(names::dns_label)
        .selectable("status.phase")
}

fn node() -> Resource {
    cluster("Node", "nodes")
        .short(&["no"])
        .part("status")
        .stored_at("/registry/minions")
        .selectable("spec.unschedulable")
}

fn pod() -> Resource {
    namespaced("Pod", "pods")
        .short(&["po"])
        .category("all")
        .with_generation()
        .part("status")
        .part("ephemeralcontainers")
        .part("resize")
        .sub("log", &["get"])
        .foreign("binding", &["create"], "v1", "Binding")
        .foreign("eviction", &["create"], "policy/v1", "Eviction")
        .foreign("attach", &CONNECT, "v1", "PodAttachOptions")
        .foreign("exec", &CONNECT, "v1", "PodExecOptions")
        .foreign("portforward", &CONNECT, "v1", "PodPortForwardOptions")
        .selectable("spec.nodeName")
        .selectable("spec.restartPolicy")
        .selectable("spec.schedulerName")
        .selectable("spec.serviceAccountName")
        .selectable("spec.hostNetwork")
        .selectable("status.phase")
        .selectable("status.podIP")
        .selectable("status.nominatedNodeName")
}

fn service() -> Resource {
    namespaced("Service", "services")
        .short(&["svc"])
        .category("all")
        .part("status")
        .stored_at("/registry/services/specs")
        .named_by(names::dns_1035_label)
        .selectable("spec.clusterIP")
        .selectable("spec.type")
}

fn endpoints() -> Resource {
    Resource { singular: "endpoints".into(), ..namespaced("Endpoints", "endpoints") }
        .short(&["ep"])
        .stored_at("/registry/services/endpoints")
}

fn replication_controller() -> Resource {
    namespaced("ReplicationController", "replicationcontrollers")
        .short(&["rc"])
        .category("all")
        .with_generation()
        .part("status")
        .scaled()
        .stored_at("/registry/controllers")
        .selectable("status.replicas")
}

fn service_account() -> Resource {
    namespaced("ServiceAccount", "serviceaccounts").short(&["sa"]).foreign(
        "token",
        &["create"],
        "authentication.k8s.io/v1",
        "TokenRequest",
    )
}

fn event() -> Resource {
    namespaced("Event", "events")
        .short(&["ev"])
        .selectable("involvedObject.kind")
        .selectable("involvedObject.namespace")
        .selectable("involvedObject.name")
        .selectable("involvedObject.uid")
        .selectable("involvedObject.apiVersion")
        .selectable("involvedObject.resourceVersion")
        .selectable("involvedObject.fieldPath")
        .selectable("reason")
        .selectable("reportingComponent")
        .selectable_by("source", |event| {
            let component = event.pointer("/source/component").or_else(|| event.get("reportingComponent"));
            component.and_then(|text| text.as_str()).unwrap_or_default().to_owned()
        })
        .selectable("type")
}
