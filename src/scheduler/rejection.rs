//! Why a node can't take a pod, in upstream's words, and which filter said so.

use std::borrow::Cow;
use std::fmt;

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
    pub fn of(filter: Filter, reason: Reason, resolvable: bool) -> Rejection {
        Rejection { filter, reasons: vec![reason], resolvable }
    }
}
