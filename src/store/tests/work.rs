//! What a request may do where others wait for it.

use super::*;
use crate::store::view::View;

const KEYS: usize = 20_000;

/// Many keys, of which the last ones were deleted, and one that changed often.
fn member() -> Member {
    let mut member = Member::new(1);
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(100) {
        let puts = chunk.iter().map(|n| Request::RequestPut(put(&format!("k{n:05}"), "v"))).collect();
        member.txn(pb::TxnRequest { success: ops(puts), ..Default::default() }).unwrap();
    }
    member.delete(delete_range("k15000", "l")).unwrap();
    (0..1_000).for_each(|_| drop(member.put(put("hot", "v")).unwrap()));
    member
}

fn keys(key: &str, range_end: &str) -> pb::RangeRequest {
    pb::RangeRequest { range_end: bytes(range_end), ..get(key) }
}

#[test]
fn what_looks_at_few_keys_is_done_at_once_and_the_rest_elsewhere() {
    let member = member();
    let view: &View = &member.state().view();
    let by_create = pb::range_request::SortTarget::Create as i32;
    for (small, request) in [
        (true, get("k00001")),
        (true, pb::RangeRequest { revision: 3, ..get("hot") }),
        (true, keys("k00000", "k00100")),
        (true, pb::RangeRequest { limit: 10, ..keys("k", "k14") }),
        (true, pb::RangeRequest { count_only: true, ..keys("k", "l") }),
        (false, pb::RangeRequest { limit: 1_000, ..keys("k", "l") }),
        (false, keys("k", "l")),
        // Deleted keys stand before the one that is looked for.
        (false, pb::RangeRequest { limit: 1, ..keys("k15000", "l") }),
        (false, pb::RangeRequest { limit: 1, sort_order: 1, sort_target: by_create, ..keys("k", "l") }),
        (false, pb::RangeRequest { limit: 1, min_mod_revision: 9, ..keys("k", "l") }),
        (false, pb::RangeRequest { limit: 1, revision: 9, ..keys("k", "l") }),
        (false, pb::RangeRequest { count_only: true, revision: 9, ..keys("k", "l") }),
    ] {
        assert_eq!(view.is_large(&request), !small, "{request:?}");
    }
    let compare = pb::Compare { key: bytes("k"), range_end: bytes("l"), ..Default::default() };
    assert!(view.is_large_txn(&pb::TxnRequest { compare: vec![compare], ..Default::default() }));
    let few = ops(vec![Request::RequestRange(keys("k00000", "k00100")); 3]);
    assert!(view.is_large_txn(&pb::TxnRequest { success: few, ..Default::default() }), "together they are many");
}

#[test]
fn a_few_large_values_are_much_too() {
    let mut member = Member::new(1);
    let value = "x".repeat(1 << 20);
    (0..20).for_each(|n| drop(member.put(put(&format!("k{n:02}"), &value)).unwrap()));
    let view = member.state().view();
    assert!(!view.is_large(&pb::RangeRequest { limit: 2, ..keys("k", "l") }));
    assert!(view.is_large(&pb::RangeRequest { limit: 10, ..keys("k", "l") }));
    assert!(!view.is_large(&pb::RangeRequest { limit: 10, keys_only: true, ..keys("k", "l") }));
}

#[test]
fn counts_are_right_in_the_middle_of_a_transaction() {
    let mut member = Member::new(1);
    (0..300).for_each(|n| drop(member.put(put(&format!("k{n:03}"), "v")).unwrap()));
    let count = |revision| Request::RequestRange(pb::RangeRequest { count_only: true, revision, ..keys("k", "l") });
    let delete = Request::RequestDeleteRange(delete_range("k000", "k100"));
    let success = ops(vec![count(0), delete, Request::RequestPut(put("kx", "v")), count(0), count(301)]);
    let answer = member.txn(pb::TxnRequest { success, ..Default::default() }).unwrap();
    let counts = answer.responses.iter().filter_map(|op| match &op.response {
        Some(pb::response_op::Response::ResponseRange(range)) => Some(range.count),
        _ => None,
    });
    assert_eq!(counts.collect::<Vec<_>>(), [300, 201, 300]);
}

#[test]
fn a_transaction_that_looks_at_everything_again_and_again_is_refused() {
    let member = member();
    let view = member.state().view();
    let compares = |count| {
        let compare = pb::Compare { key: bytes("\0"), range_end: bytes("\0"), ..Default::default() };
        pb::TxnRequest { compare: vec![compare; count], ..Default::default() }
    };
    assert_eq!(view.check_txn(&compares(50)), Ok(()));
    assert_eq!(view.check_txn(&compares(60)), Err(Error::TooManyOps));
    let nested = (0..30)
        .fold(compares(2), |inner, _| pb::TxnRequest { success: ops(vec![Request::RequestTxn(inner)]), ..compares(2) });
    assert_eq!(view.check_txn(&nested), Err(Error::TooManyOps));
}
