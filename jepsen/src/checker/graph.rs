//! Dependencies between transactions, and the cycles that no serial order explains.
//!
//! A cycle is named by its edges, after Adya: `G0` of writes alone, `G1c` with reads of what was written, `G-single`
//! with one read of what was overwritten, `G2` with several. `-realtime` says that it needs the order of real time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Anomaly;
use crate::history::Operation;

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edge {
    /// It wrote what the other one overwrote.
    Ww,
    /// It wrote what the other one read.
    Wr,
    /// It read what the other one overwrote.
    Rw,
    /// It ended before the other one began.
    Realtime,
}

/// A graph over operations. Further nodes, beyond the operations, stand for moments.
pub struct Graph {
    operations: usize,
    edges: Vec<BTreeMap<usize, (Edge, String)>>,
}

impl Graph {
    pub fn new(operations: usize) -> Graph {
        Graph { operations, edges: vec![BTreeMap::new(); operations] }
    }

    /// `from` comes before `to`, because. Of several reasons the one that says most about data is kept.
    pub fn add(&mut self, from: usize, to: usize, edge: Edge, because: impl FnOnce() -> String) {
        if from == to {
            return;
        }
        let known = self.edges[from].get(&to);
        if known.is_none_or(|(known, _)| edge < *known) {
            self.edges[from].insert(to, (edge, because()));
        }
    }

    /// What ended before something began comes before it. A chain of moments stands between them, so that the edges
    /// are as many as the operations, not their square.
    pub fn add_realtime(&mut self, operations: &[Operation<'_>]) {
        let mut points: Vec<(u64, bool, usize)> = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            points.push((operation.invoked.time, true, at));
            if operation.ended() != u64::MAX {
                points.push((operation.ended(), false, at));
            }
        }
        // At the same time nothing is known: starts come first.
        points.sort_by_key(|&(time, starts, at)| (time, !starts, at));
        let mut moment: Option<usize> = None;
        for (_, starts, at) in points {
            if starts {
                if let Some(moment) = moment {
                    self.edges[moment].insert(at, (Edge::Realtime, String::new()));
                }
                continue;
            }
            let next = self.edges.len();
            self.edges.push(BTreeMap::new());
            self.edges[at].insert(next, (Edge::Realtime, String::new()));
            if let Some(moment) = moment {
                self.edges[moment].insert(next, (Edge::Realtime, String::new()));
            }
            moment = Some(next);
        }
    }

    /// One smallest cycle of each strongly connected component, worst kind first.
    pub fn anomalies(&self, operations: &[Operation<'_>]) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for kinds in [
            &[Edge::Ww][..],
            &[Edge::Ww, Edge::Wr],
            &[Edge::Ww, Edge::Wr, Edge::Rw],
            &[Edge::Ww, Edge::Realtime],
            &[Edge::Ww, Edge::Wr, Edge::Realtime],
            &[Edge::Ww, Edge::Wr, Edge::Rw, Edge::Realtime],
        ] {
            for component in self.components(kinds) {
                if let Some(cycle) = self.smallest_cycle(&component, kinds) {
                    found.push(self.describe(&cycle, operations));
                }
            }
            // What fewer kinds of edges show needs no further proof.
            if !found.is_empty() {
                break;
            }
        }
        found
    }

    fn successors<'a>(&'a self, from: usize, kinds: &'a [Edge]) -> impl Iterator<Item = usize> + 'a {
        self.edges[from].iter().filter(|(_, (edge, _))| kinds.contains(edge)).map(|(&to, _)| to)
    }

    /// The strongly connected components of more than one node, by Tarjan's algorithm without recursion.
    fn components(&self, kinds: &[Edge]) -> Vec<BTreeSet<usize>> {
        const UNSEEN: usize = usize::MAX;
        let count = self.edges.len();
        let (mut index, mut low, mut on_stack) = (vec![UNSEEN; count], vec![0; count], vec![false; count]);
        let (mut stack, mut components, mut next) = (Vec::new(), Vec::new(), 0);
        for root in 0..count {
            if index[root] != UNSEEN {
                continue;
            }
            let mut work = vec![(root, self.successors(root, kinds).collect::<Vec<_>>().into_iter())];
            (index[root], low[root], on_stack[root]) = (next, next, true);
            stack.push(root);
            next += 1;
            while let Some((node, successors)) = work.last_mut() {
                let node = *node;
                if let Some(to) = successors.next() {
                    if index[to] == UNSEEN {
                        (index[to], low[to], on_stack[to]) = (next, next, true);
                        stack.push(to);
                        next += 1;
                        work.push((to, self.successors(to, kinds).collect::<Vec<_>>().into_iter()));
                    } else if on_stack[to] {
                        low[node] = low[node].min(index[to]);
                    }
                    continue;
                }
                work.pop();
                if let Some((parent, _)) = work.last() {
                    low[*parent] = low[*parent].min(low[node]);
                }
                if low[node] == index[node] {
                    let mut component = BTreeSet::new();
                    while let Some(member) = stack.pop() {
                        on_stack[member] = false;
                        component.insert(member);
                        if member == node {
                            break;
                        }
                    }
                    if component.len() > 1 {
                        components.push(component);
                    }
                }
            }
        }
        components
    }

    /// A cycle of as few operations as possible inside `component`.
    fn smallest_cycle(&self, component: &BTreeSet<usize>, kinds: &[Edge]) -> Option<Vec<usize>> {
        let starts = component.iter().copied().filter(|&node| node < self.operations);
        // A breadth-first search from each is quadratic; a component is small unless everything is wrong.
        starts.take(512).filter_map(|start| self.cycle_through(start, component, kinds)).min_by_key(Vec::len)
    }

    fn cycle_through(&self, start: usize, component: &BTreeSet<usize>, kinds: &[Edge]) -> Option<Vec<usize>> {
        let mut came_from = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for to in self.successors(node, kinds).filter(|to| component.contains(to)) {
                if to == start {
                    let mut cycle = vec![node];
                    while let Some(&before) = came_from.get(cycle.last().expect("it has one")) {
                        cycle.push(before);
                    }
                    cycle.reverse();
                    return Some(cycle);
                }
                if to != start && !came_from.contains_key(&to) {
                    came_from.insert(to, node);
                    // A moment costs nothing: what counts are the operations on the way.
                    if to < self.operations { queue.push_back(to) } else { queue.push_front(to) }
                }
            }
        }
        None
    }

    fn describe(&self, cycle: &[usize], operations: &[Operation<'_>]) -> Anomaly {
        let mut kinds = Vec::new();
        let (mut events, mut because) = (Vec::new(), Vec::new());
        for (at, &from) in cycle.iter().enumerate() {
            let to = cycle[(at + 1) % cycle.len()];
            let (edge, why) = &self.edges[from][&to];
            if from >= self.operations {
                continue;
            }
            kinds.push(*edge);
            events.push(operations[from].invoked.index);
            because.push(match edge {
                Edge::Realtime => "it ended before the next one began".to_owned(),
                _ => why.clone(),
            });
        }
        let name = name(&kinds);
        let what = format!("{} transactions precede each other in a circle", events.len());
        Anomaly { name, what, events, because }
    }
}

fn name(kinds: &[Edge]) -> String {
    let reads_old = kinds.iter().filter(|edge| **edge == Edge::Rw).count();
    let base = match reads_old {
        0 if kinds.contains(&Edge::Wr) => "G1c",
        0 => "G0",
        1 => "G-single",
        _ => "G2",
    };
    let suffix = if kinds.contains(&Edge::Realtime) { "-realtime" } else { "" };
    format!("{base}{suffix}")
}
