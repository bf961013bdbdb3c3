//! The store as it should be: the log applied once more by the plainest possible means, and every answer compared with
//! what it should have been at its revision.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::Bytes;
use chorus::world::LeaseId;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::mvccpb::event::EventType;
use chorus_proto::mvccpb::{Event, KeyValue};
use imbl::OrdMap;
use pb::compare::{CompareResult, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;

use crate::history::{Applied, Call, Lease, Outcome, Records};

type State = OrdMap<Bytes, KeyValue>;

/// The states of a store, one a revision.
pub struct Replay {
    states: Vec<State>,
    log: Vec<Vec<Event>>,
    pub compacted: i64,
}

/// Whether the range of a request contains `key`.
pub fn contains(from: &[u8], to: &[u8], key: &[u8]) -> bool {
    match to {
        [] => key == from,
        [0] => key >= from,
        to => key >= from && key < to,
    }
}

/// Checks all that clients were told. Panics where something is wrong.
pub fn check(records: &Records) {
    let replay = Replay::of(records);
    let mut claimed = BTreeSet::new();
    for call in &records.calls {
        if let Outcome::Answered(response) = &call.outcome
            && let Some(revision) = replay.check_answer(call, response)
        {
            assert!(claimed.insert(revision), "two writes were told that they made revision {revision}");
        }
    }
    let mut unknown: Vec<&Call> =
        records.calls.iter().filter(|call| matches!(call.outcome, Outcome::Unknown)).collect();
    for (revision, applied) in &records.log {
        if !claimed.contains(revision) {
            replay.explain(*revision, applied, &mut unknown, &records.leases);
        }
    }
    records.watches.iter().for_each(|watch| watch.check(&replay));
}

impl Replay {
    fn of(records: &Records) -> Replay {
        let mut replay =
            Replay { states: vec![State::new(); 2], log: vec![Vec::new(); 2], compacted: records.compacted };
        for (revision, Applied { events, .. }) in &records.log {
            assert_eq!(replay.states.len() as i64, *revision, "nobody told of the revision before");
            let mut state = replay.states.last().cloned().unwrap_or_default();
            events.iter().for_each(|event| follow(&mut state, event));
            replay.states.push(state);
            replay.log.push(events.clone());
        }
        replay
    }

    /// The store at `revision`.
    pub fn state(&self, revision: i64) -> &State {
        let at = usize::try_from(revision).expect("revisions begin at 1");
        self.states.get(at).unwrap_or_else(|| panic!("revision {revision} was told of, but nobody has it"))
    }

    /// What changed in `revisions`.
    pub fn events(&self, revisions: RangeInclusive<i64>) -> impl Iterator<Item = &Event> {
        let from = usize::try_from(*revisions.start()).unwrap_or(0).min(self.log.len());
        let to = usize::try_from(*revisions.end() + 1).unwrap_or(0).clamp(from, self.log.len());
        self.log[from..to].iter().flatten()
    }

    /// Whether a call was answered as it should have been; the revision it made, if it made one.
    fn check_answer(&self, call: &Call, response: &pb::TxnResponse) -> Option<i64> {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let writes = response.responses.iter().any(changes_something);
        let before = if writes { self.state(revision - 1) } else { self.state(revision) };
        let (expected, events) = self.evaluate(before, &call.request, revision);
        let given = bare(response.clone());
        assert!(given == expected, "{:?} at {revision} gave {given:?}, not {expected:?}", call.request);
        if writes {
            let made = &self.log[revision as usize];
            assert!(*made == events, "{:?} made {made:?} at {revision}, not {events:?}", call.request);
        }
        let fresh = if writes { revision > call.told_before } else { revision >= call.told_before };
        let may_be_stale = call.request.success.iter().all(is_serializable) && call.request.compare.is_empty();
        assert!(fresh || may_be_stale, "{:?} was answered at {revision}, {} was told", call.request, call.told_before);
        writes.then_some(revision)
    }

    /// Nobody was told that he made this revision: it is one of a call without an answer, or the end of a lease.
    fn explain(&self, revision: i64, applied: &Applied, unknown: &mut Vec<&Call>, leases: &BTreeMap<LeaseId, Lease>) {
        let before = self.state(revision - 1);
        let made = |call: &&Call| {
            revision > call.told_before && self.evaluate(before, &call.request, revision).1 == applied.events
        };
        if let Some(at) = unknown.iter().position(made) {
            unknown.swap_remove(at);
            return;
        }
        for event in &applied.events {
            let key = &event.kv.as_ref().expect("every event names its key").key;
            let held = before.get(key).filter(|_| event.r#type() == EventType::Delete);
            let lease = held.and_then(|held| leases.get(&LeaseId(held.lease)));
            let Some(lease) = lease else { panic!("nobody asked for {event:?} at {revision}") };
            assert!(
                lease.revoked || applied.first_seen >= lease.alive_until,
                "{event:?} at {revision}: its lease was to live until {:?}, it ended at {:?}",
                lease.alive_until,
                applied.first_seen
            );
        }
    }

    /// What a transaction answers and changes.
    fn evaluate(&self, before: &State, txn: &pb::TxnRequest, revision: i64) -> (pb::TxnResponse, Vec<Event>) {
        let succeeded = txn.compare.iter().all(|compare| holds(compare, before));
        let (mut state, mut events) = (before.clone(), Vec::new());
        let operations = if succeeded { &txn.success } else { &txn.failure };
        let responses = operations.iter().filter_map(|operation| operation.request.as_ref()).map(|request| {
            let response = match request {
                Request::RequestPut(put) => Response::ResponsePut(evaluate_put(&mut state, put, revision, &mut events)),
                Request::RequestDeleteRange(delete) => {
                    Response::ResponseDeleteRange(evaluate_delete(&mut state, delete, revision, &mut events))
                }
                Request::RequestRange(range) if range.revision > 0 => {
                    Response::ResponseRange(evaluate_range(self.state(range.revision), range))
                }
                Request::RequestRange(range) => Response::ResponseRange(evaluate_range(&state, range)),
                Request::RequestTxn(_) => unreachable!("no client nests transactions"),
            };
            pb::ResponseOp { response: Some(response) }
        });
        let responses = responses.collect();
        (pb::TxnResponse { header: None, succeeded, responses }, events)
    }
}

fn evaluate_put(state: &mut State, put: &pb::PutRequest, revision: i64, events: &mut Vec<Event>) -> pb::PutResponse {
    let before = state.get(&put.key).cloned();
    let kv = KeyValue {
        key: put.key.clone(),
        create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
        mod_revision: revision,
        version: before.as_ref().map_or(0, |kv| kv.version) + 1,
        value: put.value.clone(),
        lease: put.lease,
    };
    state.insert(put.key.clone(), kv.clone());
    events.push(Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None });
    pb::PutResponse { header: None, prev_kv: before.filter(|_| put.prev_kv) }
}

fn evaluate_delete(
    state: &mut State,
    delete: &pb::DeleteRangeRequest,
    revision: i64,
    events: &mut Vec<Event>,
) -> pb::DeleteRangeResponse {
    let held: Vec<KeyValue> =
        state.values().filter(|kv| contains(&delete.key, &delete.range_end, &kv.key)).cloned().collect();
    for kv in &held {
        state.remove(&kv.key);
        let gone = KeyValue { key: kv.key.clone(), mod_revision: revision, ..Default::default() };
        events.push(Event { r#type: EventType::Delete.into(), kv: Some(gone), prev_kv: None });
    }
    let deleted = held.len() as i64;
    pb::DeleteRangeResponse { header: None, deleted, prev_kvs: if delete.prev_kv { held } else { Vec::new() } }
}

fn evaluate_range(state: &State, range: &pb::RangeRequest) -> pb::RangeResponse {
    let found: Vec<&KeyValue> = state.values().filter(|kv| contains(&range.key, &range.range_end, &kv.key)).collect();
    let count = found.len() as i64;
    if range.count_only {
        return pb::RangeResponse { header: None, kvs: Vec::new(), more: false, count };
    }
    let limit = if range.limit > 0 { range.limit as usize } else { usize::MAX };
    let mut kvs: Vec<KeyValue> = found.into_iter().take(limit).cloned().collect();
    let more = (kvs.len() as i64) < count;
    if range.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    pb::RangeResponse { header: None, kvs, more, count }
}

fn holds(compare: &pb::Compare, state: &State) -> bool {
    let held = state.get(&compare.key);
    let order = match &compare.target_union {
        Some(TargetUnion::ModRevision(wanted)) => held.map_or(0, |kv| kv.mod_revision).cmp(wanted),
        Some(TargetUnion::Version(wanted)) => held.map_or(0, |kv| kv.version).cmp(wanted),
        other => unreachable!("no client compares {other:?}"),
    };
    match compare.result() {
        CompareResult::Equal => order.is_eq(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
        CompareResult::NotEqual => order.is_ne(),
    }
}

/// The next state, by the event alone.
fn follow(state: &mut State, event: &Event) {
    let kv = event.kv.as_ref().expect("every event names its key");
    let before = match event.r#type() {
        EventType::Put => state.insert(kv.key.clone(), kv.clone()),
        EventType::Delete => state.remove(&kv.key),
    };
    if event.r#type() == EventType::Put {
        let (create, version) = before.map_or((kv.mod_revision, 1), |kv| (kv.create_revision, kv.version + 1));
        assert_eq!((kv.create_revision, kv.version), (create, version), "{event:?}");
    }
}

fn changes_something(response: &pb::ResponseOp) -> bool {
    match &response.response {
        Some(Response::ResponsePut(_)) => true,
        Some(Response::ResponseDeleteRange(deleted)) => deleted.deleted > 0,
        _ => false,
    }
}

fn is_serializable(operation: &pb::RequestOp) -> bool {
    matches!(&operation.request, Some(Request::RequestRange(range)) if range.serializable)
}

/// A response without what tells of the member and the moment.
fn bare(mut response: pb::TxnResponse) -> pb::TxnResponse {
    response.header = None;
    for operation in &mut response.responses {
        match &mut operation.response {
            Some(Response::ResponsePut(put)) => put.header = None,
            Some(Response::ResponseDeleteRange(delete)) => delete.header = None,
            Some(Response::ResponseRange(range)) => range.header = None,
            _ => {}
        }
    }
    response
}
