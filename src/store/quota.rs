//! The quota: how large the store may grow.
//!
//! It is checked twice: before a write is proposed, and when it is applied, because another member with another quota
//! may have proposed it. Members may answer differently; they never apply differently.

use std::sync::{Mutex, PoisonError};

use chorus_proto::etcdserverpb as pb;
use tokio::sync::Notify;

use super::checks;

/// No request costs more than its bytes and this.
const COST_BESIDE_BYTES_MAX: u64 = 1 << 20;

/// How large the store may grow, and the applied commands that took it over that limit.
#[derive(Debug)]
pub struct Quota {
    /// `None` is no limit.
    pub bytes: Option<u64>,
    overdrawn: Mutex<Vec<u64>>,
    ready: Notify,
}

impl Quota {
    pub fn new(bytes: Option<u64>) -> Quota {
        Quota { bytes, overdrawn: Mutex::default(), ready: Notify::new() }
    }

    /// Whether a store of `size` bytes has room for a write of that cost.
    pub fn admits(&self, size: u64, cost: u64) -> bool {
        cost == 0 || self.bytes.is_none_or(|quota| size + cost < quota)
    }

    /// Whether a store of `size` has no room for `command`, which has this many bytes.
    pub fn overdraws(&self, size: u64, command: &pb::InternalRaftRequest, bytes: usize) -> bool {
        !self.admits(size, bytes as u64 + COST_BESIDE_BYTES_MAX) && !self.admits(size, cost(command))
    }

    /// A command was applied that overdrew the quota; `waits` is its ID when a client waits for it.
    pub fn note(&self, waits: Option<u64>) {
        self.overdrawn.lock().unwrap_or_else(PoisonError::into_inner).extend(waits);
        self.ready.notify_one();
    }

    /// Resolves once the quota was overdrawn, with the IDs of the commands that did it and whose clients wait.
    pub async fn overdrawn(&self) -> Vec<u64> {
        self.ready.notified().await;
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
