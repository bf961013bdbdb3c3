//! The core group, `v1`.

use k8s_openapi::api::core::v1;
use serde_json::Value;

use super::resource::Resource;
use crate::kube::defaults::{other, pod as pod_defaults, service as service_defaults, workloads};
use crate::kube::names;
use crate::kube::printing::{config, events, nodes, pods, services, workloads as rows};
use crate::kube::validation::{
    config as config_rules, other as other_rules, pod as pod_rules, pod_update, quota, services as service_rules,
    workloads as workload_rules,
};

const CONNECT: [&str; 2] = ["create", "get"];

pub(super) fn resources() -> Vec<Resource> {
    vec![
        namespace(),
        node(),
        pod(),
        service(),
        endpoints(),
        replication_controller(),
        Resource::of::<v1::ConfigMap>()
            .short(&["cm"])
            .printed_by(config::config_map())
            .checked_by(config_rules::config_map)
            .update_checked_by(config_rules::config_map_update),
        Resource::of::<v1::Secret>()
            .selectable("type")
            .defaulted_by(other::secret)
            .printed_by(config::secret())
            .checked_by(config_rules::secret)
            .update_checked_by(config_rules::secret_update),
        service_account(),
        Resource::of::<v1::LimitRange>()
            .short(&["limits"])
            .defaulted_by(other::limit_range)
            .printed_by(config::name_and_creation())
            .checked_by(quota::limit_range),
        Resource::of::<v1::ResourceQuota>()
            .short(&["quota"])
            .with_subresource("status")
            .defaulted_by(other::resource_quota)
            .printed_by(config::resource_quota())
            .checked_by(quota::resource_quota)
            .update_checked_by(quota::resource_quota_update),
        event(),
    ]
}

fn namespace() -> Resource {
    Resource::of::<v1::Namespace>()
        .short(&["ns"])
        .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
        .with_subresource("status")
        .with_subresource_verbs("finalize", &["update"])
        .named_by(names::dns_label)
        .selectable("status.phase")
        .defaulted_by(other::namespace)
        .on_create(other::new_namespace)
        .on_update(other::keep_namespace_finalizers)
        .printed_by(nodes::namespace())
}

fn node() -> Resource {
    Resource::of::<v1::Node>()
        .short(&["no"])
        .with_subresource("status")
        .stored_at("/registry/minions")
        .selectable_by("spec.unschedulable", |node| (node["spec"]["unschedulable"] == true).to_string())
        .status_on_create()
        .defaulted_by(other::node)
        .printed_by(nodes::node())
        .checked_by(other_rules::node)
        .update_checked_by(other_rules::node_update)
}

fn pod() -> Resource {
    Resource::of::<v1::Pod>()
        .short(&["po"])
        .category("all")
        .with_generation()
        .with_subresource("status")
        .with_subresource("ephemeralcontainers")
        .with_subresource("resize")
        .with_subresource_verbs("log", &["get"])
        .with_subresource_kind("binding", &["create"], "v1", "Binding")
        .with_subresource_kind("eviction", &["create"], "policy/v1", "Eviction")
        .with_subresource_kind("attach", &CONNECT, "v1", "PodAttachOptions")
        .with_subresource_kind("exec", &CONNECT, "v1", "PodExecOptions")
        .with_subresource_kind("portforward", &CONNECT, "v1", "PodPortForwardOptions")
        .selectable("spec.nodeName")
        .selectable("spec.restartPolicy")
        .selectable("spec.schedulerName")
        .selectable("spec.serviceAccountName")
        .selectable_by("spec.hostNetwork", |pod| (pod["spec"]["hostNetwork"] == true).to_string())
        .selectable("status.phase")
        .selectable("status.podIP")
        .selectable_by("status.podIPs", |pod| {
            let ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
            ips.filter_map(|entry| entry["ip"].as_str()).collect::<Vec<_>>().join(",")
        })
        .selectable("status.nominatedNodeName")
        .defaulted_by(pod_defaults::pod)
        .on_create(pod_defaults::new_pod_status)
        .printed_by(pods::printer())
        .checked_by(pod_rules::pod)
        .create_checked_by(pod_rules::new_pod)
        .update_checked_by(pod_update::pod_update)
}

fn service() -> Resource {
    Resource::of::<v1::Service>()
        .short(&["svc"])
        .category("all")
        .with_subresource("status")
        .stored_at("/registry/services/specs")
        .named_by(names::dns_1035_label)
        .selectable("spec.clusterIP")
        .selectable("spec.type")
        .defaulted_by(service_defaults::service)
        .on_create(service_defaults::new_service)
        .on_update(service_defaults::keep_allocated)
        .printed_by(services::service())
        .checked_by(service_rules::service)
        .update_checked_by(service_rules::service_update)
}

fn endpoints() -> Resource {
    Resource { singular: "endpoints".into(), ..Resource::of::<v1::Endpoints>() }
        .short(&["ep"])
        .stored_at("/registry/services/endpoints")
        .defaulted_by(service_defaults::endpoints)
        .printed_by(services::endpoints())
        .checked_by(service_rules::endpoints)
}

fn replication_controller() -> Resource {
    Resource::of::<v1::ReplicationController>()
        .short(&["rc"])
        .category("all")
        .with_generation()
        .with_subresource("status")
        .with_scale()
        .stored_at("/registry/controllers")
        .selectable_by("status.replicas", replicas)
        .defaulted_by(workloads::replication_controller)
        .on_create(workloads::no_replicas)
        .printed_by(rows::replication_controller())
        .checked_by(workload_rules::replication_controller)
}

fn service_account() -> Resource {
    Resource::of::<v1::ServiceAccount>().short(&["sa"]).printed_by(config::service_account()).with_subresource_kind(
        "token",
        &["create"],
        "authentication.k8s.io/v1",
        "TokenRequest",
    )
}

fn event() -> Resource {
    Resource::of::<v1::Event>()
        .short(&["ev"])
        .printed_by(events::event())
        .checked_by(other_rules::event)
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

/// The count of replicas as selectors see it: 0 when nothing was counted yet.
pub(super) fn replicas(object: &Value) -> String {
    object["status"]["replicas"].as_i64().unwrap_or(0).to_string()
}
