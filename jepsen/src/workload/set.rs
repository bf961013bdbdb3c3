//! One key that holds a set, to which everyone adds.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use rand::Rng;
use serde_json::{Value, json};

use super::{Session, Workload, guarded, put_op, txn, unchanged_since};
use crate::checker::{Report, set};
use crate::client::Failed;
use crate::history::Event;

const KEY: &str = "set";
const ATTEMPTS: usize = 10;

#[derive(Default)]
pub struct Set {
    element: AtomicI64,
}

async fn look(session: &Session) -> Result<(Vec<i64>, i64), Failed> {
    let answer = session.client.range(pb::RangeRequest { key: KEY.into(), ..Default::default() }).await?;
    let Some(kv) = answer.kvs.first() else { return Ok((Vec::new(), 0)) };
    let held = serde_json::from_slice(&kv.value).map_err(|error| Failed::Perhaps(format!("not a set: {error}")))?;
    Ok((held, kv.mod_revision))
}

async fn add(session: &Session, element: i64) -> Result<Value, Failed> {
    for _ in 0..ATTEMPTS {
        // A look alone changes nothing.
        let (mut held, revision) = look(session).await.map_err(|failed| Failed::Surely(failed.to_string()))?;
        held.push(element);
        let put = txn(vec![unchanged_since(KEY, revision)], vec![put_op(KEY, json!(held).to_string())]);
        if session.client.txn(put).await?.succeeded {
            return Ok(json!(element));
        }
    }
    Err(guarded())
}

#[async_trait::async_trait(?Send)]
impl Workload for Set {
    fn name(&self) -> &'static str {
        "set"
    }

    async fn step(&self, session: &mut Session) {
        if session.random.random_bool(0.5) {
            let element = self.element.fetch_add(1, Ordering::Relaxed);
            session.write("add", json!(element), async |session| add(session, element).await).await;
        } else {
            session.read("read", json!(null), async |session| Ok(json!(look(session).await?.0))).await;
        }
    }

    async fn finish(&self, session: &mut Session) {
        session.read("read", json!(null), async |session| Ok(json!(look(session).await?.0))).await;
    }

    fn check(&self, events: &[Event], _limit: Duration) -> Vec<Report> {
        vec![set::check(events)]
    }
}
