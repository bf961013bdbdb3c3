//! How much of what quotas count an object uses. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kube::quantity::Quantity;
use crate::kube::tree::items;

/// Amounts by resource name: `pods`, `requests.cpu`, `count/deployments.apps`, ...
pub type Usage = BTreeMap<String, Quantity>;

/// Kinds that quotas count under their plural.
const COUNTED: [&str; 7] =
    ["pods", "services", "secrets", "configmaps", "replicationcontrollers", "resourcequotas", "persistentvolumeclaims"];

/// What one object of `group` and `plural` uses.
pub fn of(group: &str, plural: &str, object: &Value) -> Usage {
    let one = Quantity::from_units(1);
    let mut usage = Usage::new();
    if group.is_empty() {
        usage.insert(format!("count/{plural}"), one);
        if plural == "pods" && is_over(object) {
            return usage;
        }
        if COUNTED.contains(&plural) {
            usage.insert(plural.to_owned(), one);
        }
    } else {
        usage.insert(format!("count/{plural}.{group}"), one);
    }
    match (group, plural) {
        ("", "pods") => add_pod(&mut usage, object),
        ("", "services") => add_service(&mut usage, object),
        _ => {}
    }
    usage
}

/// A pod that has finished uses nothing but its place in the object count.
fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn add_pod(usage: &mut Usage, pod: &Value) {
    for (name, amount) in pod_resources(pod, "requests") {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            add(usage, &name, &amount);
        }
        add(usage, &format!("requests.{name}"), &amount);
    }
    for (name, amount) in pod_resources(pod, "limits") {
        add(usage, &format!("limits.{name}"), &amount);
    }
}

/// What a pod uses at most at any time: its containers together, or an init container with the sidecars before it where
/// that is more. Resources of the pod as a whole count instead of those; its overhead is added.
pub fn pod_resources(pod: &Value, part: &str) -> Usage {
    let spec = &pod["spec"];
    let (mut sum, mut sidecars, mut peak) = (Usage::new(), Usage::new(), Usage::new());
    for container in items(spec, "containers") {
        add_all(&mut sum, amounts(&container["resources"][part]));
    }
    for container in items(spec, "initContainers") {
        let mut running = sidecars.clone();
        add_all(&mut running, amounts(&container["resources"][part]));
        for (name, amount) in &running {
            let known = peak.entry(name.clone()).or_insert(*amount);
            *known = (*known).max(*amount);
        }
        if container["restartPolicy"] == "Always" {
            add_all(&mut sum, amounts(&container["resources"][part]));
            sidecars = running;
        }
    }
    for (name, amount) in peak {
        let known = sum.entry(name).or_insert(amount);
        *known = (*known).max(amount);
    }
    sum.extend(amounts(&spec["resources"][part]));
    for (name, amount) in amounts(&spec["overhead"]) {
        // A resource without a limit stays without one.
        if part == "requests" || sum.contains_key(&name) {
            add(&mut sum, &name, &amount);
        }
    }
    sum
}

fn add_all(usage: &mut Usage, more: impl Iterator<Item = (String, Quantity)>) {
    for (name, amount) in more {
        add(usage, &name, &amount);
    }
}

/// A map of quantities; what does not parse is left to validation.
pub fn amounts(map: &Value) -> impl Iterator<Item = (String, Quantity)> + '_ {
    map.as_object().into_iter().flatten().filter_map(|(name, amount)| {
        let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
        Some((name.clone(), text.parse().ok()?))
    })
}

fn add_service(usage: &mut Usage, service: &Value) {
    let kind = service["spec"]["type"].as_str();
    // A load balancer can be without node ports, except those that it names.
    let without = kind == Some("LoadBalancer") && service["spec"]["allocateLoadBalancerNodePorts"] == false;
    let ports = items(&service["spec"], "ports")
        .iter()
        .filter(|port| !without || port["nodePort"].as_i64().is_some_and(|number| number != 0))
        .count();
    if kind == Some("LoadBalancer") {
        usage.insert("services.loadbalancers".to_owned(), Quantity::from_units(1));
    }
    if matches!(kind, Some("NodePort" | "LoadBalancer")) {
        usage.insert("services.nodeports".to_owned(), Quantity::from_units(ports as i64));
    }
}

/// Adds an amount under a name.
pub fn add(usage: &mut Usage, name: &str, amount: &Quantity) {
    *usage.entry(name.to_owned()).or_default() += *amount;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_pod_uses() {
        let mut pod = json!({"spec": {
            "containers": [
                {"resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "1"}}},
                {"resources": {"requests": {"cpu": "200m"}}},
            ],
            "initContainers": [{"resources": {"requests": {"cpu": "1", "memory": "1Mi"}}}],
        }});
        let usage = of("", "pods", &pod);
        let shown = |name: &str| usage.get(name).map(ToString::to_string);
        assert_eq!(shown("pods").as_deref(), Some("1"));
        assert_eq!(shown("requests.cpu").as_deref(), Some("1"));
        assert_eq!(shown("cpu").as_deref(), Some("1"));
        assert_eq!(shown("memory").as_deref(), Some("1Gi"));
        assert_eq!(shown("limits.cpu").as_deref(), Some("1"));

        pod["status"] = json!({"phase": "Succeeded"});
        let over = of("", "pods", &pod);
        assert_eq!(over.keys().collect::<Vec<_>>(), ["count/pods"]);
    }

    #[test]
    fn other_kinds_are_counted_with_their_group() {
        assert!(of("apps", "deployments", &json!({})).contains_key("count/deployments.apps"));
        let service = json!({"spec": {"type": "NodePort", "ports": [{}, {}]}});
        assert_eq!(of("", "services", &service)["services.nodeports"].units(), 2);
        let balancer = json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
            "ports": [{"nodePort": 30000}, {}]}});
        assert_eq!(of("", "services", &balancer)["services.nodeports"].units(), 1);
    }

    #[test]
    fn sidecars_run_beside_what_comes_after_them() {
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
        let mut pod = json!({"spec": {
            "initContainers": [
                {"resources": cpu("3")},
                {"resources": cpu("1"), "restartPolicy": "Always"},
                {"resources": cpu("4")},
            ],
            "containers": [{"resources": cpu("2")}],
        }});
        let asked = |pod: &Value| pod_resources(pod, "requests")["cpu"].to_string();
        assert_eq!(asked(&pod), "5", "the sidecar and the init container after it");
        pod["spec"]["containers"][0]["resources"] = cpu("5");
        assert_eq!(asked(&pod), "6", "the sidecar and the container");
        pod["spec"]["overhead"] = json!({"cpu": "500m"});
        assert_eq!(asked(&pod), "6500m");
        pod["spec"]["resources"] = cpu("10");
        assert_eq!(asked(&pod), "10500m");
    }
}
