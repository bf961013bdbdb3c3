//! Why a node can't take a pod, in upstream's words, and which filter rejected it.

use std::borrow::Cow;
use std::fmt;

/// Why a node can't take a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    NodeUnschedulable,
    NodeName,
    UntoleratedTaint,
    NodeAffinity,
    NodePorts,
    TooManyPods,
    Insufficient(Cow<'static, str>),
    MissingTopologyLabel,
    PodTopologySpread,
    PodAffinity,
    PodAntiAffinity,
    ExistingPodAntiAffinity,
    NoVictims,
    PreemptionUnhelpful,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NodeUnschedulable => "node(s) were unschedulable",
            Reason::NodeName => "node(s) didn't match the requested node name",
            Reason::UntoleratedTaint => "node(s) had untolerated taint(s)",
            Reason::NodeAffinity => "node(s) didn't match Pod's node affinity/selector",
            Reason::NodePorts => "node(s) didn't have free ports for the requested pod ports",
            Reason::TooManyPods => "Too many pods",
            Reason::Insufficient(resource) => return write!(f, "Insufficient {resource}"),
            Reason::MissingTopologyLabel => {
                "node(s) didn't match pod topology spread constraints (missing required label)"
            }
            Reason::PodTopologySpread => "node(s) didn't match pod topology spread constraints",
            Reason::PodAffinity => "node(s) didn't match pod affinity rules",
            Reason::PodAntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Reason::ExistingPodAntiAffinity => "node(s) didn't satisfy existing pods anti-affinity rules",
            Reason::NoVictims => "No preemption victims found for incoming pod",
            Reason::PreemptionUnhelpful => "Preemption is not helpful for scheduling",
        })
    }
}

/// A filter, by the name of upstream's plugin: it tells which changes of the cluster may help a pod that it rejected.
/// The two halves of InterPodAffinity are told apart, since other changes help against each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Filter {
    NodeUnschedulable,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    PodTopologySpread,
    InterPodAffinity,
    InterPodAntiAffinity,
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

    /// Whether the pod depends on where other pods run, and not on one node alone.
    pub fn depends_on_other_pods(self) -> bool {
        [Filter::PodTopologySpread, Filter::InterPodAffinity, Filter::InterPodAntiAffinity]
            .into_iter()
            .any(|filter| self.contains(filter))
    }
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filters({:#b})", self.0)
    }
}

/// A node rejected, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    pub filter: Filter,
    pub reasons: Vec<Reason>,
    /// Whether removing pods from the node could help.
    pub resolvable: bool,
}

impl Rejection {
    pub fn of(filter: Filter, reason: Reason, resolvable: bool) -> Rejection {
        Rejection { filter, reasons: vec![reason], resolvable }
    }
}
