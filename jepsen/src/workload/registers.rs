//! Transactions that read and write a few registers in one request, with the revisions that the store tells.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};

use super::{Session, Workload, found, number, put_op, range_op, txn};
use crate::checker::{Report, registers};
use crate::client::Failed;
use crate::history::Event;

const KEYS: u64 = 3;
const STEPS_MAX: usize = 4;
const TRANSACTIONS: u64 = 2000;

#[derive(Default)]
pub struct Registers {
    transactions: AtomicU64,
    value: AtomicI64,
}

#[async_trait::async_trait(?Send)]
impl Workload for Registers {
    fn name(&self) -> &'static str {
        "wr"
    }

    async fn step(&self, session: &mut Session) {
        let round = self.transactions.fetch_add(1, Ordering::Relaxed) / TRANSACTIONS;
        let (mut steps, mut used) = (Vec::new(), BTreeSet::new());
        for _ in 0..session.random.random_range(1..=STEPS_MAX) {
            let key = round * KEYS + session.random.random_range(0..KEYS);
            // A key is touched once, so that a read tells of others and not of the transaction itself.
            if used.insert(key) {
                steps.push(match session.random.random_bool(0.5) {
                    true => json!(["w", key, self.value.fetch_add(1, Ordering::Relaxed), null]),
                    false => json!(["r", key, null, null]),
                });
            }
        }
        let all = Value::Array(steps.clone());
        if steps.iter().all(|step| step[0] == "r") {
            session.read("txn", all, async |session| run(session, steps).await).await;
        } else {
            session.write("txn", all, async |session| run(session, steps).await).await;
        }
    }

    fn check(&self, events: &[Event], _limit: Duration) -> Vec<Report> {
        vec![registers::check(events)]
    }
}

async fn run(session: &Session, mut steps: Vec<Value>) -> Result<Value, Failed> {
    let operation = |step: &Value| {
        let key = format!("wr/{}", step[1]);
        match step[2].as_i64() {
            Some(value) => put_op(&key, value.to_string()),
            None => range_op(&key),
        }
    };
    let answer = session.client.txn(txn(Vec::new(), steps.iter().map(operation).collect())).await?;
    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
    let mut reads = found(&answer).into_iter();
    for step in &mut steps {
        if step[0] == "w" {
            step[3] = json!(revision);
        } else if let Some(kv) = reads.next().flatten() {
            step[2] = json!(number(&kv.value));
            step[3] = json!(kv.mod_revision);
        }
    }
    Ok(Value::Array(steps))
}
