//! The Node object and its Lease, from what is known of the node. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};

use super::capacity::{Machine, Pressure, allocatable};
use crate::agent::config::Capacity;
use crate::agent::runtime::EngineVersion;
use crate::kube::quantity::Quantity;

pub const LEASE_NAMESPACE: &str = "kube-node-lease";

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Facts {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub address: IpAddr,
    /// Where logs are served.
    pub port: u16,
    pub capacity: Capacity,
    pub machine: Machine,
    pub engine: EngineVersion,
    /// A node whose Lease is older than this is taken for lost.
    pub lease_duration: Duration,
}

fn resources(capacity: Capacity) -> BTreeMap<String, Wire> {
    let whole = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    let amounts = [
        ("cpu", Quantity::from_millis(whole(capacity.cpu_millis))),
        ("memory", Quantity::from_bytes(whole(capacity.memory_bytes / 1024 * 1024))),
        ("ephemeral-storage", Quantity::from_bytes(whole(capacity.storage_bytes / 1024 * 1024))),
        ("pods", Quantity::from_units(i64::from(capacity.pods))),
    ];
    amounts.into_iter().map(|(name, amount)| (name.to_owned(), amount.to_wire())).collect()
}

/// The labels of every node, and those of the configuration.
pub fn labels(facts: &Facts) -> BTreeMap<String, String> {
    let architecture = facts.machine.architecture;
    let own = [
        ("kubernetes.io/hostname", facts.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture),
    ];
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    own.chain(facts.labels.clone()).collect()
}

/// The node as it registers.
pub fn node(facts: &Facts, pressure: Pressure, now: Timestamp) -> Node {
    Node {
        metadata: ObjectMeta { name: Some(facts.name.clone()), labels: Some(labels(facts)), ..ObjectMeta::default() },
        spec: Some(Default::default()),
        status: Some(status(facts, pressure, &[], now)),
    }
}

/// The node's status. A condition whose status has not changed keeps its transition time.
pub fn status(facts: &Facts, pressure: Pressure, before: &[NodeCondition], now: Timestamp) -> NodeStatus {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", facts.address.to_string()),
            address("Hostname", facts.name.clone()),
        ]),
        capacity: Some(resources(facts.capacity)),
        allocatable: Some(resources(allocatable(facts.capacity))),
        conditions: Some(conditions(pressure, before, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(facts.port) }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: facts.machine.architecture.to_owned(),
            boot_id: facts.machine.boot_id.clone(),
            container_runtime_version: facts.engine.runtime.clone(),
            kernel_version: facts.engine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: concat!("v1.35.0+chorus-", env!("CARGO_PKG_VERSION")).to_owned(),
            machine_id: facts.machine.id.clone(),
            operating_system: "linux".to_owned(),
            os_image: facts.engine.os_image.clone(),
            system_uuid: facts.machine.id.clone(),
            swap: None,
        }),
        ..NodeStatus::default()
    }
}

fn conditions(pressure: Pressure, before: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let pressures = [
        ("MemoryPressure", pressure.memory, ["KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"], "memory"),
        ("DiskPressure", pressure.disk, ["KubeletHasDiskPressure", "KubeletHasNoDiskPressure"], "disk"),
        ("PIDPressure", pressure.pids, ["KubeletHasInsufficientPID", "KubeletHasSufficientPID"], "PID"),
    ];
    let mut all: Vec<_> = pressures
        .into_iter()
        .map(|(kind, holds, [bad, good], what)| {
            let message = match (holds, what) {
                (true, "disk") => "kubelet has disk pressure".to_owned(),
                (false, "disk") => "kubelet has no disk pressure".to_owned(),
                (true, what) => format!("kubelet has insufficient {what} available"),
                (false, what) => format!("kubelet has sufficient {what} available"),
            };
            (kind, holds, if holds { bad } else { good }, message)
        })
        .collect();
    all.push(("Ready", true, "KubeletReady", "kubelet is posting ready status".to_owned()));
    all.into_iter()
        .map(|(kind, holds, reason, message)| {
            let status = if holds { "True" } else { "False" };
            let same = before.iter().find(|condition| condition.type_ == kind && condition.status == status);
            let since = same.and_then(|condition| condition.last_transition_time.clone());
            NodeCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: Some(since.unwrap_or(Time(now))),
            }
        })
        .collect()
}

/// Whether `reported` equals `status`, but for the time of the last heartbeat.
pub fn is_known(reported: &NodeStatus, status: &NodeStatus) -> bool {
    let statuses = |status: &NodeStatus| -> BTreeMap<String, String> {
        let conditions = status.conditions.iter().flatten();
        conditions.map(|condition| (condition.type_.clone(), condition.status.clone())).collect()
    };
    let wanted = statuses(status);
    statuses(reported).into_iter().filter(|(kind, _)| wanted.contains_key(kind)).eq(wanted.clone())
        && reported.capacity == status.capacity
        && reported.allocatable == status.allocatable
        && reported.addresses == status.addresses
        && reported.daemon_endpoints == status.daemon_endpoints
        && reported.node_info == status.node_info
}

/// The node's Lease, renewed now.
pub fn lease(facts: &Facts, node_uid: &str, before: Option<Lease>, now: Timestamp) -> Lease {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: facts.name.clone(),
        uid: node_uid.to_owned(),
        ..OwnerReference::default()
    };
    let metadata = before.map_or_else(
        || ObjectMeta {
            name: Some(facts.name.clone()),
            namespace: Some(LEASE_NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        |lease| lease.metadata,
    );
    Lease {
        metadata: ObjectMeta { owner_references: Some(vec![owner]), ..metadata },
        spec: Some(LeaseSpec {
            holder_identity: Some(facts.name.clone()),
            lease_duration_seconds: i32::try_from(facts.lease_duration.as_secs()).ok(),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            name: "n1".into(),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            address: "127.0.0.1".parse().unwrap(),
            port: 10250,
            capacity: Capacity { cpu_millis: 2666, memory_bytes: 8 << 30, storage_bytes: 100 << 30, pods: 110 },
            machine: Machine { architecture: "amd64", ..Machine::default() },
            engine: EngineVersion { runtime: "docker://1".into(), kernel: "6".into(), os_image: "os".into() },
            lease_duration: Duration::from_secs(40),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_node_registers_with_labels_capacity_and_conditions() {
        let node = node(&facts(), Pressure::default(), at(1));
        let labels = node.metadata.labels.unwrap();
        assert_eq!((labels["kubernetes.io/hostname"].as_str(), labels["zone"].as_str()), ("n1", "a"));
        let status = node.status.unwrap();
        let capacity = status.capacity.unwrap();
        assert_eq!((capacity["cpu"].0.as_str(), capacity["memory"].0.as_str()), ("2666m", "8Gi"));
        assert_eq!(status.allocatable.unwrap()["memory"].0, "8092Mi");
        let conditions = status.conditions.unwrap();
        let brief: Vec<_> = conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect();
        assert_eq!(
            brief,
            [("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"), ("Ready", "True")]
        );
    }

    #[test]
    fn transition_times_move_only_with_the_verdict() {
        let first = status(&facts(), Pressure::default(), &[], at(1));
        let before = first.conditions.clone().unwrap();
        let later = status(&facts(), Pressure { disk: true, ..Pressure::default() }, &before, at(9));
        let since: Vec<_> = later
            .conditions
            .iter()
            .flatten()
            .map(|condition| condition.last_transition_time.as_ref().unwrap().0.as_second())
            .collect();
        assert_eq!(since, [1, 9, 1, 1]);
        assert!(!is_known(&first, &later));
        assert!(is_known(&first, &status(&facts(), Pressure::default(), &before, at(9))));
    }

    #[test]
    fn a_node_that_was_declared_lost_is_not_known() {
        let mut reported = status(&facts(), Pressure::default(), &[], at(1));
        reported.conditions.as_mut().unwrap()[3].status = "Unknown".into();
        assert!(!is_known(&reported, &status(&facts(), Pressure::default(), &[], at(1))));
    }
}
