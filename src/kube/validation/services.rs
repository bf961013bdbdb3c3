//! The rules of services, endpoints and endpoint slices.

use std::collections::BTreeSet;

use serde_json::Value;

use super::common::{immutable, ip_address, one_of, port_number, port_or_name, protocol, required, well_formed};
use super::field::{FieldErrors, Path};
use super::metadata::validate_labels;
use crate::kube::names;
use crate::kube::resources::Subresource;
use crate::kube::tree::{has, items, text};

const ENDPOINTS_MAX: usize = 1000;
const SLICE_PORTS_MAX: usize = 20_000;
const ADDRESSES_MAX: usize = 100;
const AFFINITY_SECONDS_MAX: i64 = 86_400;

pub fn service(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let type_ = text(spec, "type");
    let is_headless = text(spec, "clusterIP") == "None";
    required(spec, "type", &path, errors);
    one_of(spec, "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], &path, errors);
    if items(spec, "ports").is_empty() && !is_headless && type_ != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    ports(spec, &path, errors);
    match type_ {
        "ExternalName" => {
            let name = text(spec, "externalName").trim_end_matches('.');
            well_formed(names::dns_subdomain(name, false), name, &path.child("externalName"), errors);
        }
        "NodePort" | "LoadBalancer" if is_headless => {
            let detail = format!("may not be set to 'None' for {type_} services");
            errors.invalid(&path.child("clusterIPs").index(0), "None", detail);
        }
        _ => {}
    }
    for (index, address) in items(spec, "clusterIPs").iter().filter_map(Value::as_str).enumerate() {
        if address != "None" {
            ip_address(address, &path.child("clusterIPs").index(index), errors);
        }
    }
    for (index, address) in items(spec, "externalIPs").iter().filter_map(Value::as_str).enumerate() {
        ip_address(address, &path.child("externalIPs").index(index), errors);
    }
    validate_labels(&spec["selector"], &path.child("selector"), errors);
    one_of(spec, "sessionAffinity", &["ClientIP", "None"], &path, errors);
    one_of(spec, "externalTrafficPolicy", &["Cluster", "Local"], &path, errors);
    one_of(spec, "internalTrafficPolicy", &["Cluster", "Local"], &path, errors);
    let seconds = spec.pointer("/sessionAffinityConfig/clientIP/timeoutSeconds").and_then(Value::as_i64);
    if let Some(seconds) = seconds
        && !(1..=AFFINITY_SECONDS_MAX).contains(&seconds)
    {
        let detail = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
        errors.invalid(&path.child("sessionAffinityConfig.clientIP.timeoutSeconds"), seconds, detail);
    }
}

fn ports(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let all = items(spec, "ports");
    let is_headless = text(spec, "clusterIP") == "None";
    let (mut port_names, mut numbers, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (index, port) in all.iter().enumerate() {
        let path = path.child("ports").index(index);
        let name = text(port, "name");
        if name.is_empty() && all.len() > 1 {
            errors.required(&path.child("name"), "");
        } else if !name.is_empty() {
            well_formed(names::dns_label(name, false), name, &path.child("name"), errors);
            if !port_names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        port_number(&port["port"], &path.child("port"), errors);
        protocol(port, &path, errors);
        if has(port, "targetPort") && !is_headless {
            port_or_name(&port["targetPort"], &path.child("targetPort"), errors);
        }
        let protocol = text(port, "protocol");
        if !numbers.insert((protocol, port["port"].as_i64())) {
            errors.duplicate(&path, port.clone());
        }
        let node_port = port["nodePort"].as_i64().unwrap_or(0);
        if node_port != 0 {
            if matches!(text(spec, "type"), "ClusterIP" | "ExternalName") {
                errors.forbidden(
                    &path.child("nodePort"),
                    format!("may not be used when `type` is '{}'", text(spec, "type")),
                );
            } else if !node_ports.insert((protocol, node_port)) {
                errors.duplicate(&path.child("nodePort"), node_port);
            }
        }
    }
}

/// The address of a service stays, unless its type turns it off or on.
pub fn service_update(new: &Value, old: &Value, subresource: Subresource<'_>, errors: &mut FieldErrors) {
    let (new, old) = (&new["spec"], &old["spec"]);
    let is_external = |spec: &Value| text(spec, "type") == "ExternalName";
    if subresource != Subresource::None || is_external(new) || is_external(old) || text(old, "clusterIP").is_empty() {
        return;
    }
    if text(new, "clusterIP") != text(old, "clusterIP") {
        let path = Path::new("spec").child("clusterIPs").index(0);
        errors.invalid(&path, new["clusterIPs"].clone(), "may not change once set");
    }
}

pub fn endpoints(object: &Value, errors: &mut FieldErrors) {
    for (index, subset) in items(object, "subsets").iter().enumerate() {
        let path = Path::new("subsets").index(index);
        if items(subset, "addresses").is_empty() && items(subset, "notReadyAddresses").is_empty() {
            errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (index, address) in items(subset, field).iter().enumerate() {
                endpoint_address(text(address, "ip"), &path.child(field).index(index).child("ip"), errors);
            }
        }
        let ports = items(subset, "ports");
        for (index, port) in ports.iter().enumerate() {
            let path = path.child("ports").index(index);
            if ports.len() > 1 {
                required(port, "name", &path, errors);
            }
            port_number(&port["port"], &path.child("port"), errors);
            protocol(port, &path, errors);
        }
    }
}

/// Traffic must not be led to addresses that mean something else on every machine.
fn endpoint_address(text: &str, path: &Path, errors: &mut FieldErrors) {
    ip_address(text, path, errors);
    let Ok(ip) = text.parse::<std::net::IpAddr>() else { return };
    if ip.is_unspecified() {
        errors.invalid(path, text, format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        errors.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let is_link_local = match ip {
        std::net::IpAddr::V4(ip) => ip.is_link_local(),
        std::net::IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if is_link_local {
        errors.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if ip.is_multicast() {
        errors.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

pub fn endpoint_slice(object: &Value, errors: &mut FieldErrors) {
    let root = Path::default();
    required(object, "addressType", &root, errors);
    one_of(object, "addressType", &["FQDN", "IPv4", "IPv6"], &root, errors);
    let path = Path::new("endpoints");
    let endpoints = items(object, "endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        errors.too_many(&path, endpoints.len(), ENDPOINTS_MAX);
        return;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(index).child("addresses");
        let addresses = items(endpoint, "addresses");
        match addresses.len() {
            0 => errors.required(&path, "must contain at least 1 address"),
            1..=ADDRESSES_MAX => {}
            count => errors.too_many(&path, count, ADDRESSES_MAX),
        }
        for (index, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
            match text(object, "addressType") {
                "IPv4" | "IPv6" => endpoint_address(address, &path.index(index), errors),
                _ => well_formed(names::dns_subdomain(address, false), address, &path.index(index), errors),
            }
        }
    }
    let path = Path::new("ports");
    let ports = items(object, "ports");
    if ports.len() > SLICE_PORTS_MAX {
        errors.too_many(&path, ports.len(), SLICE_PORTS_MAX);
        return;
    }
    let mut port_names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            well_formed(names::dns_label(name, false), name, &path.child("name"), errors);
        }
        if !port_names.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        protocol(port, &path, errors);
    }
}

pub fn endpoint_slice_update(new: &Value, old: &Value, _: Subresource<'_>, errors: &mut FieldErrors) {
    immutable(new, old, "addressType", &Path::default(), errors);
}
