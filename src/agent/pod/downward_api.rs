//! The downward API: field and resource references, for variables and for files.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container as Spec, Pod, ResourceFieldSelector};

use super::{lifecycle, limits};
use crate::agent::config::Capacity;
use crate::agent::error::Error;
use crate::kube::quantity::Quantity;

/// A pod on its node: all that references may name.
#[derive(Clone, Copy)]
pub struct DownwardApi<'a> {
    pub pod: &'a Pod,
    pub host_ip: IpAddr,
    /// `None` before the sandbox is there.
    pub pod_ip: Option<IpAddr>,
    /// The limit of a container that sets none.
    pub node: Capacity,
}

impl DownwardApi<'_> {
    /// The value of a `fieldRef`.
    pub fn field(&self, path: &str) -> Result<String, Error> {
        let meta = &self.pod.metadata;
        let spec = lifecycle::spec(self.pod);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
            let map = match map {
                "metadata.labels" => &meta.labels,
                "metadata.annotations" => &meta.annotations,
                _ => return Err(unknown(path)),
            };
            return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
        }
        let lines = |map: &Option<std::collections::BTreeMap<String, String>>| {
            let lines = map.iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
            lines.collect::<Vec<_>>().join("\n")
        };
        let pod_ip = self.pod_ip.map(|ip| ip.to_string()).unwrap_or_default();
        Ok(match path {
            "metadata.name" => text(&meta.name),
            "metadata.namespace" => text(&meta.namespace),
            "metadata.uid" => text(&meta.uid),
            "metadata.labels" => lines(&meta.labels),
            "metadata.annotations" => lines(&meta.annotations),
            "spec.nodeName" => text(&spec.node_name),
            "spec.serviceAccountName" => text(&spec.service_account_name),
            "status.hostIP" | "status.hostIPs" => self.host_ip.to_string(),
            "status.podIP" | "status.podIPs" => pod_ip,
            _ => return Err(unknown(path)),
        })
    }

    /// The value of a `resourceFieldRef`, in units of its divisor, rounded up.
    pub fn resource(&self, own: Option<&Spec>, selector: &ResourceFieldSelector) -> Result<String, Error> {
        let spec = match &selector.container_name {
            Some(name) => lifecycle::init_containers(self.pod)
                .iter()
                .chain(&lifecycle::spec(self.pod).containers)
                .find(|container| container.name == *name),
            None => own,
        };
        let spec = spec.ok_or_else(|| Error::Config("resourceFieldRef names no container of the pod".to_owned()))?;
        let (kind, resource) = selector.resource.split_once('.').ok_or_else(|| unknown(&selector.resource))?;
        let amount = match kind {
            "limits" => limits::limit(spec, resource).unwrap_or_else(|| self.capacity(resource)),
            "requests" => limits::request(spec, resource).unwrap_or(Quantity::ZERO),
            _ => return Err(unknown(&selector.resource)),
        };
        let divisor: Quantity = match &selector.divisor {
            Some(divisor) => divisor.0.parse().map_err(|_| Error::Config(format!("bad divisor {:?}", divisor.0)))?,
            None => Quantity::ZERO,
        };
        let divisor = if divisor.is_zero() { Quantity::from_units(1) } else { divisor };
        let ceiling = |amount: i64, divisor: i64| amount.div_euclid(divisor) + i64::from(amount % divisor != 0);
        Ok(if resource == "cpu" {
            ceiling(amount.millis(), divisor.millis()).to_string()
        } else {
            ceiling(amount.units(), divisor.units()).to_string()
        })
    }

    fn capacity(&self, resource: &str) -> Quantity {
        let whole = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
        match resource {
            "cpu" => Quantity::from_millis(whole(self.node.cpu_millis)),
            "memory" => Quantity::from_bytes(whole(self.node.memory_bytes)),
            "ephemeral-storage" => Quantity::from_bytes(whole(self.node.storage_bytes)),
            _ => Quantity::ZERO,
        }
    }
}

fn unknown(path: &str) -> Error {
    Error::Config(format!("field label not supported: {path}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "www", "namespace": "default", "uid": "u", "labels": {"a": "1", "b": "x\"y"}},
            "spec": {"nodeName": "n1", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "100Mi"}}}]},
        }))
        .unwrap()
    }

    #[test]
    fn fields_are_found_by_path() {
        let pod = pod();
        let downward_api = downward_api(&pod);
        let table = [
            ("metadata.name", "www"),
            ("metadata.labels['a']", "1"),
            ("metadata.labels['none']", ""),
            ("metadata.labels", "a=\"1\"\nb=\"x\\\"y\""),
            ("spec.nodeName", "n1"),
            ("status.hostIP", "10.0.0.1"),
            ("status.podIP", ""),
        ];
        for (path, expected) in table {
            assert_eq!(downward_api.field(path).unwrap(), expected, "{path}");
        }
        assert_eq!(
            downward_api.field("spec.dreams").unwrap_err().to_string(),
            "field label not supported: spec.dreams"
        );
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let pod = pod();
        let own = &lifecycle::spec(&pod).containers[0];
        let table = [
            ("limits.cpu", None, "2"),
            ("limits.cpu", Some("1m"), "1500"),
            ("limits.memory", None, "1024"),
            ("requests.memory", Some("1Mi"), "100"),
            ("requests.cpu", Some("1m"), "1500"),
        ];
        for (resource, divisor, expected) in table {
            let selector = serde_json::from_value(json!({"resource": resource, "divisor": divisor})).unwrap();
            assert_eq!(downward_api(&pod).resource(Some(own), &selector).unwrap(), expected, "{resource} {divisor:?}");
        }
    }

    fn downward_api(pod: &Pod) -> DownwardApi<'_> {
        let node = Capacity { cpu_millis: 4000, memory_bytes: 1024, storage_bytes: 0, pods: 110 };
        DownwardApi { pod, host_ip: "10.0.0.1".parse().unwrap(), pod_ip: None, node }
    }
}
