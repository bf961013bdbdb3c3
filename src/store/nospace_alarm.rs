//! The NOSPACE alarm, which stops the whole cluster from growing once a write would take a member's store over its
//! quota.
//!
//! ```text
//!   write ──reserve──▶ over? ──▶ alarm through the log, refused        (before it is proposed)
//!   apply ──overdraws─▶ applied all the same; alarm through the log, refusal to its client   (another member's quota)
//!   disks of the leader, of a quorum or of this member are short ──▶ refused, as long as they are; no alarm
//!   with auto-disarm:  alarm of this member, size well below ──▶ disarmed through the log
//! ```

use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::alarm_request::AlarmAction;

use super::proposals::Proposals;
use super::{Config, Error};
use crate::actor::Shutdown;
use crate::world::World;

/// How often a member whose alarm is raised checks whether it has space again.
const DISARM_INTERVAL: Duration = Duration::from_millis(500);

/// Raises and disarms the alarm by the quota, until the end of the node.
pub fn watch(world: &World, config: &Config, proposals: &Proposals, shutdown: &Shutdown) {
    let (told, end) = (proposals.clone(), shutdown.clone());
    world.spawner.keep("store/quota", async move {
        tokio::select! {
            () = told.tell_overdrawn() => {}
            () = end.wait() => {}
        }
    });
    if let (true, Some(quota)) = (config.auto_disarm_no_space, config.limits.quota_bytes) {
        let (disarms, clock, end) = (proposals.clone(), world.clock.clone(), shutdown.clone());
        world.spawner.keep("store/disarm", async move {
            loop {
                tokio::select! {
                    () = clock.sleep(DISARM_INTERVAL) => disarms.disarm_when_roomy(quota).await,
                    () = end.wait() => return,
                }
            }
        });
    }
}

impl Proposals {
    /// Refuses a write for which the disks have no room. Refuses one that would take the store over the quota, too, and
    /// raises the alarm.
    pub async fn reserve(&self, cost: u64) -> Result<(), Error> {
        let member = self.member();
        if cost > 0 && self.raft().is_full() {
            return Err(Error::NoSpace);
        }
        if member.quota.admits(member.size(), cost) {
            return Ok(());
        }
        self.no_space(AlarmAction::Activate).await;
        Err(Error::NoSpace)
    }

    /// Tries to raise or disarm this member's alarm.
    async fn no_space(&self, action: AlarmAction) {
        let kind = pb::AlarmType::Nospace as i32;
        let raised = self.member().view().state.alarms.contains(&(self.node().0, kind));
        if raised == (action == AlarmAction::Activate) {
            return;
        }
        let alarm = pb::AlarmRequest { action: action as i32, member_id: self.node().0, alarm: kind };
        if let Err(error) = self.propose(pb::InternalRaftRequest { alarm: Some(alarm), ..Default::default() }).await {
            tracing::warn!(%error, ?action, "failed to change the NOSPACE alarm of this member");
        }
    }

    async fn tell_overdrawn(&self) {
        let member = self.member();
        loop {
            let waiting = member.quota.overdrawn().await;
            tracing::warn!("quota-size-bytes" = member.quota.bytes, "message exceeded backend quota; raising alarm");
            self.no_space(AlarmAction::Activate).await;
            member.waiting.answer_all(waiting.into_iter().map(|id| (id, Err(Error::NoSpace))));
        }
    }

    /// A tenth of the quota must be free, so that the next few writes do not raise the alarm again.
    async fn disarm_when_roomy(&self, quota: u64) {
        if self.member().size() < quota / 10 * 9 {
            self.no_space(AlarmAction::Deactivate).await;
        }
    }
}
