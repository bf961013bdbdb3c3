//! The rules of containers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::common::{not_negative, one_of, port_number, port_or_name, protocol, quantity, required, well_formed};
use super::field::{FieldErrors, Path};
use crate::kube::names;
use crate::kube::quantity::Quantity;
use crate::kube::tree::{entries, has, items, plain, text};

const HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
/// Resources of containers whose names have no domain.
const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const ENVIRONMENT_SOURCES: [&str; 5] =
    ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

/// All containers of a pod's spec; `volumes` are the names of its volumes.
pub(super) fn all(spec: &Value, volumes: &BTreeSet<String>, path: &Path, errors: &mut FieldErrors) {
    let containers_path = path.child("containers");
    if items(spec, "containers").is_empty() {
        errors.required(&containers_path, "");
    }
    let mut seen = Seen::default();
    let on_host_network = spec["hostNetwork"] == true;
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in items(spec, field).iter().enumerate() {
            let path = path.child(field).index(index);
            one(container, field, volumes, &mut seen, &path, errors);
            if field == "ephemeralContainers" {
                ephemeral(container, spec, &path, errors);
            }
            if on_host_network {
                host_network_ports(container, &path, errors);
            }
        }
    }
}

/// A container that is put into a running pod: nothing is promised to it, and nothing is expected of it.
fn ephemeral(container: &Value, spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for field in ["ports", "lifecycle", "resources", "resizePolicy"] {
        let is_empty = match container.get(field) {
            None | Some(Value::Null) => true,
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(_) => false,
        };
        if !is_empty {
            errors.forbidden(&path.child(field), "cannot be set for an Ephemeral Container");
        }
    }
    let target = text(container, "targetContainerName");
    let named = |list: &str| items(spec, list).iter().any(|container| text(container, "name") == target);
    if !target.is_empty() && !named("containers") && !named("initContainers") {
        errors.not_found(&path.child("targetContainerName"), target);
    }
}

/// What must be unique among the containers of a pod.
#[derive(Default)]
struct Seen {
    names: BTreeSet<String>,
    host_ports: BTreeSet<String>,
}

fn one(
    container: &Value,
    kind: &str,
    volumes: &BTreeSet<String>,
    seen: &mut Seen,
    path: &Path,
    errors: &mut FieldErrors,
) {
    if required(container, "name", path, errors) {
        let name = text(container, "name");
        well_formed(names::dns_label(name, false), name, &path.child("name"), errors);
        if !seen.names.insert(name.to_owned()) {
            errors.duplicate(&path.child("name"), name);
        }
    }
    if required(container, "image", path, errors) {
        let image = text(container, "image");
        if image.trim() != image {
            errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
        }
    }
    one_of(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    one_of(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errors);
    ports(container, kind, seen, path, errors);
    environment(container, path, errors);
    mounts(container, volumes, path, errors);
    resources(&container["resources"], &path.child("resources"), errors);
    let is_plain_init = kind == "initContainers" && text(container, "restartPolicy") != "Always";
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if !has(container, name) {
            continue;
        }
        match kind {
            "ephemeralContainers" => errors.forbidden(&path.child(name), "cannot be set for an Ephemeral Container"),
            _ if is_plain_init => {
                errors.forbidden(&path.child(name), "may not be set for init containers without restartPolicy=Always")
            }
            _ => probe(&container[name], name, &path.child(name), errors),
        }
    }
    for hook in ["postStart", "preStop"] {
        if has(&container["lifecycle"], hook) {
            handler(&container["lifecycle"][hook], &path.child("lifecycle").child(hook), errors);
        }
    }
}

fn ports(container: &Value, kind: &str, seen: &mut Seen, path: &Path, errors: &mut FieldErrors) {
    let mut port_names = BTreeSet::new();
    for (index, port) in items(container, "ports").iter().enumerate() {
        let path = path.child("ports").index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            well_formed(names::port_name(name), name, &path.child("name"), errors);
            if !port_names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        match port["containerPort"].as_i64() {
            None | Some(0) => errors.required(&path.child("containerPort"), ""),
            Some(_) => port_number(&port["containerPort"], &path.child("containerPort"), errors),
        }
        protocol(port, &path, errors);
        let host_port = port["hostPort"].as_i64().unwrap_or(0);
        if host_port != 0 {
            port_number(&port["hostPort"], &path.child("hostPort"), errors);
            let key = format!("{}/{}/{host_port}", text(port, "protocol"), text(port, "hostIP"));
            // Init containers end before the others begin, so they share ports with them.
            if kind == "containers" && !seen.host_ports.insert(key.clone()) {
                errors.duplicate(&path.child("hostPort"), key);
            }
        }
    }
}

fn host_network_ports(container: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, port) in items(container, "ports").iter().enumerate() {
        if has(port, "hostPort") && port["hostPort"] != port["containerPort"] {
            let path = path.child("ports").index(index).child("containerPort");
            errors.invalid(&path, port["containerPort"].clone(), "must match `hostPort` when `hostNetwork` is true");
        }
    }
}

fn environment(container: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, variable) in items(container, "env").iter().enumerate() {
        let path = path.child("env").index(index);
        let name = text(variable, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            well_formed(names::environment_name(name), name, &path.child("name"), errors);
        }
        if has(variable, "valueFrom") {
            let path = path.child("valueFrom");
            let sources = ENVIRONMENT_SOURCES.iter().filter(|source| has(&variable["valueFrom"], source)).count();
            match sources {
                0 => {
                    let list =
                        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
                    errors.invalid(&path, "", list);
                }
                1 if !text(variable, "value").is_empty() => {
                    errors.invalid(&path, "", "may not be specified when `value` is not empty");
                }
                1 => {}
                _ => errors.invalid(&path, "", "may not have more than one field specified at a time"),
            }
            for source in ["configMapKeyRef", "secretKeyRef"] {
                if has(&variable["valueFrom"], source) {
                    let path = path.child(source);
                    required(&variable["valueFrom"][source], "name", &path, errors);
                    required(&variable["valueFrom"][source], "key", &path, errors);
                }
            }
        }
    }
    for (index, source) in items(container, "envFrom").iter().enumerate() {
        let path = path.child("envFrom").index(index);
        match (has(source, "configMapRef"), has(source, "secretRef")) {
            (false, false) => errors.invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`"),
            (true, true) => errors.invalid(&path, "", "may not have more than one field specified at a time"),
            (true, false) => {
                required(&source["configMapRef"], "name", &path.child("configMapRef"), errors);
            }
            (false, true) => {
                required(&source["secretRef"], "name", &path.child("secretRef"), errors);
            }
        }
    }
}

fn mounts(container: &Value, volumes: &BTreeSet<String>, path: &Path, errors: &mut FieldErrors) {
    let mut paths = BTreeSet::new();
    for (index, mount) in items(container, "volumeMounts").iter().enumerate() {
        let path = path.child("volumeMounts").index(index);
        let name = text(mount, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        if !volumes.contains(name) {
            errors.not_found(&path.child("name"), name);
        }
        let mount_path = text(mount, "mountPath");
        if mount_path.is_empty() {
            errors.required(&path.child("mountPath"), "");
        }
        if !paths.insert(mount_path) {
            errors.invalid(&path.child("mountPath"), mount_path, "must be unique");
        }
        for field in ["subPath", "subPathExpr"] {
            let sub = text(mount, field);
            if sub.starts_with('/') {
                errors.invalid(&path.child(field), sub, "must be a relative path");
            }
            if sub.split('/').any(|part| part == "..") {
                errors.invalid(&path.child(field), sub, "must not contain '..'");
            }
        }
        one_of(mount, "mountPropagation", &["None", "Bidirectional", "HostToContainer"], &path, errors);
    }
}

/// Requests and limits, each no less than nothing, requests no more than limits.
pub(super) fn resources(resources: &Value, path: &Path, errors: &mut FieldErrors) {
    for list in ["limits", "requests"] {
        for (name, amount) in entries(resources, list) {
            let path = path.child(list).key(name);
            resource_name(name, &path, errors);
            if let Some(amount) = quantity(amount, &path, errors)
                && is_counted(name)
                && amount.millis() % 1000 != 0
            {
                errors.invalid(&path, amount.to_string(), "must be an integer");
            }
        }
    }
    let parse = |value: &Value| plain(value).parse::<Quantity>().ok();
    for (name, limit) in entries(resources, "limits") {
        let request = entries(resources, "requests").get(name);
        let (Some(limit), request) = (parse(limit), request.and_then(parse)) else { continue };
        match request {
            Some(request) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(&path.child("requests"), request.to_string(), detail);
            }
            Some(request) if request != limit && !overcommits(name) => {
                let detail = format!("must be equal to {name} limit of {limit}");
                errors.invalid(&path.child("requests"), request.to_string(), detail);
            }
            _ => {}
        }
    }
    for name in entries(resources, "requests").keys() {
        if !overcommits(name) && !entries(resources, "limits").contains_key(name) {
            errors.required(&path.child("limits"), "Limit must be set for non overcommitable resources");
        }
    }
}

/// Standard resources and huge pages are measured, others are counted.
fn is_counted(name: &str) -> bool {
    name.contains('/') && !name.starts_with("kubernetes.io/")
}

/// May more of it be promised than there is? Not of huge pages and devices.
fn overcommits(name: &str) -> bool {
    !name.starts_with("hugepages-") && !is_counted(name)
}

fn resource_name(name: &str, path: &Path, errors: &mut FieldErrors) {
    well_formed(names::qualified_name(name), name, path, errors);
    if !name.contains('/') && !STANDARD.contains(&name) && !name.starts_with("hugepages-") {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
        errors.invalid(path, name, "must be a standard resource for containers");
    }
}

fn probe(probe: &Value, name: &str, path: &Path, errors: &mut FieldErrors) {
    handler(probe, path, errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        not_negative(probe, field, path, errors);
    }
    if name != "readinessProbe" && probe["successThreshold"].as_i64().is_some_and(|threshold| threshold != 1) {
        errors.invalid(&path.child("successThreshold"), probe["successThreshold"].clone(), "must be 1");
    }
    if let Some(seconds) = probe["terminationGracePeriodSeconds"].as_i64()
        && seconds <= 0
    {
        errors.invalid(&path.child("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
    }
}

/// Exactly one way to ask.
fn handler(handler: &Value, path: &Path, errors: &mut FieldErrors) {
    let given: Vec<&str> = HANDLERS.into_iter().chain(["sleep"]).filter(|kind| has(handler, kind)).collect();
    for more in given.iter().skip(1) {
        errors.forbidden(&path.child(more), "may not specify more than 1 handler type");
    }
    let Some(kind) = given.first() else {
        errors.required(path, "must specify a handler type");
        return;
    };
    let (action, path) = (&handler[*kind], path.child(kind));
    match *kind {
        "exec" if items(action, "command").is_empty() => errors.required(&path.child("command"), ""),
        "httpGet" => {
            required(action, "path", &path, errors);
            port_or_name(&action["port"], &path.child("port"), errors);
            one_of(action, "scheme", &["HTTP", "HTTPS"], &path, errors);
        }
        "tcpSocket" => port_or_name(&action["port"], &path.child("port"), errors),
        "grpc" => port_number(&action["port"], &path.child("port"), errors),
        "sleep" => not_negative(action, "seconds", &path, errors),
        _ => {}
    }
}
