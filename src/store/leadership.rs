//! When the leader that this member knows came to lead: it tells why a request timed out.

use std::sync::{Arc, Mutex, PoisonError};

use super::member_state::MemberState;
use crate::actor::Shutdown;
use crate::raft;
use crate::world::{Instant, World};

/// When the present leader was first seen. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Leader(Arc<Mutex<Option<Instant>>>);

impl Leader {
    /// Follows leadership until the end of the node.
    pub fn follow(world: &World, raft: &raft::Handle, member: &Arc<MemberState>, shutdown: &Shutdown) -> Leader {
        let (leader, member) = (Leader::default(), member.clone());
        let (seen, clock, mut leadership, end) =
            (leader.clone(), world.clock.clone(), raft.leadership(), shutdown.wait());
        world.spawner.keep("store/leadership", async move {
            let follow = async {
                let mut last = None;
                loop {
                    let now = leadership.borrow_and_update().leader;
                    if now.is_some() && now != last {
                        seen.set(clock.now());
                        member.metrics.leader_changes.inc();
                        last = now;
                    }
                    if leadership.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = follow => {}
                () = end => {}
            }
        });
        leader
    }

    fn set(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    pub fn elected(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
