//! Who leads.

use openraft::ServerState;
use openraft::metrics::RaftServerMetrics;

use super::types::Types;
use crate::world::{NodeId, Term};

/// Who leads, as far as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub leader: Option<NodeId>,
    pub term: Term,
    /// This member leads. Another one may have taken over without this one knowing; the log decides.
    pub is_leader: bool,
}

impl Leadership {
    /// As openraft's metrics have it.
    pub(super) fn of(metrics: &RaftServerMetrics<Types>) -> Leadership {
        Leadership {
            leader: metrics.current_leader.map(NodeId),
            term: Term(metrics.vote.leader_id.term),
            is_leader: metrics.state == ServerState::Leader,
        }
    }
}
