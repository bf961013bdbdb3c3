//! The quality-of-service class of a pod: it decides which pods are killed first when memory runs out.

use serde_json::Value;

use crate::kube::quantity::Quantity;
use crate::kube::tree::{entries, items, plain};

/// Only these resources count.
const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort` of a pod's spec.
pub fn class(spec: &Value) -> &'static str {
    let containers = || items(spec, "containers").iter().chain(items(spec, "initContainers"));
    let amount = |container: &Value, list: &str, name: &str| -> Option<Quantity> {
        let value = entries(&container["resources"], list).get(name)?;
        plain(value).parse().ok().filter(|quantity: &Quantity| !quantity.is_zero())
    };
    let asks = |container: &Value| {
        COMPUTE
            .iter()
            .any(|name| amount(container, "requests", name).is_some() || amount(container, "limits", name).is_some())
    };
    let is_guaranteed = |container: &Value| {
        COMPUTE.iter().all(|name| match amount(container, "limits", name) {
            Some(limit) => amount(container, "requests", name).is_none_or(|request| request == limit),
            None => false,
        })
    };
    if !containers().any(asks) {
        "BestEffort"
    } else if containers().all(is_guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
