//! Why no node could take a pod, in the words that users and test suites know.

use std::collections::BTreeMap;
use std::fmt;

use super::rejection::{Filters, Reason, Rejection};

/// Which filter rejected each node, and why.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    /// The node's index in the cache, and why it was rejected.
    pub rejections: Vec<(usize, Rejection)>,
    /// The nodes that were checked.
    pub nodes_total: usize,
    /// Why preemption did not help, if it was tried.
    pub preemption: Option<Preemption>,
}

#[derive(Clone, Debug)]
pub enum Preemption {
    /// Why each node does not help.
    Unhelpful(Vec<Vec<Reason>>),
    NotEligible(&'static str),
}

impl Diagnosis {
    /// The filters that rejected some node.
    pub fn filters(&self) -> Filters {
        let mut filters = Filters::default();
        self.rejections.iter().for_each(|(_, rejection)| filters.insert(rejection.filter));
        filters
    }

    pub fn reject(&mut self, index: usize, rejection: Rejection) {
        self.rejections.push((index, rejection));
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes_total == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write_histogram(f, self.nodes_total, self.rejections.iter().map(|(_, rejection)| &rejection.reasons))?;
        match &self.preemption {
            None => Ok(()),
            Some(Preemption::NotEligible(why)) => write!(f, " preemption: {why}"),
            Some(Preemption::Unhelpful(nodes)) => {
                f.write_str(" preemption: ")?;
                write_histogram(f, self.nodes_total, nodes.iter())
            }
        }
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.`
fn write_histogram<'a>(
    f: &mut fmt::Formatter<'_>,
    nodes_total: usize,
    nodes: impl Iterator<Item = &'a Vec<Reason>>,
) -> fmt::Result {
    let mut counts: BTreeMap<&Reason, usize> = BTreeMap::new();
    nodes.flatten().for_each(|reason| *counts.entry(reason).or_default() += 1);
    // Sorted as text, count first, as upstream does.
    let mut lines: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    lines.sort();
    write!(f, "0/{nodes_total} nodes are available: {}.", lines.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::rejection::Filter;
    use super::*;

    fn rejected(reasons: &[Reason]) -> Rejection {
        Rejection { filter: Filter::NodeResourcesFit, reasons: reasons.to_vec(), resolvable: true }
    }

    #[test]
    fn refusals_read_as_upstream_writes_them() {
        let memory = || Reason::Insufficient("memory".into());
        let three = |reasons: [&[Reason]; 3], preemption| {
            let rejections = reasons.into_iter().map(rejected).enumerate().collect();
            Diagnosis { rejections, nodes_total: 3, preemption }.to_string()
        };
        assert_eq!(Diagnosis::default().to_string(), "no nodes available to schedule pods");
        assert_eq!(
            three([&[memory()], &[memory()], &[memory()]], None),
            "0/3 nodes are available: 3 Insufficient memory."
        );
        assert_eq!(
            three(
                [&[Reason::Insufficient("cpu".into()), memory()], &[memory()], &[Reason::UntoleratedTaint]],
                Some(Preemption::Unhelpful(vec![
                    vec![Reason::NoVictims],
                    vec![Reason::NoVictims],
                    vec![Reason::PreemptionUnhelpful]
                ]))
            ),
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 2 Insufficient memory. \
             preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, \
             2 No preemption victims found for incoming pod."
        );
        assert_eq!(
            three(
                [&[memory()], &[memory()], &[memory()]],
                Some(Preemption::NotEligible("not eligible due to preemptionPolicy=Never."))
            ),
            "0/3 nodes are available: 3 Insufficient memory. preemption: not eligible due to preemptionPolicy=Never."
        );
    }
}
