//! Txn: compares choose a path, checks make sure that it can't fail, then the operations run in order.

use std::cmp::Ordering;

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use chorus_proto::etcdserverpb::request_op::Request;
use chorus_proto::etcdserverpb::response_op::Response;
use chorus_proto::mvccpb::KeyValue;

use super::index::{Change, Index, Slot};
use super::read::{self, header};
use super::values::{Fault, Values};
use super::write::Transaction;
use crate::store::Error;
use crate::store::lease::Leases;
use crate::store::range::{End, KeyRange};
use crate::world::planted::planted;

/// The branch that a transaction takes, and those of the transactions nested in it, in order. All compares look at the
/// state before the first change.
#[derive(Debug, PartialEq, Eq)]
pub struct Path {
    success: bool,
    nested: Vec<Path>,
}

impl Path {
    pub fn choose(index: &Index, values: &impl Values, request: &pb::TxnRequest) -> Result<Path, Fault> {
        let mut success = true;
        for compare in &request.compare {
            success = success && holds(index, values, compare)?;
        }
        let mut path = Path { success, nested: Vec::new() };
        for op in path.ops(request) {
            if let Some(Request::RequestTxn(request)) = &op.request {
                path.nested.push(Path::choose(index, values, request)?);
            }
        }
        Ok(path)
    }

    fn ops<'a>(&self, request: &'a pb::TxnRequest) -> &'a [pb::RequestOp] {
        if self.success { &request.success } else { &request.failure }
    }
}

/// Whether every key of the compare satisfies it. A key that is missing compares as zero, and never by its value.
fn holds(index: &Index, values: &impl Values, compare: &pb::Compare) -> Result<bool, Fault> {
    let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
    if range.end == End::Single {
        return one_holds(index.live(&compare.key).map(|(at, change)| (at.main, change)), values, compare);
    }
    let mut any = false;
    for (_, at, change) in index.range(&range, i64::MAX) {
        any = true;
        if !one_holds(Some((at.main, change)), values, compare)? {
            return Ok(false);
        }
    }
    if any { Ok(true) } else { one_holds(None, values, compare) }
}

fn one_holds(found: Option<(i64, &Change)>, values: &impl Values, compare: &pb::Compare) -> Result<bool, Fault> {
    let number = |stored: fn(i64, &Change) -> i64, given: i64| {
        found.map_or(0, |(modified, change)| stored(modified, change)).cmp(&given)
    };
    // An operand of another kind than the target reads as its zero.
    let ordering = match (compare.target(), &compare.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(given))) => number(|_, change| change.version, *given),
        (CompareTarget::Version, _) => number(|_, change| change.version, 0),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(given))) => number(|_, change| change.create, *given),
        (CompareTarget::Create, _) => number(|_, change| change.create, 0),
        (CompareTarget::Mod, _) if planted!("lost-update") && found.is_some() => Ordering::Equal,
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(given))) => number(|modified, _| modified, *given),
        (CompareTarget::Mod, _) => number(|modified, _| modified, 0),
        (CompareTarget::Lease, Some(TargetUnion::Lease(given))) => number(|_, change| change.lease, *given),
        (CompareTarget::Lease, _) => number(|_, change| change.lease, 0),
        (CompareTarget::Value, given) => {
            let Some((_, change)) = found else { return Ok(false) };
            let given: &[u8] = if let Some(TargetUnion::Value(given)) = given { given } else { &[] };
            values.key_value(change.slot)?.value[..].cmp(given)
        }
    };
    Ok(match compare.result() {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
        CompareResult::NotEqual => ordering != Ordering::Equal,
    })
}

/// Checks the operations on the path in their order, so that none can fail once the first has run.
pub fn check(index: &Index, leases: &Leases, request: &pb::TxnRequest, path: &Path) -> Result<(), Error> {
    visit(request, path, &mut |op| match op {
        Request::RequestPut(request) => check_put(index, leases, request),
        Request::RequestRange(request) => check_revision(index, request.revision),
        _ => Ok(()),
    })
}

fn visit(
    request: &pb::TxnRequest,
    path: &Path,
    each: &mut dyn FnMut(&Request) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut nested = path.nested.iter();
    for op in path.ops(request).iter().filter_map(|op| op.request.as_ref()) {
        match op {
            Request::RequestTxn(request) => visit(request, nested.next().expect("a path for each nested txn"), each)?,
            op => each(op)?,
        }
    }
    Ok(())
}

pub fn check_put(index: &Index, leases: &Leases, request: &pb::PutRequest) -> Result<(), Error> {
    if request.lease != 0 && !leases.contains(request.lease) {
        return Err(Error::LeaseNotFound);
    }
    if (request.ignore_value || request.ignore_lease) && index.live(&request.key).is_none() {
        return Err(Error::KeyNotFound);
    }
    Ok(())
}

/// A negative revision is compacted here, unless nothing ever was; outside a transaction it reads the newest state.
fn check_revision(index: &Index, revision: i64) -> Result<(), Error> {
    if revision > index.revision {
        return Err(Error::FutureRevision);
    }
    if revision != 0 && revision < index.compacted {
        return Err(Error::Compacted);
    }
    Ok(())
}

/// Runs a transaction that was checked. Without `answer` the responses are left empty, because no client waits for
/// them; that never changes the state.
pub fn run<V: Values>(
    txn: &mut Transaction<V>,
    request: pb::TxnRequest,
    path: &Path,
    answer: bool,
) -> Result<pb::TxnResponse, Fault> {
    let ops = if path.success { request.success } else { request.failure };
    let mut nested = path.nested.iter();
    let mut responses = Vec::with_capacity(if answer { ops.len() } else { 0 });
    for op in ops.into_iter().filter_map(|op| op.request) {
        let response = match op {
            Request::RequestRange(_) if !answer => continue,
            Request::RequestRange(request) => {
                txn.ops.ranges += 1;
                Response::ResponseRange(read::range(txn.index, &txn.values(), txn.current(), &request)?)
            }
            Request::RequestPut(request) => Response::ResponsePut(put(txn, request, answer)?),
            Request::RequestDeleteRange(request) => Response::ResponseDeleteRange(delete_range(txn, request, answer)?),
            Request::RequestTxn(request) => {
                let path = nested.next().expect("a path for each nested txn");
                // As in etcd, only the outermost transaction has the revision in its header.
                let inner = run(txn, request, path, answer)?;
                Response::ResponseTxn(pb::TxnResponse { header: Some(header(0)), ..inner })
            }
        };
        if answer {
            responses.push(pb::ResponseOp { response: Some(response) });
        }
    }
    Ok(pb::TxnResponse { header: Some(header(txn.current())), succeeded: path.success, responses })
}

pub fn put<V: Values>(
    txn: &mut Transaction<V>,
    request: pb::PutRequest,
    answer: bool,
) -> Result<pb::PutResponse, Fault> {
    let mut kv = KeyValue { key: request.key, value: request.value, lease: request.lease, ..Default::default() };
    if request.ignore_value || request.ignore_lease {
        let (lease, slot) = match txn.index.live(&kv.key) {
            Some((_, change)) => (change.lease, change.slot),
            None => return Err(Error::KeyNotFound.into()),
        };
        if request.ignore_value {
            kv.value = txn.read(slot)?.value;
        }
        if request.ignore_lease {
            kv.lease = lease;
        }
    }
    let old = txn.put(kv).filter(|_| answer && request.prev_kv);
    let prev_kv = old.map(|slot| txn.read(slot)).transpose()?;
    Ok(pb::PutResponse { header: Some(header(txn.next())), prev_kv })
}

pub fn delete_range<V: Values>(
    txn: &mut Transaction<V>,
    request: pb::DeleteRangeRequest,
    answer: bool,
) -> Result<pb::DeleteRangeResponse, Fault> {
    let old: Vec<Slot> = txn.delete_range(&KeyRange::new(request.key, request.range_end));
    let deleted = old.len() as i64;
    let wanted = old.into_iter().filter(|_| answer && request.prev_kv);
    let prev_kvs = wanted.map(|slot| txn.read(slot)).collect::<Result<_, _>>()?;
    Ok(pb::DeleteRangeResponse { header: Some(header(txn.current())), deleted, prev_kvs })
}
