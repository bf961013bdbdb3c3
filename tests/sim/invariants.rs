//! What must hold between members after every step.

use std::collections::BTreeMap;

use chorus::raft::Status;
use chorus::world::{NodeId, Term};

use crate::history::History;
use crate::hosts::Hosts;

/// What was seen of the members so far.
pub struct Invariants {
    history: History,
    leaders: BTreeMap<Term, NodeId>,
    /// The last status of each start of each member.
    seen: BTreeMap<(String, u64), Status>,
}

impl Invariants {
    pub fn new(history: History) -> Invariants {
        Invariants { history, leaders: BTreeMap::new(), seen: BTreeMap::new() }
    }

    pub fn look(&mut self, hosts: &Hosts<'_>) {
        for (name, seat) in &hosts.seats {
            let (starts, running) = {
                let state = seat.state();
                (state.starts, state.running.clone())
            };
            let Some(running) = running else { continue };
            let known = *running.replica.leadership().borrow();
            if known.is_leader {
                self.leads(name, known.term, running.node);
            }
            self.goes_forward(name, starts, running.replica.status());
        }
    }

    fn leads(&mut self, name: &str, term: Term, node: NodeId) {
        let leader = *self.leaders.entry(term).or_insert_with(|| {
            self.history.note(format_args!("{name} leads in {term:?}"));
            self.history.count("leaders");
            node
        });
        assert_eq!(leader, node, "two members lead in {term:?}");
    }

    fn goes_forward(&mut self, name: &str, starts: u64, now: Status) {
        let before = self.seen.insert((name.to_owned(), starts), now).unwrap_or_default();
        let forward = now.term >= before.term && now.applied >= before.applied && now.committed >= before.committed;
        assert!(forward, "{name} went back from {before:?} to {now:?}");
        assert!(now.applied <= now.committed, "{name} applied more than was committed: {now:?}");
    }
}
