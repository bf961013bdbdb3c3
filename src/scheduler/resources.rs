//! Amounts of resources: what a node has and what pods request.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

use crate::kube::quantity::Quantity;

/// More than any machine has, and small enough that sums of thousands stay far from overflow.
const AMOUNT_MAX: i64 = 1 << 50;
/// What a container without a cpu request counts as in scores: 0.1 cores.
const DEFAULT_MILLI_CPU_REQUEST: i64 = 100;
/// What a container without a memory request counts as in scores: 200 MiB.
const DEFAULT_MEMORY_REQUEST: i64 = 200 << 20;

/// Amounts by resource. Bytes but for the cpu and for `extended`, which counts devices or bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    pub extended: BTreeMap<String, i64>,
}

/// What a pod requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub fit: Resources,
    /// For scores.
    pub non_zero: NonZeroRequests,
}

/// Cpu and memory for scores, in which a container that requests nothing still counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NonZeroRequests {
    pub milli_cpu: i64,
    pub memory: i64,
}

type Amounts = BTreeMap<String, Wire>;

impl Resources {
    /// An amount that is not a quantity counts as zero; the API refuses it.
    pub fn of(amounts: Option<&Amounts>) -> Resources {
        let mut resources = Resources::default();
        for (name, amount) in amounts.into_iter().flatten() {
            let amount = Quantity::try_from(amount).unwrap_or_default();
            let units = amount.units().clamp(0, AMOUNT_MAX);
            match name.as_str() {
                "cpu" => resources.milli_cpu = amount.millis().clamp(0, AMOUNT_MAX),
                "memory" => resources.memory = units,
                "ephemeral-storage" => resources.ephemeral_storage = units,
                "pods" => {}
                _ => drop(resources.extended.insert(name.clone(), units)),
            }
        }
        resources
    }

    pub fn add(&mut self, other: &Resources) {
        self.merge(other, |a, b| a + b);
    }

    pub fn subtract(&mut self, other: &Resources) {
        self.merge(other, |a, b| a - b);
    }

    fn raise_to(&mut self, other: &Resources) {
        self.merge(other, i64::max);
    }

    fn merge(&mut self, other: &Resources, with: fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.extended {
            let mine = self.extended.entry(name.clone()).or_default();
            *mine = with(*mine, *amount);
        }
    }
}

impl NonZeroRequests {
    pub fn add(&mut self, other: NonZeroRequests) {
        self.milli_cpu += other.milli_cpu;
        self.memory += other.memory;
    }

    pub fn subtract(&mut self, other: NonZeroRequests) {
        self.milli_cpu -= other.milli_cpu;
        self.memory -= other.memory;
    }
}

impl Requests {
    pub fn of(pod: &Pod) -> Requests {
        let none = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        let mut requests = Requests::of_containers(spec);
        if let Some(whole) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
            requests.replace_by_pod_level(whole);
        }
        let overhead = Resources::of(spec.overhead.as_ref());
        requests.non_zero.add(NonZeroRequests { milli_cpu: overhead.milli_cpu, memory: overhead.memory });
        requests.fit.add(&overhead);
        requests
    }

    /// App containers and sidecars run together; an ordinary init container runs beside those sidecars alone that
    /// precede it.
    fn of_containers(spec: &PodSpec) -> Requests {
        let mut total = Requests::default();
        for container in &spec.containers {
            total.add(&Requests::of_container(container));
        }
        let (mut sidecars, mut peak) = (Requests::default(), Requests::default());
        for container in spec.init_containers.iter().flatten() {
            let mut own = Requests::of_container(container);
            if container.restart_policy.as_deref() == Some("Always") {
                total.add(&own);
                sidecars.add(&own);
                own = Requests::default();
            }
            own.add(&sidecars);
            peak.raise_to(&own);
        }
        total.raise_to(&peak);
        total
    }

    fn of_container(container: &Container) -> Requests {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let fit = Resources::of(requests);
        let asks = |name| requests.is_some_and(|requests| requests.contains_key(name));
        let non_zero = NonZeroRequests {
            milli_cpu: if asks("cpu") { fit.milli_cpu } else { DEFAULT_MILLI_CPU_REQUEST },
            memory: if asks("memory") { fit.memory } else { DEFAULT_MEMORY_REQUEST },
        };
        Requests { fit, non_zero }
    }

    fn replace_by_pod_level(&mut self, whole: &Amounts) {
        let resources = Resources::of(Some(whole));
        if whole.contains_key("cpu") {
            (self.fit.milli_cpu, self.non_zero.milli_cpu) = (resources.milli_cpu, resources.milli_cpu);
        }
        if whole.contains_key("memory") {
            (self.fit.memory, self.non_zero.memory) = (resources.memory, resources.memory);
        }
    }

    fn add(&mut self, other: &Requests) {
        self.fit.add(&other.fit);
        self.non_zero.add(other.non_zero);
    }

    fn raise_to(&mut self, other: &Requests) {
        self.fit.raise_to(&other.fit);
        self.non_zero.milli_cpu = self.non_zero.milli_cpu.max(other.non_zero.milli_cpu);
        self.non_zero.memory = self.non_zero.memory.max(other.non_zero.memory);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_asks_for_its_peak() {
        let container = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}});
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}});
        for (why, spec, milli_cpu) in [
            ("containers run together", json!({"containers": [container("1"), container("500m")]}), 1500),
            (
                "init containers run one by one",
                json!({"containers": [container("1")], "initContainers": [container("2"), container("3")]}),
                3000,
            ),
            (
                "sidecars run beside what follows them",
                json!({"containers": [container("1")], "initContainers": [container("1"), sidecar, container("1")]}),
                1100,
            ),
            ("overhead comes on top", json!({"containers": [container("1")], "overhead": {"cpu": "250m"}}), 1250),
            (
                "the pod's own requests stand for its containers'",
                json!({"containers": [container("1")], "resources": {"requests": {"cpu": "4"}}}),
                4000,
            ),
        ] {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            assert_eq!(Requests::of(&pod).fit.milli_cpu, milli_cpu, "{why}");
        }
    }

    #[test]
    fn what_asks_for_nothing_still_scores() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c"}]}})).unwrap();
        let requests = Requests::of(&pod);
        assert_eq!(requests.fit, Resources::default());
        assert_eq!(requests.non_zero, NonZeroRequests { milli_cpu: 100, memory: 200 << 20 });
    }
}
