//! The lock service: one lock, held under a lease that nobody renews.

use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use chorus_proto::v3lockpb::{LockRequest, UnlockRequest};
use rand::Rng;
use serde_json::json;

use super::{Session, Workload, text};
use crate::checker::{Report, exclusion};
use crate::history::Event;

const NAME: &str = "jepsen-lock";
const LEASE_S: i64 = 3;
/// A holder works for up to this long, which may be longer than its lease lives.
const HELD_MS_MAX: u64 = 4_000;

pub struct Lock;

#[async_trait::async_trait(?Send)]
impl Workload for Lock {
    fn name(&self) -> &'static str {
        "lock"
    }

    async fn step(&self, session: &mut Session) {
        let lease = pb::LeaseGrantRequest { ttl: LEASE_S, ..Default::default() };
        let Ok(lease) = session.client.lease_grant(lease).await.map(|granted| granted.id) else { return };
        let take = async |session: &mut Session| {
            let held = session.client.lock(LockRequest { name: NAME.into(), lease }).await?;
            Ok(json!([NAME, text(&held.key)]))
        };
        let Some(held) = session.write("acquire", json!([NAME, null]), take).await else { return };
        let work = session.random.random_range(0..HELD_MS_MAX);
        tokio::time::sleep(Duration::from_millis(work)).await;
        let give = async |session: &mut Session| {
            let key = held[1].as_str().unwrap_or_default().to_owned();
            session.client.unlock(UnlockRequest { key: key.into() }).await?;
            Ok(held.clone())
        };
        session.write("release", held.clone(), give).await;
        let _ = session.client.lease_revoke(pb::LeaseRevokeRequest { id: lease }).await;
    }

    fn operations_per_s_min(&self) -> u64 {
        1
    }

    fn check(&self, events: &[Event], _limit: Duration) -> Vec<Report> {
        vec![exclusion::check(events)]
    }

    fn caveat(&self) -> Option<&'static str> {
        Some(
            "a lock whose holder does not look at its lease is not exclusive in any such store: its lease may end while \
             it works. `held-twice` here is that known case, not a fault of the store; the workload `lease` shows the \
             safe use",
        )
    }
}
