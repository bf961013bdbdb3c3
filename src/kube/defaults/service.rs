//! Defaults of services and of endpoints.

use serde_json::{Value, json};

use crate::kube::tree::{fill, get_mut, has, items, items_mut, map_mut, remove, text};

/// How long a client sticks to an endpoint.
const AFFINITY_SECONDS: i64 = 10_800;

pub fn service(object: &mut Value) {
    let Some(spec) = get_mut(object, "spec") else { return };
    fill(spec, "sessionAffinity", "None");
    fill(spec, "type", "ClusterIP");
    if text(spec, "sessionAffinity") == "ClientIP"
        && let Some(config) = map_mut(spec, "sessionAffinityConfig")
    {
        let client = config.entry("clientIP").or_insert_with(|| json!({}));
        fill(client, "timeoutSeconds", AFFINITY_SECONDS);
    }
    for port in items_mut(spec, "ports") {
        fill(port, "protocol", "TCP");
        if port.get("targetPort").is_none_or(|target| *target == 0 || *target == "") {
            port["targetPort"] = port["port"].clone();
        }
    }
    let type_ = text(spec, "type").to_owned();
    let is_external = matches!(type_.as_str(), "NodePort" | "LoadBalancer")
        || (type_ == "ClusterIP" && !items(spec, "externalIPs").is_empty());
    if is_external {
        fill(spec, "externalTrafficPolicy", "Cluster");
    }
    if type_ != "ExternalName" {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if type_ == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// A new service has no load balancer, and the one family that is served.
pub fn new_service(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert("status".into(), json!({"loadBalancer": {}}));
    }
    let Some(spec) = get_mut(object, "spec") else { return };
    if text(spec, "type") != "ExternalName" {
        begin_families(spec);
    }
}

fn begin_families(spec: &mut Value) {
    fill(spec, "ipFamilies", json!(["IPv4"]));
    fill(spec, "ipFamilyPolicy", "SingleStack");
    mirror_cluster_ip(spec);
}

/// `clusterIP` is the first of `clusterIPs`: a client may give one of the two.
pub fn mirror_cluster_ip(spec: &mut Value) {
    match (text(spec, "clusterIP").to_owned(), items(spec, "clusterIPs").first().cloned()) {
        (one, None) if !one.is_empty() => fill(spec, "clusterIPs", json!([one])),
        (one, Some(first)) if one.is_empty() => fill(spec, "clusterIP", first),
        _ => {}
    }
}

/// What was allocated stays with a service whose update leaves it out.
pub fn keep_allocated(new: &mut Value, old: &Value) {
    let old = &old["spec"];
    let Some(spec) = get_mut(new, "spec") else { return };
    drop_what_no_longer_applies(spec, old);
    if text(spec, "type") == "ExternalName" {
        return;
    }
    // A change of `clusterIP` alone speaks for the list, too.
    if has(spec, "clusterIP")
        && text(spec, "clusterIP") != text(old, "clusterIP")
        && spec["clusterIPs"] == old["clusterIPs"]
    {
        remove(spec, "clusterIPs");
    }
    if text(old, "type") != "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if !has(spec, field) && has(old, field) && !(field == "clusterIPs" && has(spec, "clusterIP")) {
                fill(spec, field, old[field].clone());
            }
        }
        mirror_cluster_ip(spec);
    } else {
        begin_families(spec);
    }
    if matches!(text(spec, "type"), "NodePort" | "LoadBalancer")
        && matches!(text(old, "type"), "NodePort" | "LoadBalancer")
    {
        keep_node_ports(spec, old);
    }
}

/// A change of the type turns off what only the old type had, as long as the writer left that as it was.
fn drop_what_no_longer_applies(spec: &mut Value, old: &Value) {
    let has_address = |spec: &Value| text(spec, "type") != "ExternalName";
    let has_node_ports = |spec: &Value| matches!(text(spec, "type"), "NodePort" | "LoadBalancer");
    let is_balanced = |spec: &Value| text(spec, "type") == "LoadBalancer";
    let is_checked = |spec: &Value| is_balanced(spec) && text(spec, "externalTrafficPolicy") == "Local";
    let is_reached = |spec: &Value| has_node_ports(spec) || !items(spec, "externalIPs").is_empty();
    let rules: [(&dyn Fn(&Value) -> bool, &[&str]); 4] = [
        (&has_address, &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]),
        (&is_checked, &["healthCheckNodePort"]),
        (&is_balanced, &["allocateLoadBalancerNodePorts", "loadBalancerClass"]),
        (&is_reached, &["externalTrafficPolicy"]),
    ];
    let new = spec.clone();
    for (_, fields) in rules.into_iter().filter(|(applies, _)| applies(old) && !applies(&new)) {
        for field in fields.iter().filter(|field| new[**field] == old[**field]) {
            remove(spec, field);
        }
    }
    let node_ports =
        |spec: &Value| items(spec, "ports").iter().map(|port| port["nodePort"].clone()).collect::<Vec<_>>();
    if has_node_ports(old) && !has_node_ports(&new) && node_ports(&new) == node_ports(old) {
        for port in items_mut(spec, "ports") {
            remove(port, "nodePort");
        }
    }
}

fn keep_node_ports(spec: &mut Value, old: &Value) {
    if !has(spec, "healthCheckNodePort") && has(old, "healthCheckNodePort") {
        fill(spec, "healthCheckNodePort", old["healthCheckNodePort"].clone());
    }
    let same = |a: &Value, b: &Value| a["port"] == b["port"] && text(a, "protocol") == text(b, "protocol");
    for port in items_mut(spec, "ports") {
        let is_free = port.get("nodePort").is_none_or(|value| *value == 0);
        let known = items(old, "ports").iter().find(|known| same(known, port));
        if let (true, Some(node_port)) = (is_free, known.and_then(|known| known.get("nodePort"))) {
            port["nodePort"] = node_port.clone();
        }
    }
}

pub fn endpoints(object: &mut Value) {
    for subset in items_mut(object, "subsets") {
        items_mut(subset, "ports").for_each(|port| fill(port, "protocol", "TCP"));
    }
}

pub fn endpoint_slice(object: &mut Value) {
    for port in items_mut(object, "ports") {
        if !has(port, "name") {
            fill(port, "name", "");
        }
        fill(port, "protocol", "TCP");
    }
    // Go writes the list also when it is empty.
    if !has(object, "endpoints") {
        fill(object, "endpoints", json!([]));
    }
}
