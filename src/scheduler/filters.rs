//! Which nodes can take a pod, and in upstream's words why the others can't.

use std::borrow::Cow;
use std::fmt;

use super::node::{NodeInfo, Offer, UNSCHEDULABLE_TAINT};
use super::pod::PodInfo;
use super::terms;
use super::topology::Topology;

/// Why a node can't take a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Unschedulable,
    NodeName,
    Taint,
    NodeAffinity,
    Ports,
    TooManyPods,
    Insufficient(Cow<'static, str>),
    SpreadLabel,
    Spread,
    PodAffinity,
    AntiAffinity,
    ExistingAntiAffinity,
    NoVictims,
    PreemptionUnhelpful,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Unschedulable => "node(s) were unschedulable",
            Reason::NodeName => "node(s) didn't match the requested node name",
            Reason::Taint => "node(s) had untolerated taint(s)",
            Reason::NodeAffinity => "node(s) didn't match Pod's node affinity/selector",
            Reason::Ports => "node(s) didn't have free ports for the requested pod ports",
            Reason::TooManyPods => "Too many pods",
            Reason::Insufficient(resource) => return write!(f, "Insufficient {resource}"),
            Reason::SpreadLabel => "node(s) didn't match pod topology spread constraints (missing required label)",
            Reason::Spread => "node(s) didn't match pod topology spread constraints",
            Reason::PodAffinity => "node(s) didn't match pod affinity rules",
            Reason::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Reason::ExistingAntiAffinity => "node(s) didn't satisfy existing pods anti-affinity rules",
            Reason::NoVictims => "No preemption victims found for incoming pod",
            Reason::PreemptionUnhelpful => "Preemption is not helpful for scheduling",
        })
    }
}

/// A filter, for telling which changes of the cluster may help a pod it rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Filter {
    Unschedulable,
    Taint,
    NodeAffinity,
    Ports,
    Fit,
    Spread,
    PodAffinity,
    AntiAffinity,
}

/// A set of filters.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Filters(u8);

impl Filters {
    pub fn insert(&mut self, filter: Filter) {
        self.0 |= 1 << filter as u8;
    }

    pub fn contains(self, filter: Filter) -> bool {
        self.0 & (1 << filter as u8) != 0
    }

    /// Whether the pod depends on where other pods are, and not on one node alone.
    pub fn look_elsewhere(self) -> bool {
        [Filter::Spread, Filter::PodAffinity, Filter::AntiAffinity].into_iter().any(|filter| self.contains(filter))
    }
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filters({:#b})", self.0)
    }
}

/// A node's refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    pub filter: Filter,
    pub reasons: Vec<Reason>,
    /// Whether removing pods from the node could help.
    pub resolvable: bool,
}

impl Rejection {
    fn of(filter: Filter, reason: Reason, resolvable: bool) -> Rejection {
        Rejection { filter, reasons: vec![reason], resolvable }
    }
}

/// Whether `node` can take `pod`, all things considered. The first filter that rejects it speaks, as upstream.
pub fn check(pod: &PodInfo, node: &NodeInfo, topology: &Topology) -> Result<(), Rejection> {
    check_node(pod, node)?;
    topology.check(pod, node)
}

/// Whether `node`, taken by itself, can take `pod`.
pub fn check_node(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    let Some(offer) = &node.offer else { return Err(Rejection::of(Filter::NodeAffinity, Reason::NodeName, false)) };
    check_unschedulable(pod, offer)?;
    check_taints(pod, offer)?;
    if !pod.bears_node(&node.name, &offer.labels) {
        return Err(Rejection::of(Filter::NodeAffinity, Reason::NodeAffinity, false));
    }
    if pod.ports.iter().any(|port| node.ports.keys().any(|used| used.collides(port))) {
        return Err(Rejection::of(Filter::Ports, Reason::Ports, true));
    }
    check_fit(pod, node, offer)
}

fn check_unschedulable(pod: &PodInfo, offer: &Offer) -> Result<(), Rejection> {
    if !offer.unschedulable {
        return Ok(());
    }
    let taint = k8s_openapi::api::core::v1::Taint {
        key: UNSCHEDULABLE_TAINT.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Default::default()
    };
    let tolerated = terms::tolerated(&pod.tolerations, &taint);
    if tolerated { Ok(()) } else { Err(Rejection::of(Filter::Unschedulable, Reason::Unschedulable, false)) }
}

fn check_taints(pod: &PodInfo, offer: &Offer) -> Result<(), Rejection> {
    let tolerated = tolerates_all(pod, offer);
    if tolerated { Ok(()) } else { Err(Rejection::of(Filter::Taint, Reason::Taint, false)) }
}

/// Whether the pod tolerates all taints that keep pods away.
pub fn tolerates_all(pod: &PodInfo, offer: &Offer) -> bool {
    let mut keeping_away = offer.taints.iter().filter(|taint| taint.effect != "PreferNoSchedule");
    keeping_away.all(|taint| terms::tolerated(&pod.tolerations, taint))
}

/// Room for the pod beside those that are there and those of at least its priority that are about to be.
fn check_fit(pod: &PodInfo, node: &NodeInfo, offer: &Offer) -> Result<(), Rejection> {
    let wants = &pod.requests.fit;
    let reserved = || node.nominated.iter().filter(|other| other.priority >= pod.priority && other.uid != pod.uid);
    let (mut reasons, mut resolvable) = (Vec::new(), true);
    if node.pods.len() as i64 + reserved().count() as i64 + 1 > offer.pods_max {
        reasons.push(Reason::TooManyPods);
    }
    let mut compare = |name: &'static str, wanted: i64, has: i64, used: i64| {
        if wanted > 0 && wanted > has - used {
            reasons.push(Reason::Insufficient(Cow::Borrowed(name)));
            resolvable &= wanted <= has;
        }
    };
    let sum = |used: i64, of: fn(&PodInfo) -> i64| used + reserved().map(|pod| of(pod)).sum::<i64>();
    let (has, used) = (&offer.allocatable, &node.requested);
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
    if reasons.is_empty() { Ok(()) } else { Err(Rejection { filter: Filter::Fit, reasons, resolvable }) }
}
