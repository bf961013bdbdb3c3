//! Keys that live as long as their holder: whoever creates the key under its own lease holds it, and stops believing so
//! when the lease's time is up by its own clock, counted from before the request that renewed it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use rand::Rng;
use serde_json::json;

use super::{Session, Workload, guarded, txn, unchanged_since};
use crate::checker::{Report, exclusion};
use crate::client::Failed;
use crate::history::Event;

const NAMES: u64 = 2;
const LEASE_S: i64 = 3;
const RENEWALS_MAX: u64 = 6;

#[derive(Default)]
pub struct Lease {
    tokens: AtomicU64,
}

#[async_trait::async_trait(?Send)]
impl Workload for Lease {
    fn name(&self) -> &'static str {
        "lease"
    }

    async fn step(&self, session: &mut Session) {
        let name = format!("lease/{}", session.random.random_range(0..NAMES));
        let token = self.tokens.fetch_add(1, Ordering::Relaxed);
        let mut lease = 0;
        let take = async |session: &mut Session| {
            let asked = session.now();
            let request = pb::LeaseGrantRequest { ttl: LEASE_S, ..Default::default() };
            let granted =
                session.client.lease_grant(request).await.map_err(|failed| Failed::Surely(failed.to_string()))?;
            lease = granted.id;
            let put = pb::PutRequest {
                key: name.clone().into(),
                value: token.to_string().into(),
                lease,
                ..Default::default()
            };
            let put = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) };
            if !session.client.txn(txn(vec![unchanged_since(&name, 0)], vec![put])).await?.succeeded {
                return Err(guarded());
            }
            Ok(json!([name, token, end(asked, granted.ttl)]))
        };
        let held = session.write("acquire", json!([name, token, null]), take).await.is_some();
        if held {
            for _ in 0..session.random.random_range(0..RENEWALS_MAX) {
                tokio::time::sleep(Duration::from_millis(session.random.random_range(200..1500))).await;
                let renew = async |session: &mut Session| {
                    let asked = session.now();
                    match session.grpc.keep_alive(lease).await? {
                        left if left > 0 => Ok(json!([name, token, end(asked, left)])),
                        _ => Err(Failed::Surely("the lease is gone".to_owned())),
                    }
                };
                if session.write("extend", json!([name, token, null]), renew).await.is_none() {
                    break;
                }
            }
            let give = async |session: &mut Session| {
                session.client.lease_revoke(pb::LeaseRevokeRequest { id: lease }).await?;
                Ok(json!([name, token]))
            };
            // Half of all holders vanish and leave their lease to time.
            if session.random.random_bool(0.5) {
                session.write("release", json!([name, token]), give).await;
            }
        } else if lease != 0 {
            let _ = session.client.lease_revoke(pb::LeaseRevokeRequest { id: lease }).await;
        }
    }

    fn operations_per_s_min(&self) -> u64 {
        1
    }

    fn check(&self, events: &[Event], _limit: Duration) -> Vec<Report> {
        vec![exclusion::check(events)]
    }
}

/// When a lease renewed by a request sent at `asked` surely still lives, in nanoseconds of the run.
fn end(asked: u64, ttl_s: i64) -> u64 {
    asked + u64::try_from(ttl_s).unwrap_or_default() * 1_000_000_000
}
