//! What a running replica shows of itself, under etcd's names.

use std::sync::Arc;

use super::context::ReplicaContext;
use super::read_gate::ReadGate;
use crate::actor::metrics::{Exposition, Source};
use crate::disk::LogHandle;

/// The metrics of a running replica and its log.
pub(super) struct Exposed {
    pub context: ReplicaContext,
    pub log: LogHandle,
    pub read_gate: Arc<ReadGate>,
}

impl Source for Exposed {
    fn expose(&self, text: &mut Exposition) {
        self.log.metrics().expose(text);
        let short = i64::from(self.context.space.is_short());
        text.gauge("chorus_disk_short_of_space", "Whether the log or the data has no disk space ahead.", short);
        let reads = self.read_gate.waiting();
        text.gauge("chorus_reads_waiting", "Linearizable reads that wait for their read index.", reads);
        self.members(text);
        self.context.peers.metrics.expose(text);
    }
}

impl Exposed {
    fn members(&self, text: &mut Exposition) {
        let node = self.context.node;
        let local = node.to_string();
        let members = self.context.members();
        let name = "etcd_network_known_peers";
        text.family(name, "gauge", "Members of the cluster.");
        for member in &members {
            text.sample(name, &[("Local", &local), ("Remote", &member.id.to_string())], 1);
        }
        let others: Vec<_> = members.iter().filter(|member| member.id != node).collect();
        if others.is_empty() {
            return;
        }
        let name = "etcd_network_active_peers";
        text.family(name, "gauge", "Whether another member can be reached.");
        for member in others {
            let active = self.context.membership_view.is_active(member.id.0);
            text.sample(name, &[("Local", &local), ("Remote", &member.id.to_string())], i32::from(active));
        }
    }
}
