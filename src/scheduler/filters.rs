//! Which nodes can take a pod: upstream's filters, in upstream's order.

use std::borrow::Cow;

use super::node::{NodeInfo, NodeObject, UNSCHEDULABLE_TAINT};
use super::pod::PodInfo;
use super::rejection::{Filter, Reason, Rejection};
use super::terms;
use super::topology::Topology;

/// Whether `node` can take `pod`. The first filter that rejects it gives the reason.
pub fn check(pod: &PodInfo, node: &NodeInfo, topology: &Topology) -> Result<(), Rejection> {
    check_node(pod, node)?;
    topology.check(pod, node)
}

/// Whether `node` can take `pod`, apart from where other pods run.
pub fn check_node(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    let Some(object) = &node.object else { return Err(Rejection::of(Filter::NodeAffinity, Reason::NodeName, false)) };
    node_unschedulable(pod, object)?;
    taint_toleration(pod, object)?;
    if !pod.matches_node(&node.name, &object.labels) {
        return Err(Rejection::of(Filter::NodeAffinity, Reason::NodeAffinity, false));
    }
    if pod.ports.iter().any(|port| node.ports.keys().any(|used| used.collides(port))) {
        return Err(Rejection::of(Filter::NodePorts, Reason::NodePorts, true));
    }
    node_resources_fit(pod, node, object)
}

fn node_unschedulable(pod: &PodInfo, object: &NodeObject) -> Result<(), Rejection> {
    if !object.unschedulable {
        return Ok(());
    }
    let taint = k8s_openapi::api::core::v1::Taint {
        key: UNSCHEDULABLE_TAINT.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Default::default()
    };
    let tolerated = terms::tolerated(&pod.tolerations, &taint);
    if tolerated { Ok(()) } else { Err(Rejection::of(Filter::NodeUnschedulable, Reason::NodeUnschedulable, false)) }
}

fn taint_toleration(pod: &PodInfo, object: &NodeObject) -> Result<(), Rejection> {
    let tolerated = terms::all_tolerated(&pod.tolerations, &object.taints);
    if tolerated { Ok(()) } else { Err(Rejection::of(Filter::TaintToleration, Reason::UntoleratedTaint, false)) }
}

/// The node's resources have to hold the pod beside those that are there, and those nominated to it whose priority is
/// not lower.
fn node_resources_fit(pod: &PodInfo, node: &NodeInfo, object: &NodeObject) -> Result<(), Rejection> {
    let wants = &pod.requests.fit;
    let reserved = || node.nominated.iter().filter(|other| other.priority >= pod.priority && other.uid != pod.uid);
    let (mut reasons, mut resolvable) = (Vec::new(), true);
    if node.pods.len() as i64 + reserved().count() as i64 + 1 > object.pods_max {
        reasons.push(Reason::TooManyPods);
    }
    let mut compare = |name: &'static str, wanted: i64, has: i64, used: i64| {
        if wanted > 0 && wanted > has - used {
            reasons.push(Reason::Insufficient(Cow::Borrowed(name)));
            resolvable &= wanted <= has;
        }
    };
    let sum = |used: i64, of: fn(&PodInfo) -> i64| used + reserved().map(|pod| of(pod)).sum::<i64>();
    let (has, used) = (&object.allocatable, &node.requested);
    compare("cpu", wants.milli_cpu, has.milli_cpu, sum(used.milli_cpu, |pod| pod.requests.fit.milli_cpu));
    compare("memory", wants.memory, has.memory, sum(used.memory, |pod| pod.requests.fit.memory));
    compare(
        "ephemeral-storage",
        wants.ephemeral_storage,
        has.ephemeral_storage,
        sum(used.ephemeral_storage, |pod| pod.requests.fit.ephemeral_storage),
    );
    for (name, wanted) in wants.extended.iter().filter(|(_, wanted)| **wanted > 0) {
        let amount = |of: &std::collections::BTreeMap<String, i64>| of.get(name).copied().unwrap_or(0);
        let used = amount(&used.extended) + reserved().map(|pod| amount(&pod.requests.fit.extended)).sum::<i64>();
        if *wanted > amount(&has.extended) - used {
            reasons.push(Reason::Insufficient(Cow::Owned(name.clone())));
            resolvable &= *wanted <= amount(&has.extended);
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(Rejection { filter: Filter::NodeResourcesFit, reasons, resolvable }) }
}
