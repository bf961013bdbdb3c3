//! When the present leader was elected, as this member saw it: a request that began shortly before and timed out most
//! likely did so because the previous leader failed.

use std::sync::{Arc, Mutex, PoisonError};

use super::member_state::MemberState;
use crate::actor::Shutdown;
use crate::raft;
use crate::world::{Instant, World};

/// When this member first saw the present leader. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct LeadElectedTime(Arc<Mutex<Option<Instant>>>);

impl LeadElectedTime {
    /// Follows leadership until the end of the node.
    pub fn follow(
        world: &World,
        raft: &raft::Handle,
        member: &Arc<MemberState>,
        shutdown: &Shutdown,
    ) -> LeadElectedTime {
        let (elected, member) = (LeadElectedTime::default(), member.clone());
        let (seen, clock, mut leadership, end) =
            (elected.clone(), world.clock.clone(), raft.leadership(), shutdown.wait());
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
        elected
    }

    fn set(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    pub fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
