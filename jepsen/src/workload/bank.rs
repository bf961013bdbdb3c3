//! Transfers between accounts, each account a key.

use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use rand::Rng;
use serde_json::{Value, json};

use super::{Session, Workload, found, guarded, number, put_op, range_op, txn, unchanged_since};
use crate::checker::{Report, bank};
use crate::client::Failed;
use crate::history::Event;

const ACCOUNTS: usize = 5;
const BALANCE: i64 = 100;
const TRANSFER_MAX: i64 = 20;

pub struct Bank;

fn account(at: usize) -> String {
    format!("bank/{at}")
}

#[async_trait::async_trait(?Send)]
impl Workload for Bank {
    fn name(&self) -> &'static str {
        "bank"
    }

    async fn set_up(&self, session: &mut Session) -> Result<(), Failed> {
        let puts = (0..ACCOUNTS).map(|at| put_op(&account(at), BALANCE.to_string())).collect();
        session.client.txn(txn(Vec::new(), puts)).await.map(drop)
    }

    async fn step(&self, session: &mut Session) {
        if session.random.random_bool(0.5) {
            session.read("read", json!(null), async |session| balances(session).await).await;
            return;
        }
        let from = session.random.random_range(0..ACCOUNTS);
        let to = (from + session.random.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let amount = session.random.random_range(1..=TRANSFER_MAX);
        let move_it = async |session: &mut Session| {
            transfer(session, from, to, amount).await?;
            Ok(json!([from, to, amount]))
        };
        session.write("transfer", json!([from, to, amount]), move_it).await;
    }

    async fn finish(&self, session: &mut Session) {
        session.read("read", json!(null), async |session| balances(session).await).await;
    }

    fn check(&self, events: &[Event], _limit: Duration) -> Vec<Report> {
        vec![bank::check(events, BALANCE * ACCOUNTS as i64)]
    }
}

async fn balances(session: &Session) -> Result<Value, Failed> {
    let request = pb::RangeRequest { key: "bank/".into(), range_end: "bank0".into(), ..Default::default() };
    let answer = session.client.range(request).await?;
    Ok(json!(answer.kvs.iter().map(|kv| number(&kv.value)).collect::<Vec<_>>()))
}

async fn transfer(session: &Session, from: usize, to: usize, amount: i64) -> Result<(), Failed> {
    let keys = [account(from), account(to)];
    let reads = txn(Vec::new(), keys.iter().map(|key| range_op(key)).collect());
    let answer = session.client.txn(reads).await.map_err(|failed| Failed::Surely(failed.to_string()))?;
    let held = found(&answer);
    let [Some(giver), Some(taker)] = held[..] else { return Err(Failed::Surely("an account is gone".to_owned())) };
    let (Some(has), Some(gets)) = (number(&giver.value), number(&taker.value)) else {
        return Err(Failed::Surely("a balance is no number".to_owned()));
    };
    if has < amount {
        return Err(Failed::Surely("not enough money".to_owned()));
    }
    let guards = vec![unchanged_since(&keys[0], giver.mod_revision), unchanged_since(&keys[1], taker.mod_revision)];
    let puts = vec![put_op(&keys[0], (has - amount).to_string()), put_op(&keys[1], (gets + amount).to_string())];
    if session.client.txn(txn(guards, puts)).await?.succeeded { Ok(()) } else { Err(guarded()) }
}
