//! The addresses behind a service: which pods, on which ports. Pure: the endpoints and the endpoint slice controller
//! publish what this finds.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, ObjectReference, Pod, Service, ServicePort,
};
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pods;
use crate::world::planted::planted;

/// An endpoint slice holds no more endpoints than this.
pub const SLICE_ENDPOINTS_MAX: usize = 100;
/// An Endpoints object holds no more addresses than this; a client that needs all reads the slices.
pub const ENDPOINTS_MAX: usize = 1000;

/// The ports of a service on one pod: by name, the number and protocol.
type Ports = Vec<(Option<String>, i32, String)>;

/// One pod behind a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    pub ip: String,
    pub node: Option<String>,
    pub pod: ObjectReference,
    pub hostname: Option<String>,
    /// It may get new connections.
    pub ready: bool,
    /// It can serve requests, even if it is terminating.
    pub serving: bool,
    /// Its deletion has begun.
    pub terminating: bool,
}

/// The pods that a service selects, grouped by the ports they serve it on, in a stable order.
pub fn backends(service: &Service, selected: &[Arc<Pod>]) -> BTreeMap<Ports, Vec<Backend>> {
    let spec = service.spec.clone().unwrap_or_default();
    let unready_too = spec.publish_not_ready_addresses == Some(true);
    let mut groups: BTreeMap<Ports, Vec<Backend>> = BTreeMap::new();
    for pod in selected {
        if matches!(pods::phase(pod), "Succeeded" | "Failed") {
            continue;
        }
        let Some(ip) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|ip| !ip.is_empty()) else {
            continue;
        };
        let ports: Ports = spec.ports.iter().flatten().filter_map(|port| target(port, pod)).collect();
        let terminating = pod.metadata.deletion_timestamp.is_some();
        groups.entry(ports).or_default().push(Backend {
            ip,
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            pod: reference(pod),
            hostname: pod
                .spec
                .as_ref()
                .filter(|spec| spec.subdomain == service.metadata.name)
                .and_then(|spec| spec.hostname.clone()),
            ready: unready_too || planted!("dead-endpoints") || (pods::is_ready(pod) && !terminating),
            serving: pods::is_ready(pod),
            terminating,
        });
    }
    for group in groups.values_mut() {
        group.sort_by(|a, b| (&a.ip, &a.pod.name).cmp(&(&b.ip, &b.pod.name)));
    }
    groups
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}

/// The pod's port for a port of its service; `None` if no port has the name that the service targets.
fn target(port: &ServicePort, pod: &Pod) -> Option<(Option<String>, i32, String)> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = &pod.spec.as_ref()?.containers;
            let mut named = containers.iter().flat_map(|container| container.ports.iter().flatten());
            let serves =
                named.find(|p| p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol);
            serves?.container_port
        }
    };
    Some((port.name.clone(), number, protocol))
}

/// The subsets of an Endpoints object, and whether addresses had to be left out.
pub fn subsets(groups: &BTreeMap<Ports, Vec<Backend>>) -> (Vec<EndpointSubset>, bool) {
    let (mut subsets, mut left, mut cut) = (Vec::new(), ENDPOINTS_MAX, false);
    for (ports, backends) in groups.iter().filter(|(ports, _)| !ports.is_empty()) {
        let shown: Vec<&Backend> = backends.iter().filter(|backend| !backend.terminating || backend.ready).collect();
        cut |= shown.len() > left;
        let (ready, unready): (Vec<&Backend>, Vec<&Backend>) =
            shown.into_iter().take(left).partition(|backend| backend.ready);
        left -= ready.len() + unready.len();
        let addresses =
            |list: Vec<&Backend>| Some(list.into_iter().map(address).collect()).filter(|l: &Vec<_>| !l.is_empty());
        let ports = ports.iter().map(|(name, port, protocol)| EndpointPort {
            name: name.clone(),
            port: *port,
            protocol: Some(protocol.clone()),
            ..Default::default()
        });
        let subset = EndpointSubset {
            addresses: addresses(ready),
            not_ready_addresses: addresses(unready),
            ports: Some(ports.collect()),
        };
        if subset.addresses.is_some() || subset.not_ready_addresses.is_some() {
            subsets.push(subset);
        }
    }
    (subsets, cut)
}

fn address(backend: &Backend) -> EndpointAddress {
    EndpointAddress {
        ip: backend.ip.clone(),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: Some(backend.pod.clone()),
    }
}

/// What one endpoint slice holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// `IPv4` or `IPv6`.
    pub address_type: &'static str,
    pub endpoints: Vec<discovery::Endpoint>,
    pub ports: Vec<discovery::EndpointPort>,
}

/// The contents of a service's endpoint slices, in a stable order; at least one.
pub fn slices(groups: &BTreeMap<Ports, Vec<Backend>>) -> Vec<Slice> {
    let mut slices = Vec::new();
    for (ports, backends) in groups {
        let ports: Vec<discovery::EndpointPort> = ports
            .iter()
            .map(|(name, port, protocol)| discovery::EndpointPort {
                name: Some(name.clone().unwrap_or_default()),
                port: Some(*port),
                protocol: Some(protocol.clone()),
                ..Default::default()
            })
            .collect();
        for chunk in backends.chunks(SLICE_ENDPOINTS_MAX) {
            let endpoints = chunk.iter().map(endpoint).collect();
            slices.push(Slice { address_type: "IPv4", endpoints, ports: ports.clone() });
        }
    }
    if slices.is_empty() {
        slices.push(Slice { address_type: "IPv4", endpoints: Vec::new(), ports: Vec::new() });
    }
    slices
}

fn endpoint(backend: &Backend) -> discovery::Endpoint {
    discovery::Endpoint {
        addresses: vec![backend.ip.clone()],
        conditions: Some(discovery::EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: Some(backend.pod.clone()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service() -> Service {
        let spec = json!({"ports": [{"name": "http", "port": 80, "targetPort": "web"}]});
        serde_json::from_value(json!({"metadata": {"name": "www"}, "spec": spec})).unwrap()
    }

    fn pod(ip: &str, ready: &str, port_name: &str) -> Arc<Pod> {
        let container = json!({"name": "c", "ports": [{"name": port_name, "containerPort": 8080}]});
        let value = json!({
            "metadata": {"name": format!("pod-{ip}"), "namespace": "default"},
            "spec": {"nodeName": "n1", "containers": [container]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn ready_and_unready_pods_are_told_apart_under_the_named_port() {
        let pods = [pod("10.0.0.2", "True", "web"), pod("10.0.0.1", "False", "web"), pod("", "True", "web")];
        let (subsets, cut) = subsets(&backends(&service(), &pods));
        assert!(!cut && subsets.len() == 1);
        assert_eq!(subsets[0].addresses.as_ref().unwrap()[0].ip, "10.0.0.2");
        assert_eq!(subsets[0].not_ready_addresses.as_ref().unwrap()[0].ip, "10.0.0.1");
        assert_eq!(subsets[0].ports.as_ref().unwrap()[0].port, 8080);
    }

    #[test]
    fn a_pod_without_the_named_port_serves_nothing() {
        let groups = backends(&service(), &[pod("10.0.0.1", "True", "other")]);
        assert_eq!(subsets(&groups).0, []);
    }

    #[test]
    fn what_an_endpoint_is_good_for() {
        for (ready, terminating, unready_too, expected) in [
            // ready, serving, terminating
            ("True", false, false, [true, true, false]),
            ("False", false, false, [false, false, false]),
            ("True", true, false, [false, true, true]),
            ("False", true, false, [false, false, true]),
            ("False", false, true, [true, false, false]),
            ("True", true, true, [true, true, true]),
        ] {
            let mut pod = Arc::unwrap_or_clone(pod("10.0.0.1", ready, "web"));
            if terminating {
                pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
            }
            let mut service = service();
            service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(unready_too);
            let slices = slices(&backends(&service, &[Arc::new(pod)]));
            let told = slices[0].endpoints[0].conditions.clone().unwrap();
            let told = [told.ready, told.serving, told.terminating].map(Option::unwrap);
            assert_eq!(told, expected, "{ready} {terminating} {unready_too}");
        }
    }

    #[test]
    fn slices_hold_a_hundred_endpoints_at_most() {
        let pods: Vec<_> = (0..250).map(|n| pod(&format!("10.0.{}.{}", n / 200, n % 200 + 1), "True", "web")).collect();
        let sizes: Vec<_> = slices(&backends(&service(), &pods)).iter().map(|slice| slice.endpoints.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
    }
}
