//! Reads, writes and compare-and-set of single keys. Each key takes part for a while, then a fresh one follows, which
//! keeps the search for an order short.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use rand::Rng;
use serde_json::json;

use super::{Session, Workload, found, guarded, number, put_op, range_op, txn};
use crate::checker::{Report, linear};
use crate::client::Failed;
use crate::history::Event;

/// Keys in use at a time.
const KEYS: u64 = 5;
/// Operations on a key before another one takes its place.
const OPERATIONS: u64 = 200;
const VALUES: i64 = 5;

#[derive(Default)]
pub struct Register {
    steps: AtomicU64,
}

#[async_trait::async_trait(?Send)]
impl Workload for Register {
    fn name(&self) -> &'static str {
        "register"
    }

    async fn step(&self, session: &mut Session) {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        let key = step / (KEYS * OPERATIONS) * KEYS + session.random.random_range(0..KEYS);
        let name = format!("register/{key}");
        let (value, other) = (session.random.random_range(0..VALUES), session.random.random_range(0..VALUES));
        match session.random.random_range(0..3) {
            0 => {
                let read = async |session: &mut Session| {
                    let request = pb::RangeRequest { key: name.into(), ..Default::default() };
                    let answer = session.client.range(request).await?;
                    let kv = answer.kvs.first();
                    Ok(json!([key, kv.and_then(|kv| number(&kv.value)), kv.map_or(0, |kv| kv.version)]))
                };
                session.read("read", json!([key, null]), read).await;
            }
            1 => {
                let write = async |session: &mut Session| {
                    let version = put(session, &name, Vec::new(), value).await?;
                    Ok(json!([key, value, version]))
                };
                session.write("write", json!([key, value]), write).await;
            }
            _ => {
                let cas = async |session: &mut Session| {
                    let held = pb::Compare {
                        result: CompareResult::Equal as i32,
                        target: CompareTarget::Value as i32,
                        key: name.clone().into(),
                        target_union: Some(TargetUnion::Value(value.to_string().into())),
                        ..Default::default()
                    };
                    let version = put(session, &name, vec![held], other).await?;
                    Ok(json!([key, [value, other], version]))
                };
                session.write("cas", json!([key, [value, other]]), cas).await;
            }
        }
    }

    fn check(&self, events: &[Event], limit: Duration) -> Vec<Report> {
        vec![linear::check(events, limit)]
    }
}

/// Writes `value` if all of `compare` hold, and reads in the same transaction how often the key was written.
async fn put(session: &Session, key: &str, compare: Vec<pb::Compare>, value: i64) -> Result<i64, Failed> {
    let answer = session.client.txn(txn(compare, vec![put_op(key, value.to_string()), range_op(key)])).await?;
    if !answer.succeeded {
        return Err(guarded());
    }
    let kv = found(&answer).into_iter().flatten().next();
    kv.map(|kv| kv.version).ok_or_else(|| Failed::Perhaps("a key was not there right after it was put".to_owned()))
}
