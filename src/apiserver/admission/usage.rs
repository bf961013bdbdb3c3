//! How much of what quotas count an object uses. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kube::quantity::Quantity;

use super::items;

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

/// A pod that has run uses nothing but its place in the count.
pub fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn add_pod(usage: &mut Usage, pod: &Value) {
    for (name, amount) in pod_resources(pod, "requests") {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            add(usage, &name, &amount);
        }
        add(usage, &format!("requests.{name}"), &amount);
    }
    for (name, amount) in pod_resources(pod, "limits") {
        add(usage, &format!("limits.{name}"), &amount);
    }
}

/// The sum of the containers, or the largest init container where that is more.
pub fn pod_resources(pod: &Value, part: &str) -> Usage {
    let mut sum = Usage::new();
    for container in items(&pod["spec"]["containers"]) {
        for (name, amount) in amounts(&container["resources"][part]) {
            add(&mut sum, &name, &amount);
        }
    }
    for container in items(&pod["spec"]["initContainers"]) {
        for (name, amount) in amounts(&container["resources"][part]) {
            let known = sum.entry(name).or_insert(amount);
            *known = (*known).max(amount);
        }
    }
    sum
}

/// A map of quantities; what does not parse is left to validation.
pub fn amounts(map: &Value) -> impl Iterator<Item = (String, Quantity)> + '_ {
    map.as_object().into_iter().flatten().filter_map(|(name, amount)| {
        let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
        Some((name.clone(), text.parse().ok()?))
    })
}

fn add_service(usage: &mut Usage, service: &Value) {
    let ports = service["spec"]["ports"].as_array().map_or(0, Vec::len);
    let kind = service["spec"]["type"].as_str();
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
    }
}
