//! Transactions that append to lists and read them. etcd has no append: what a transaction appends to is read first,
//! and written under the condition that nobody else wrote it since.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};

use super::{Session, Workload, found, guarded, put_op, range_op, txn, unchanged_since};
use crate::checker::{Report, append};
use crate::client::Failed;
use crate::history::Event;

const KEYS: u64 = 4;
const STEPS_MAX: usize = 4;
/// Transactions before all keys are replaced, so that lists stay short.
const TRANSACTIONS: u64 = 400;

#[derive(Default)]
pub struct Append {
    transactions: AtomicU64,
    element: AtomicI64,
}

fn key_name(key: u64) -> String {
    format!("append/{key}")
}

#[async_trait::async_trait(?Send)]
impl Workload for Append {
    fn name(&self) -> &'static str {
        "append"
    }

    async fn step(&self, session: &mut Session) {
        let round = self.transactions.fetch_add(1, Ordering::Relaxed) / TRANSACTIONS;
        let count = session.random.random_range(1..=STEPS_MAX);
        let mut steps = Vec::with_capacity(count);
        for _ in 0..count {
            let key = round * KEYS + session.random.random_range(0..KEYS);
            steps.push(match session.random.random_bool(0.5) {
                true => json!(["append", key, self.element.fetch_add(1, Ordering::Relaxed)]),
                false => json!(["r", key, null]),
            });
        }
        let all = Value::Array(steps.clone());
        session.write("txn", all, async |session| run(session, steps).await).await;
    }

    fn check(&self, events: &[Event], _limit: Duration) -> Vec<Report> {
        vec![append::check(events)]
    }
}

async fn run(session: &Session, mut steps: Vec<Value>) -> Result<Value, Failed> {
    let key_of = |step: &Value| step[1].as_u64().expect("steps are made here");
    let mut keys: Vec<u64> = steps.iter().map(key_of).collect();
    keys.sort_unstable();
    keys.dedup();
    let reads = keys.iter().map(|key| range_op(&key_name(*key))).collect();
    // Nothing was written yet, whatever becomes of this.
    let answer = session.client.txn(txn(Vec::new(), reads)).await;
    let answer = answer.map_err(|failed| Failed::Surely(failed.to_string()))?;
    let (mut lists, mut guards) = (BTreeMap::<u64, Vec<i64>>::new(), Vec::new());
    for (key, kv) in keys.iter().zip(found(&answer)) {
        let list = kv.and_then(|kv| serde_json::from_slice(&kv.value).ok()).unwrap_or_default();
        lists.insert(*key, list);
        guards.push(unchanged_since(&key_name(*key), kv.map_or(0, |kv| kv.mod_revision)));
    }
    let mut written = BTreeMap::new();
    for step in &mut steps {
        let key = key_of(step);
        let list = lists.get_mut(&key).expect("every key was read");
        match step[2].as_i64() {
            Some(element) => {
                list.push(element);
                written.insert(key, list.clone());
            }
            None => step[2] = json!(list),
        }
    }
    if !written.is_empty() {
        let puts = written.iter().map(|(key, list)| put_op(&key_name(*key), json!(list).to_string())).collect();
        if !session.client.txn(txn(guards, puts)).await?.succeeded {
            return Err(guarded());
        }
    }
    Ok(Value::Array(steps))
}
