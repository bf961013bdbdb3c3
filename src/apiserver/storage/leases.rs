//! The leases that make events expire: one lease for the events of a minute, not one an event.

use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use tokio::sync::Mutex;

use crate::kube::status::Status;
use crate::store::client::Client;
use crate::world::{Clock, Instant, LeaseId};

use super::refusal;

/// How long an event is kept at least.
const EVENT_TTL: Duration = Duration::from_secs(3600);
/// How long one lease takes in new events.
const REUSE: Duration = Duration::from_secs(60);

/// The lease of the moment, and until when it takes in new events.
#[derive(Default)]
pub struct EventLeases(Mutex<Option<(LeaseId, Instant)>>);

impl EventLeases {
    /// A lease for an event that is written now.
    pub async fn current(&self, store: &Client, clock: &Clock) -> Result<LeaseId, Status> {
        let mut current = self.0.lock().await;
        let now = clock.now();
        if let Some((lease, _)) = current.filter(|(_, until)| now < *until) {
            return Ok(lease);
        }
        let request = pb::LeaseGrantRequest { ttl: (EVENT_TTL + REUSE).as_secs() as i64, id: 0 };
        let granted = store.lease_grant(request).await.map_err(|error| refusal(&error))?;
        let lease = LeaseId(granted.id);
        *current = Some((lease, now + REUSE));
        Ok(lease)
    }
}
