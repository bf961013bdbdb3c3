//! The quota: refusing what would take the store over it, and the NOSPACE alarm that then stops the whole cluster from
//! growing.
//!
//! ```text
//!   write ──reserve──▶ over? ──▶ alarm through the log, refused        (before it is proposed)
//!   apply ──overdraws─▶ applied all the same; alarm through the log, then its client is told   (another member's quota)
//!   disks of the leader, of a quorum or of this member are short ──▶ refused, as long as they are; no alarm
//!   with auto-disarm:  alarm of this member, size well below ──▶ disarmed through the log
//! ```
//!
//! What a member answers may differ from another's, what it applies never does.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::alarm_request::AlarmAction;
use tokio::sync::Notify;

use super::proposals::Proposals;
use super::{Config, Error, checks};
use crate::actor::Shutdown;
use crate::world::World;

/// How often a full store is looked at for space that has come back.
const DISARM_INTERVAL: Duration = Duration::from_millis(500);

/// Nobody's request costs more than its bytes and this.
const COST_BESIDE_BYTES_MAX: u64 = 1 << 20;

/// Applied commands that overdrew the quota, and whose clients have yet to be told.
#[derive(Debug)]
pub struct Quota {
    bytes: Option<u64>,
    overdrawn: Mutex<Vec<u64>>,
    ready: Notify,
}

impl Quota {
    pub fn new(bytes: Option<u64>) -> Quota {
        Quota { bytes, overdrawn: Mutex::default(), ready: Notify::new() }
    }

    /// Whether a store of `size` bytes has room for what costs so much.
    pub fn admits(&self, size: u64, cost: u64) -> bool {
        cost == 0 || self.bytes.is_none_or(|quota| size + cost < quota)
    }

    /// Whether `command`, of so many bytes, is more than a store of `size` has room for.
    pub fn overdraws(&self, size: u64, command: &pb::InternalRaftRequest, bytes: usize) -> bool {
        !self.admits(size, bytes as u64 + COST_BESIDE_BYTES_MAX) && !self.admits(size, cost(command))
    }

    /// A command was applied that overdrew the quota; `waits` is its ID when a client waits for it.
    pub fn note(&self, waits: Option<u64>) {
        self.overdrawn.lock().unwrap_or_else(PoisonError::into_inner).extend(waits);
        self.ready.notify_one();
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.overdrawn.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a command counts against the quota, in bytes.
fn cost(command: &pb::InternalRaftRequest) -> u64 {
    if let Some(put) = &command.put {
        checks::put_cost(put)
    } else if let Some(txn) = &command.txn {
        checks::txn_cost(txn)
    } else if command.lease_grant.is_some() {
        checks::LEASE_COST
    } else {
        0
    }
}

/// Keeps the alarm in step with the quota until the end of the node.
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
    /// Refuses what the disks have no room for; and what would take the store over the quota, and lets the whole cluster
    /// know of that.
    pub async fn reserve(&self, cost: u64) -> Result<(), Error> {
        let shared = self.shared();
        if cost > 0 && self.raft().is_full() {
            return Err(Error::NoSpace);
        }
        if shared.quota.admits(shared.size(), cost) {
            return Ok(());
        }
        self.no_space(AlarmAction::Activate).await;
        Err(Error::NoSpace)
    }

    /// Raises or disarms this member's alarm; that it comes through can't be promised.
    async fn no_space(&self, action: AlarmAction) {
        let kind = pb::AlarmType::Nospace as i32;
        let raised = self.shared().view().state.alarms.contains(&(self.node().0, kind));
        if raised == (action == AlarmAction::Activate) {
            return;
        }
        let alarm = pb::AlarmRequest { action: action as i32, member_id: self.node().0, alarm: kind };
        if let Err(error) = self.propose(pb::InternalRaftRequest { alarm: Some(alarm), ..Default::default() }).await {
            tracing::warn!(%error, ?action, "the alarm of this member was not changed");
        }
    }

    async fn tell_overdrawn(&self) {
        let shared = self.shared();
        loop {
            shared.quota.ready.notified().await;
            let waiting = shared.quota.take();
            tracing::warn!("quota-size-bytes" = shared.quota.bytes, "message exceeded backend quota; raising alarm");
            self.no_space(AlarmAction::Activate).await;
            shared.waiting.answer_all(waiting.into_iter().map(|id| (id, Err(Error::NoSpace))));
        }
    }

    /// A tenth of the quota must be free, so that the next few writes do not raise the alarm again.
    async fn disarm_when_roomy(&self, quota: u64) {
        if self.shared().size() < quota / 10 * 9 {
            self.no_space(AlarmAction::Deactivate).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_the_store_needs_room() {
        let quota = Quota::new(Some(53_248));
        let put = pb::PutRequest { key: "k".into(), value: vec![0; 4096].into(), ..Default::default() };
        let put = pb::InternalRaftRequest { put: Some(put), ..Default::default() };
        let delete = pb::InternalRaftRequest { delete_range: Some(Default::default()), ..Default::default() };
        assert!(!quota.overdraws(20_480, &put, 4100));
        assert!(quota.overdraws(49_152, &put, 4100));
        assert!(!quota.overdraws(u64::from(u32::MAX), &delete, 10), "what frees space needs none");
        assert!(!Quota::new(None).overdraws(1 << 60, &put, 4100));
    }
}
