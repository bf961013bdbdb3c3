//! A container's resources as the kernel takes them, and the pod's quality of service, by which the kernel chooses whom
//! to kill when memory runs out.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

use super::lifecycle;
use crate::agent::runtime::Limits;
use crate::kube::quantity::Quantity;

/// The kernel's smallest and largest weight.
const SHARES_MIN: i64 = 2;
const SHARES_MAX: i64 = 262_144;
const SHARES_PER_CORE: i64 = 1024;
const PERIOD_US: i64 = 100_000;
/// The kernel's smallest quota.
const QUOTA_US_MIN: i64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    Guaranteed,
    Burstable,
    BestEffort,
}

fn amount(list: Option<&BTreeMap<String, Wire>>, resource: &str) -> Option<Quantity> {
    // Validation has parsed all quantities; an invalid one counts as not set.
    list?.get(resource)?.0.parse().ok()
}

/// A container's request of a resource; its limit if it has no request.
pub fn request(spec: &Spec, resource: &str) -> Option<Quantity> {
    let resources = spec.resources.as_ref()?;
    amount(resources.requests.as_ref(), resource).or_else(|| amount(resources.limits.as_ref(), resource))
}

pub fn limit(spec: &Spec, resource: &str) -> Option<Quantity> {
    amount(spec.resources.as_ref()?.limits.as_ref(), resource)
}

/// The sum of the limits of a pod's app containers; `None` if one of them has no limit.
pub fn memory_of_all(pod: &Pod) -> Option<u64> {
    let limits = lifecycle::spec(pod).containers.iter().map(|spec| limit(spec, "memory"));
    let mut bytes = limits.map(|limit| u64::try_from(limit?.units()).ok().filter(|bytes| *bytes > 0));
    bytes.try_fold(0_u64, |sum, bytes| Some(sum.saturating_add(bytes?)))
}

/// The quality of service of a pod: all limits equal to requests, some of them given, none.
pub fn quality(pod: &Pod) -> Quality {
    let containers = || lifecycle::init_containers(pod).iter().chain(&lifecycle::spec(pod).containers);
    let pairs = || containers().flat_map(|spec| ["cpu", "memory"].map(|name| (request(spec, name), limit(spec, name))));
    let given = |amount: &Option<Quantity>| amount.as_ref().is_some_and(|amount| !amount.is_zero());
    if pairs().all(|(request, limit)| given(&limit) && request == limit) {
        Quality::Guaranteed
    } else if pairs().any(|(request, limit)| given(&request) || given(&limit)) {
        Quality::Burstable
    } else {
        Quality::BestEffort
    }
}

/// The limits of one container on a node with so much memory.
pub fn limits(pod: &Pod, spec: &Spec, node_memory_bytes: u64) -> Limits {
    let cpu_request = request(spec, "cpu").map_or(0, |cpu| cpu.millis());
    let cpu_limit = limit(spec, "cpu").map_or(0, |cpu| cpu.millis());
    let quota = if cpu_limit > 0 { (cpu_limit.saturating_mul(PERIOD_US) / 1_000).max(QUOTA_US_MIN) } else { 0 };
    Limits {
        cpu_shares: (cpu_request.saturating_mul(SHARES_PER_CORE) / 1_000).clamp(SHARES_MIN, SHARES_MAX),
        cpu_quota_us: quota,
        cpu_period_us: if quota > 0 { PERIOD_US } else { 0 },
        memory_bytes_max: limit(spec, "memory").map_or(0, |memory| memory.units()),
        oom_score_adj: oom_score(pod, spec, node_memory_bytes),
    }
}

/// Within a class, the kernel kills containers with larger requests later.
fn oom_score(pod: &Pod, spec: &Spec, node_memory_bytes: u64) -> i64 {
    match quality(pod) {
        Quality::Guaranteed => -997,
        Quality::BestEffort => 1000,
        Quality::Burstable => {
            let asked = i128::from(request(spec, "memory").map_or(0, |memory| memory.units()));
            let part = asked * 1000 / i128::from(node_memory_bytes.max(1));
            i64::try_from((1000 - part).clamp(3, 999)).expect("clamped to three digits")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(resources: serde_json::Value) -> Pod {
        let spec = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        let table = [
            (json!({}), Quality::BestEffort),
            (json!({"requests": {"cpu": "100m"}}), Quality::Burstable),
            (json!({"limits": {"cpu": "1"}}), Quality::Burstable),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), Quality::Guaranteed),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}),
                Quality::Guaranteed,
            ),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}),
                Quality::Burstable,
            ),
        ];
        for (resources, expected) in table {
            assert_eq!(quality(&pod(resources.clone())), expected, "{resources}");
        }
    }

    #[test]
    fn the_kernel_gets_shares_quota_and_bytes() {
        let pod =
            pod(json!({"requests": {"cpu": "800m", "memory": "1Gi"}, "limits": {"cpu": "1500m", "memory": "2Gi"}}));
        let limits = limits(&pod, &lifecycle::spec(&pod).containers[0], 4 << 30);
        assert_eq!(
            limits,
            Limits {
                cpu_shares: 819,
                cpu_quota_us: 150_000,
                cpu_period_us: 100_000,
                memory_bytes_max: 2 << 30,
                oom_score_adj: 750,
            }
        );
    }

    #[test]
    fn the_largest_amounts_are_taken_as_the_largest_numbers() {
        let pod = pod(json!({"limits": {"cpu": "9E", "memory": "9E"}}));
        let limits = limits(&pod, &lifecycle::spec(&pod).containers[0], 4 << 30);
        assert_eq!((limits.cpu_quota_us, limits.cpu_shares), (i64::MAX / 1_000, SHARES_MAX));
    }

    #[test]
    fn without_resources_only_the_smallest_weight_is_set() {
        let pod = pod(json!({}));
        let limits = limits(&pod, &lifecycle::spec(&pod).containers[0], 4 << 30);
        assert_eq!(limits, Limits { cpu_shares: 2, oom_score_adj: 1000, ..Limits::default() });
    }
}
