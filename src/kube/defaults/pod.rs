//! Defaults of pods and of pod templates.

use serde_json::{Map, Value, json};

use super::qos;
use crate::kube::tree::{entries, fill, get_mut, has, items_mut, map_mut, plain, text};

/// Mode of files in volumes that are made of objects: 0644.
const FILE_MODE: i64 = 0o644;

/// A pod: its spec, and what templates do not get.
pub fn pod(pod: &mut Value) {
    fill(pod, "spec", Map::new());
    let Some(spec) = get_mut(pod, "spec") else { return };
    pod_spec(spec);
    fill(spec, "enableServiceLinks", true);
    for field in ["containers", "initContainers"] {
        items_mut(spec, field).for_each(requests_from_limits);
    }
}

/// A new pod waits; its class is decided by its resources.
pub fn new_pod_status(pod: &mut Value) {
    let class = qos::class(&pod["spec"]);
    if let Some(map) = pod.as_object_mut() {
        map.insert("status".into(), json!({"phase": "Pending", "qosClass": class}));
    }
}

/// A `template` field: what pods are made of.
pub fn template(owner_spec: &mut Value) {
    let Some(template) = get_mut(owner_spec, "template") else { return };
    fill(template, "spec", Map::new());
    if let Some(spec) = get_mut(template, "spec") {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Value) {
    fill(spec, "restartPolicy", "Always");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "dnsPolicy", "ClusterFirst");
    fill(spec, "securityContext", Map::new());
    fill(spec, "schedulerName", "default-scheduler");
    mirror_service_account(spec);
    let on_host_network = spec["hostNetwork"] == Value::Bool(true);
    for field in ["initContainers", "containers"] {
        for one in items_mut(spec, field) {
            container(one);
            fill(one, "resources", Map::new());
            if on_host_network {
                items_mut(one, "ports").for_each(host_port);
            }
        }
    }
    items_mut(spec, "ephemeralContainers").for_each(|one| {
        container(one);
        fill(one, "resources", Map::new());
    });
    items_mut(spec, "volumes").for_each(volume);
}

/// `serviceAccount` is the old name of `serviceAccountName`: both say the same.
fn mirror_service_account(spec: &mut Value) {
    let name = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if let (false, Some(map)) = (name.is_empty(), spec.as_object_mut()) {
        map.insert("serviceAccountName".into(), json!(name));
        map.insert("serviceAccount".into(), json!(name));
    }
}

fn container(container: &mut Value) {
    let policy = if follows_latest(text(container, "image")) { "Always" } else { "IfNotPresent" };
    fill(container, "imagePullPolicy", policy);
    fill(container, "terminationMessagePath", "/dev/termination-log");
    fill(container, "terminationMessagePolicy", "File");
    items_mut(container, "ports").for_each(|port| fill(port, "protocol", "TCP"));
    for variable in items_mut(container, "env") {
        if let Some(reference) = variable.pointer_mut("/valueFrom/fieldRef") {
            fill(reference, "apiVersion", "v1");
        }
        if let Some(reference) = variable.pointer_mut("/valueFrom/fileKeyRef") {
            fill(reference, "optional", false);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = get_mut(container, name) {
            probe(found);
        }
    }
    for hook in ["/lifecycle/postStart/httpGet", "/lifecycle/preStop/httpGet"] {
        if let Some(found) = container.pointer_mut(hook) {
            http_get(found);
        }
    }
}

/// Is the image one whose content may change under its name: no tag, or `latest`?
fn follows_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => true,
    }
}

fn probe(probe: &mut Value) {
    let numbers = [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)];
    for (field, default) in numbers {
        fill(probe, field, default);
        if probe[field] == 0 {
            probe[field] = json!(default);
        }
    }
    if let Some(found) = get_mut(probe, "httpGet") {
        http_get(found);
    }
    if let Some(found) = get_mut(probe, "grpc")
        && !has(found, "service")
    {
        fill(found, "service", "");
    }
}

fn http_get(action: &mut Value) {
    fill(action, "path", "/");
    fill(action, "scheme", "HTTP");
}

/// On the host's network a container's port is the host's.
fn host_port(port: &mut Value) {
    if port.get("hostPort").is_none_or(|value| *value == 0) {
        port["hostPort"] = port["containerPort"].clone();
    }
}

/// The requests of a container default to its limits.
fn requests_from_limits(container: &mut Value) {
    let limits = entries(&container["resources"], "limits").clone();
    if limits.is_empty() {
        return;
    }
    let Some(requests) = container.get_mut("resources").and_then(|resources| map_mut(resources, "requests")) else {
        return;
    };
    for (name, limit) in limits {
        requests.entry(name).or_insert_with(|| json!(plain(&limit)));
    }
}

fn volume(volume: &mut Value) {
    let has_source =
        volume.as_object().is_some_and(|map| map.iter().any(|(key, value)| key != "name" && !value.is_null()));
    if !has_source {
        fill(volume, "emptyDir", Map::new());
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(found) = get_mut(volume, source) {
            fill(found, "defaultMode", FILE_MODE);
        }
    }
    if let Some(found) = get_mut(volume, "hostPath")
        && !has(found, "type")
    {
        fill(found, "type", "");
    }
    if let Some(found) = get_mut(volume, "downwardAPI") {
        downward_items(found);
    }
    if let Some(found) = get_mut(volume, "projected") {
        items_mut(found, "sources").for_each(projection);
    }
    if let Some(spec) = volume.pointer_mut("/ephemeral/volumeClaimTemplate/spec") {
        fill(spec, "volumeMode", "Filesystem");
    }
}

fn projection(source: &mut Value) {
    if let Some(token) = get_mut(source, "serviceAccountToken") {
        fill(token, "expirationSeconds", 3600);
    }
    if let Some(found) = get_mut(source, "downwardAPI") {
        downward_items(found);
    }
}

fn downward_items(source: &mut Value) {
    for item in items_mut(source, "items") {
        if let Some(reference) = get_mut(item, "fieldRef") {
            fill(reference, "apiVersion", "v1");
        }
    }
}
