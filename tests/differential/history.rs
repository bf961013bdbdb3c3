//! Random histories. Revisions in an [`Operation`] are counted back from the newest one, so that an operation keeps its
//! meaning when others are taken out before it.

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::compare::TargetUnion;
use chorus_proto::etcdserverpb::request_op::Request;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// "No revision given"; any other number is that many revisions back from the newest, negative ones in the future.
pub const ABSENT: i64 = i64::MAX;

#[derive(Clone, Debug)]
pub enum Operation {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact { back: i64 },
    HashKv { back: i64 },
    Grant { id: i64, ttl: i64 },
    Revoke { id: i64 },
    KeepAlive { id: i64 },
    TimeToLive { id: i64, keys: bool },
    Leases,
    Defragment,
    Restart,
}

/// A history that depends on the seed only.
pub fn random(seed: u64, operations: usize) -> Vec<Operation> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = operation();
    (0..operations).map(|_| strategy.new_tree(&mut runner).expect("nothing is filtered").current()).collect()
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        120 => range().prop_map(Operation::Range),
        200 => put().prop_map(Operation::Put),
        60 => delete_range().prop_map(Operation::DeleteRange),
        120 => any::<Flavour>().prop_flat_map(|flavour| txn(2, flavour)).prop_map(Operation::Txn),
        12 => prop_oneof![8 => 0..40i64, 1 => -3..0i64, 1 => Just(ABSENT)].prop_map(|back| Operation::Compact { back }),
        12 => prop_oneof![4 => 0..20i64, 1 => -3..0i64, 5 => Just(ABSENT)].prop_map(|back| Operation::HashKv { back }),
        16 => (lease(), granted()).prop_map(|(id, ttl)| Operation::Grant { id, ttl }),
        10 => lease().prop_map(|id| Operation::Revoke { id }),
        6 => lease().prop_map(|id| Operation::KeepAlive { id }),
        10 => (lease(), any::<bool>()).prop_map(|(id, keys)| Operation::TimeToLive { id, keys }),
        4 => Just(Operation::Leases),
        1 => Just(Operation::Defragment),
        1 => Just(Operation::Restart),
    ]
}

/// At most twelve keys: where more are equal to a sort, etcd gives them in no particular order.
fn key() -> impl Strategy<Value = Bytes> {
    const KEYS: &[&str] = &["a", "b", "c", "d", "e", "ab", "abc", "b/", "b/1", "b/2", "\0", "\u{ff}"];
    prop_oneof![60 => prop::sample::select(KEYS).prop_map(Bytes::from), 1 => Just(Bytes::new())]
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![4 => Just(Bytes::new()), 3 => key(), 2 => Just(Bytes::from_static(b"\0"))]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        Just(Bytes::new()),
        Just(Bytes::from_static(b"1")),
        Just(Bytes::from_static(b"2")),
        prop::collection::vec(any::<u8>(), 0..24).prop_map(Bytes::from),
    ]
}

/// Few ids, so that they meet.
fn lease() -> impl Strategy<Value = i64> {
    1..8i64
}

/// Times that don't run out while a history is played, and one that is refused.
fn granted() -> impl Strategy<Value = i64> {
    prop_oneof![10 => 20_000..30_000i64, 1 => Just(9_000_000_001)]
}

fn maybe<T: std::fmt::Debug + Clone>(strategy: impl Strategy<Value = T>, otherwise: T) -> impl Strategy<Value = T> {
    prop_oneof![4 => Just(otherwise), 1 => strategy]
}

fn bound() -> impl Strategy<Value = i64> {
    maybe(0..30i64, ABSENT)
}

fn range() -> impl Strategy<Value = pb::RangeRequest> {
    let what = (key(), range_end(), maybe(-1..6i64, 0), maybe(-2..30i64, ABSENT));
    let order = (0..3i32, 0..5i32);
    let flags = (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    let bounds = (bound(), bound(), bound(), bound());
    (what, order, flags, bounds).prop_map(|(what, order, flags, bounds)| pb::RangeRequest {
        key: what.0,
        range_end: what.1,
        limit: what.2,
        revision: what.3,
        sort_order: order.0,
        sort_target: order.1,
        serializable: flags.0,
        keys_only: flags.1,
        count_only: flags.2,
        min_mod_revision: bounds.0,
        max_mod_revision: bounds.1,
        min_create_revision: bounds.2,
        max_create_revision: bounds.3,
    })
}

fn put() -> impl Strategy<Value = pb::PutRequest> {
    let flags = (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (key(), value(), maybe(lease(), 0), flags).prop_map(|(key, value, lease, flags)| pb::PutRequest {
        key,
        value: if flags.1 && lease != 3 { Bytes::new() } else { value },
        lease: if flags.2 && lease != 4 { 0 } else { lease },
        prev_kv: flags.0,
        ignore_value: flags.1,
        ignore_lease: flags.2,
    })
}

fn delete_range() -> impl Strategy<Value = pb::DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| pb::DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

/// A transaction that deletes to the end of all keys and then puts a key that must exist is more than etcd stands: its
/// check lets it pass, and the member ends. So a transaction does one or the other.
#[derive(Clone, Copy, Debug)]
enum Flavour {
    DeletesToTheEnd,
    KeepsValues,
}

impl Arbitrary for Flavour {
    type Parameters = ();
    type Strategy = BoxedStrategy<Flavour>;

    fn arbitrary_with((): ()) -> BoxedStrategy<Flavour> {
        prop_oneof![Just(Flavour::DeletesToTheEnd), Just(Flavour::KeepsValues)].boxed()
    }
}

/// Transactions that hold others, this many levels deep.
fn txn(levels: u32, flavour: Flavour) -> BoxedStrategy<pb::TxnRequest> {
    let operations = || prop::collection::vec(request_op(levels, flavour), 0..4);
    (prop::collection::vec(compare(), 0..3), operations(), operations())
        .prop_map(|(compare, success, failure)| pb::TxnRequest { compare, success, failure })
        .boxed()
}

fn request_op(levels: u32, flavour: Flavour) -> BoxedStrategy<pb::RequestOp> {
    let put = put().prop_map(move |put| match flavour {
        Flavour::DeletesToTheEnd => pb::PutRequest { ignore_value: false, ignore_lease: false, ..put },
        Flavour::KeepsValues => put,
    });
    let delete_range = delete_range().prop_map(move |delete| match flavour {
        Flavour::KeepsValues if delete.range_end == b"\0"[..] => {
            pb::DeleteRangeRequest { range_end: Bytes::new(), ..delete }
        }
        _ => delete,
    });
    let plain = prop_oneof![
        3 => range().prop_map(Request::RequestRange),
        4 => put.prop_map(Request::RequestPut),
        2 => delete_range.prop_map(Request::RequestDeleteRange),
    ];
    let op = |request| pb::RequestOp { request: Some(request) };
    match levels {
        0 => plain.prop_map(op).boxed(),
        _ => prop_oneof![8 => plain, 1 => txn(levels - 1, flavour).prop_map(Request::RequestTxn)].prop_map(op).boxed(),
    }
}

fn compare() -> impl Strategy<Value = pb::Compare> {
    let target = prop_oneof![
        (0..4i64).prop_map(TargetUnion::Version),
        bound().prop_map(TargetUnion::CreateRevision),
        bound().prop_map(TargetUnion::ModRevision),
        value().prop_map(TargetUnion::Value),
        (0..8i64).prop_map(TargetUnion::Lease),
    ];
    (0..4i32, target, key(), maybe(range_end(), Bytes::new())).prop_map(|(result, target, key, range_end)| {
        let named = match target {
            TargetUnion::Version(_) => pb::compare::CompareTarget::Version,
            TargetUnion::CreateRevision(_) => pb::compare::CompareTarget::Create,
            TargetUnion::ModRevision(_) => pb::compare::CompareTarget::Mod,
            TargetUnion::Value(_) => pb::compare::CompareTarget::Value,
            TargetUnion::Lease(_) => pb::compare::CompareTarget::Lease,
        };
        pb::Compare { result, target: named.into(), key, range_end, target_union: Some(target) }
    })
}

/// The revision that was meant, now that the newest is known; 0 if none was.
pub fn revision(back: i64, newest: i64) -> i64 {
    if back == ABSENT { 0 } else { newest - back }
}

pub fn resolved_range(request: &pb::RangeRequest, newest: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        revision: revision(request.revision, newest),
        min_mod_revision: revision(request.min_mod_revision, newest),
        max_mod_revision: revision(request.max_mod_revision, newest),
        min_create_revision: revision(request.min_create_revision, newest),
        max_create_revision: revision(request.max_create_revision, newest),
        ..request.clone()
    }
}

pub fn resolved_txn(request: &pb::TxnRequest, newest: i64) -> pb::TxnRequest {
    let compare = |compare: &pb::Compare| pb::Compare {
        target_union: compare.target_union.clone().map(|target| match target {
            TargetUnion::CreateRevision(back) => TargetUnion::CreateRevision(revision(back, newest)),
            TargetUnion::ModRevision(back) => TargetUnion::ModRevision(revision(back, newest)),
            other => other,
        }),
        ..compare.clone()
    };
    let op = |op: &pb::RequestOp| pb::RequestOp {
        request: op.request.clone().map(|request| match request {
            Request::RequestRange(range) => Request::RequestRange(resolved_range(&range, newest)),
            Request::RequestTxn(txn) => Request::RequestTxn(resolved_txn(&txn, newest)),
            other => other,
        }),
    };
    pb::TxnRequest {
        compare: request.compare.iter().map(compare).collect(),
        success: request.success.iter().map(op).collect(),
        failure: request.failure.iter().map(op).collect(),
    }
}
