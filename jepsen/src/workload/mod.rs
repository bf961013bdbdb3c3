//! Workloads: what clients do, and which checkers judge what they saw.
//!
//! Many sessions run at once, each one operation after the other. A session whose operation has an unknown outcome
//! goes on under a new process number, since the old operation may still take effect.
//!
//! - [`register`]: reads, writes, compare-and-set of single keys; [`append`], [`registers`]: transactions
//! - [`set`]: one growing set; [`bank`]: transfers between accounts
//! - [`watch`]: watchers beside writers
//! - [`pods`]: replication controllers over the Kubernetes API
//! - [`lock`]: the lock service; [`lease`]: keys that live as long as their holder

pub mod append;
pub mod bank;
pub mod lease;
pub mod lock;
pub mod pods;
pub mod register;
pub mod registers;
pub mod set;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use chorus_proto::etcdserverpb::request_op::Request;
use rand::rngs::SmallRng;
use serde_json::Value;

use crate::checker::Report;
use crate::client::{Client, Failed, Grpc, Kubernetes};
use crate::history::{Event, Kind, Process, Recorder};

/// One client's part of a run.
pub struct Session {
    pub number: u64,
    process: u64,
    /// By how much a retired process number grows.
    sessions: u64,
    pub node: String,
    pub client: Client,
    /// For streams, which only gRPC has.
    pub grpc: Grpc,
    /// Where members are whole nodes.
    pub kubernetes: Option<Kubernetes>,
    /// All members, by name.
    pub everyone: Arc<Vec<(String, Grpc)>>,
    pub random: SmallRng,
    recorder: Recorder,
}

impl Session {
    pub fn new(
        number: u64,
        sessions: u64,
        node: String,
        client: Client,
        everyone: Arc<Vec<(String, Grpc)>>,
        random: SmallRng,
        recorder: Recorder,
    ) -> Session {
        let grpc = everyone.iter().find(|(name, _)| *name == node).expect("the node is one of them").1.clone();
        Session { number, process: number, sessions, node, client, grpc, kubernetes: None, everyone, random, recorder }
    }

    pub fn now(&self) -> u64 {
        self.recorder.now()
    }

    pub fn process(&self) -> u64 {
        self.process
    }

    fn note(&self, kind: Kind, f: &str, value: Value, error: Option<String>) {
        self.recorder.note(Process::Client(self.process), kind, f, value, Some(&self.node), error);
    }

    /// Does an operation that changes something, and notes how it ended. With the result, if there is one.
    pub async fn write<F>(&mut self, f: &str, value: Value, operation: F) -> Option<Value>
    where
        F: AsyncFnOnce(&mut Session) -> Result<Value, Failed>,
    {
        self.note(Kind::Invoke, f, value.clone(), None);
        match operation(self).await {
            Ok(result) => {
                self.note(Kind::Ok, f, result.clone(), None);
                Some(result)
            }
            Err(Failed::Surely(why)) => {
                self.note(Kind::Fail, f, value, Some(why));
                None
            }
            Err(Failed::Perhaps(why)) => {
                self.note(Kind::Info, f, value, Some(why));
                self.process += self.sessions;
                None
            }
        }
    }

    /// Does an operation that changes nothing: without an answer it surely did not happen.
    pub async fn read<F>(&mut self, f: &str, value: Value, operation: F) -> Option<Value>
    where
        F: AsyncFnOnce(&mut Session) -> Result<Value, Failed>,
    {
        self.write(f, value, async |session| {
            operation(session).await.map_err(|failed| Failed::Surely(failed.to_string()))
        })
        .await
    }
}

/// What clients do.
#[async_trait::async_trait(?Send)]
pub trait Workload: Send + Sync {
    fn name(&self) -> &'static str;

    /// Before the first step, by one session, while nothing is wrong.
    async fn set_up(&self, _session: &mut Session) -> Result<(), Failed> {
        Ok(())
    }

    /// One operation, or a few that belong together.
    async fn step(&self, session: &mut Session);

    /// After everything was healed, by one session: the last look.
    async fn finish(&self, _session: &mut Session) {}

    /// What the checkers say.
    fn check(&self, events: &[Event], limit: Duration) -> Vec<Report>;

    /// Whether the history of the store must be kept whole, so that no fault may compact it.
    fn needs_history(&self) -> bool {
        false
    }

    /// Whether the members must be whole nodes with a Kubernetes API, and not just members of a store.
    fn needs_nodes(&self) -> bool {
        false
    }

    /// Whether the history of operations is all that the verdict needs, so that it can be judged again.
    fn is_judged_by_history(&self) -> bool {
        true
    }

    /// Acknowledged operations a second without which a run proves nothing.
    fn operations_per_s_min(&self) -> u64 {
        5
    }

    /// What else is worth keeping of a run: the name of a file and its text.
    fn attachments(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// What the reader must know before the verdict is held against the store.
    fn caveat(&self) -> Option<&'static str> {
        None
    }
}

/// The names of all workloads.
pub const NAMES: [&str; 9] = ["register", "set", "append", "wr", "bank", "watch", "lock", "lease", "pods"];

/// The workload of that name.
pub fn find(name: &str) -> Option<Arc<dyn Workload>> {
    Some(match name {
        "register" => Arc::new(register::Register::default()),
        "set" => Arc::new(set::Set::default()),
        "append" => Arc::new(append::Append::default()),
        "wr" => Arc::new(registers::Registers::default()),
        "bank" => Arc::new(bank::Bank),
        "watch" => Arc::new(watch::Watchers::default()),
        "lock" => Arc::new(lock::Lock),
        "pods" => Arc::new(pods::Pods::default()),
        "lease" => Arc::new(lease::Lease::default()),
        _ => return None,
    })
}

fn range_op(key: &str) -> pb::RequestOp {
    let range = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestRange(range)) }
}

fn put_op(key: &str, value: String) -> pb::RequestOp {
    let put = pb::PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestPut(put)) }
}

/// Holds while nobody has written `key` since `revision`; 0 for a key that is not there.
fn unchanged_since(key: &str, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Default::default()
    }
}

/// A transaction that does `success` if all of `compare` hold, else nothing.
fn txn(compare: Vec<pb::Compare>, success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { compare, success, failure: Vec::new() }
}

/// What the ranges of a transaction found, in order; nothing for the other operations.
fn found(answer: &pb::TxnResponse) -> Vec<Option<&chorus_proto::mvccpb::KeyValue>> {
    let ranges = answer.responses.iter().filter_map(|response| match &response.response {
        Some(pb::response_op::Response::ResponseRange(range)) => Some(range.kvs.first()),
        _ => None,
    });
    ranges.collect()
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A guard that did not hold: someone else was faster.
fn guarded() -> Failed {
    Failed::Surely("someone else was faster".to_owned())
}
