//! A client that reads and writes keys. Every value it writes is written once.

use chorus::store::Error;
use chorus::store::client::Client;
use chorus_proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;

use super::{Habit, Station};
use crate::history::{Call, Outcome};
use crate::swarm::one_of;

/// Few enough that clients meet.
const KEYS: u64 = 6;

pub async fn run(station: Station) {
    let mut client = Keys { store: station.connect(), station, written: 0 };
    loop {
        let answered = client.do_something().await;
        if answered && client.station.history.is_over() {
            return;
        }
        if !answered {
            client.store = client.station.connect();
        }
        client.station.rest().await;
    }
}

struct Keys {
    station: Station,
    store: Client,
    written: u64,
}

impl Keys {
    fn draw(&self, below: u64) -> u64 {
        self.station.world.random.within(0..below)
    }

    fn key(&self) -> String {
        format!("k{}", self.draw(KEYS))
    }

    /// A write that nobody else makes.
    fn put(&mut self, key: String) -> pb::PutRequest {
        self.written += 1;
        let value = format!("{}-{}", self.station.number, self.written);
        pb::PutRequest { key: key.into(), value: value.into(), prev_kv: self.draw(2) == 0, ..Default::default() }
    }

    fn range(&self) -> pb::RangeRequest {
        let (from, to) = (self.draw(KEYS), self.draw(KEYS + 1));
        pb::RangeRequest {
            key: format!("k{from}").into(),
            range_end: if self.draw(2) == 0 { Default::default() } else { format!("k{to}").into() },
            limit: [0, 0, 1, 3][self.draw(4) as usize],
            serializable: self.draw(3) == 0,
            keys_only: self.draw(5) == 0,
            count_only: self.draw(8) == 0,
            ..Default::default()
        }
    }

    /// Whether it was answered.
    async fn do_something(&mut self) -> bool {
        let doing = one_of(&self.station.world.random, &self.station.swarm.habits);
        match doing {
            _ if self.draw(3) == 0 || self.station.history.is_over() => {
                let put = self.put(self.key());
                self.call(Request::RequestPut(put)).await
            }
            Habit::Delete => {
                let to = if self.draw(3) == 0 { self.key() } else { String::new() };
                let delete =
                    pb::DeleteRangeRequest { key: self.key().into(), range_end: to.into(), prev_kv: self.draw(2) == 0 };
                self.call(Request::RequestDeleteRange(delete)).await
            }
            Habit::CompareAndSet => self.compare_and_set().await,
            Habit::Transact => self.transact().await,
            Habit::Range => self.call(Request::RequestRange(self.range())).await,
            Habit::ReadThePast => {
                let told = self.station.history.told();
                let revision = (told - self.draw(40) as i64).max(0);
                self.call(Request::RequestRange(pb::RangeRequest { revision, ..self.range() })).await
            }
            Habit::Compact => self.compact().await,
            Habit::Lease | Habit::Watch => true,
        }
    }

    /// Reads a key, and writes it if nobody else has meanwhile.
    async fn compare_and_set(&mut self) -> bool {
        let key = self.key();
        let read = pb::RangeRequest { key: key.clone().into(), serializable: self.draw(2) == 0, ..Default::default() };
        let Some(Response::ResponseRange(range)) = self.answer(Request::RequestRange(read.clone())).await else {
            return false;
        };
        let held = range.kvs.first().map_or(0, |kv| kv.mod_revision);
        let put = self.put(key.clone());
        let compare = pb::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.into(),
            target_union: Some(TargetUnion::ModRevision(held)),
            ..Default::default()
        };
        let request = pb::TxnRequest {
            compare: vec![compare],
            success: vec![op(Request::RequestPut(put))],
            failure: vec![op(Request::RequestRange(read))],
        };
        self.send_txn(request).await
    }

    /// Several keys at once.
    async fn transact(&mut self) -> bool {
        let version = pb::Compare {
            result: one_of(&self.station.world.random, &[CompareResult::Greater, CompareResult::Less]).into(),
            target: CompareTarget::Version.into(),
            key: self.key().into(),
            target_union: Some(TargetUnion::Version(self.draw(6) as i64)),
            ..Default::default()
        };
        let read = || op(Request::RequestRange(pb::RangeRequest { serializable: false, ..self.range() }));
        let (before, after, otherwise) = (read(), read(), read());
        let first = self.draw(KEYS - 1);
        let puts = [self.put(format!("k{first}")), self.put(format!("k{}", first + 1))];
        let [one, other] = puts.map(|put| op(Request::RequestPut(put)));
        let success = vec![before, one, other, after];
        self.send_txn(pb::TxnRequest { compare: vec![version], success, failure: vec![otherwise] }).await
    }

    async fn compact(&mut self) -> bool {
        let revision = self.station.history.told() - 5 - self.draw(60) as i64;
        if revision < 1 || self.draw(4) > 0 {
            return true;
        }
        self.station.history.compacts(revision);
        let done = self.store.compact(pb::CompactionRequest { revision, physical: self.draw(2) == 0 }).await;
        match &done {
            Ok(_) => self.station.history.count("compactions"),
            Err(error) => self.station.history.note(format_args!("compaction at {revision}: {error}")),
        }
        matches!(done, Ok(_) | Err(Error::Compacted))
    }

    async fn call(&self, request: Request) -> bool {
        self.answer(request).await.is_some()
    }

    async fn answer(&self, request: Request) -> Option<Response> {
        call(&self.station, &self.store, request).await
    }

    async fn send_txn(&self, request: pb::TxnRequest) -> bool {
        let told_before = self.station.history.told();
        let outcome = self.store.txn(request.clone()).await.map_or_else(failed, Outcome::Answered);
        let answered = !matches!(outcome, Outcome::Unknown);
        self.station.history.keep(Call { client: self.station.number, request, told_before, outcome });
        answered
    }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// Makes one call and keeps it as the transaction that it is equal to. `None`: there was no answer.
pub async fn call(station: &Station, store: &Client, request: Request) -> Option<Response> {
    let told_before = station.history.told();
    let answer = match request.clone() {
        Request::RequestPut(put) => store.put(put).await.map(|r| (r.header, Response::ResponsePut(r))),
        Request::RequestRange(range) => store.range(range).await.map(|r| (r.header, Response::ResponseRange(r))),
        Request::RequestDeleteRange(delete) => {
            store.delete_range(delete).await.map(|r| (r.header, Response::ResponseDeleteRange(r)))
        }
        Request::RequestTxn(txn) => store.txn(txn).await.map(|r| (r.header, Response::ResponseTxn(r))),
    };
    let (outcome, response) = match answer {
        Ok((header, response)) => {
            let responses = vec![pb::ResponseOp { response: Some(response.clone()) }];
            (Outcome::Answered(pb::TxnResponse { header, succeeded: true, responses }), Some(response))
        }
        Err(error) => (failed(error), None),
    };
    let request = pb::TxnRequest { success: vec![op(request)], ..Default::default() };
    station.history.keep(Call { client: station.number, request, told_before, outcome });
    response
}

/// What an error says about the effect of the call.
fn failed(error: Error) -> Outcome {
    match error {
        Error::NoLeader
        | Error::TooManyRequests
        | Error::NoSpace
        | Error::LeaseNotFound
        | Error::Compacted
        | Error::FutureRevision
        | Error::NotSupportedForLearner => Outcome::Refused(error.to_string()),
        _ => Outcome::Unknown,
    }
}
