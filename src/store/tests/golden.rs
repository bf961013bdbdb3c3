//! Golden requests and answers, observed on etcd. Each row depends on those before it.

use chorus_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use chorus_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use chorus_proto::etcdserverpb::response_op::Response;

use super::*;

fn show(member: &Member, request: pb::RangeRequest) -> String {
    member.range(request).map_or_else(|error| error.to_wire().1.to_owned(), |answer| shown_range(&answer))
}

fn show_response(response: &pb::ResponseOp) -> String {
    match response.response.as_ref().expect("every operation is answered") {
        Response::ResponseRange(answer) => format!("range {}", shown_range(answer)),
        Response::ResponsePut(answer) => format!("put rev {}", revision_of(&answer.header)),
        Response::ResponseTxn(answer) => format!("txn {}", show_txn(Ok(answer.clone()))),
        Response::ResponseDeleteRange(answer) => {
            let prev: String = answer.prev_kvs.iter().map(|kv| format!(" {}", shown(kv))).collect();
            format!("delete rev {}, {}{prev}", revision_of(&answer.header), answer.deleted)
        }
    }
}

fn show_txn(answer: Result<pb::TxnResponse, Error>) -> String {
    match answer {
        Err(error) => error.to_wire().1.to_owned(),
        Ok(answer) => {
            let mut parts = vec![format!("rev {} {}", revision_of(&answer.header), answer.succeeded)];
            parts.extend(answer.responses.iter().map(show_response));
            parts.join("; ")
        }
    }
}

fn success(requests: Vec<Request>) -> pb::TxnRequest {
    pb::TxnRequest { success: ops(requests), ..Default::default() }
}

fn compare(
    key: &str,
    range_end: &str,
    result: CompareResult,
    target: CompareTarget,
    value: TargetUnion,
) -> pb::TxnRequest {
    let compare = pb::Compare {
        result: result as i32,
        target: target as i32,
        key: bytes(key),
        range_end: bytes(range_end),
        target_union: Some(value),
    };
    pb::TxnRequest { compare: vec![compare], ..Default::default() }
}

/// Rows 1 to 13.
fn ranges_and_puts(member: &mut Member) {
    assert_eq!(show(member, get("a")), "rev 1");
    let answer = member.put(pb::PutRequest { prev_kv: true, ..put("a", "3") }).unwrap();
    assert_eq!((revision_of(&answer.header), answer.prev_kv), (2, None));
    assert_eq!(revision_of(&member.put(put("b", "1")).unwrap().header), 3);
    assert_eq!(revision_of(&member.put(put("c", "2")).unwrap().header), 4);
    let answer = member.put(pb::PutRequest { prev_kv: true, ..put("a", "9") }).unwrap();
    assert_eq!(revision_of(&answer.header), 5);
    assert_eq!(shown(&answer.prev_kv.unwrap()), r#"a{2,2,1,"3"}"#);
    let by_mod = pb::RangeRequest { sort_target: SortTarget::Mod as i32, ..all() };
    let rows = [
        (pb::RangeRequest { limit: 2, ..all() }, r#"rev 5; a{2,5,2,"9"}; b{3,3,1,"1"}; more; count 3"#),
        (pb::RangeRequest { limit: 2, ..by_mod.clone() }, r#"rev 5; b{3,3,1,"1"}; c{4,4,1,"2"}; more; count 3"#),
        (
            pb::RangeRequest { limit: 1, sort_order: SortOrder::Descend as i32, ..by_mod },
            r#"rev 5; a{2,5,2,"9"}; more; count 3"#,
        ),
        (pb::RangeRequest { min_mod_revision: 4, ..all() }, r#"rev 5; a{2,5,2,"9"}; c{4,4,1,"2"}; count 3"#),
        (pb::RangeRequest { count_only: true, limit: 1, ..all() }, "rev 5; count 3"),
        (pb::RangeRequest { revision: 2, ..get("a") }, r#"rev 5; a{2,2,1,"3"}; count 1"#),
        (pb::RangeRequest { range_end: bytes("a"), ..get("b") }, "rev 5"),
        (pb::RangeRequest { revision: -5, ..get("a") }, r#"rev 5; a{2,5,2,"9"}; count 1"#),
        (pb::RangeRequest { keys_only: true, limit: 1, ..all() }, r#"rev 5; a{2,5,2,""}; more; count 3"#),
        (
            pb::RangeRequest { sort_order: SortOrder::Descend as i32, limit: 1, ..all() },
            r#"rev 5; c{4,4,1,"2"}; more; count 3"#,
        ),
        (
            pb::RangeRequest { sort_target: SortTarget::Value as i32, ..all() },
            r#"rev 5; b{3,3,1,"1"}; c{4,4,1,"2"}; a{2,5,2,"9"}; count 3"#,
        ),
        (get(""), "etcdserver: key is not provided"),
        (pb::RangeRequest { sort_order: 9, ..get("a") }, "etcdserver: invalid sort option"),
    ];
    for (request, answer) in rows {
        assert_eq!(show(member, request.clone()), answer, "{request:?}");
    }
}

/// Rows 14 to 27.
fn transactions_and_deletes(member: &mut Member) {
    let request = success(vec![
        Request::RequestPut(put("t1", "x")),
        Request::RequestRange(get("t1")),
        Request::RequestDeleteRange(delete("zzz")),
        Request::RequestPut(put("t2", "y")),
    ]);
    let answer = r#"rev 6 true; put rev 6; range rev 6; t1{6,6,1,"x"}; count 1; delete rev 6, 0; put rev 6"#;
    assert_eq!(show_txn(member.txn(request)), answer);
    let request = success(vec![Request::RequestDeleteRange(delete("nope"))]);
    assert_eq!(show_txn(member.txn(request)), "rev 6 true; delete rev 6, 0");
    let answer = member.delete(delete("nope")).unwrap();
    assert_eq!((revision_of(&answer.header), answer.deleted), (6, 0));
    let duplicate = "etcdserver: duplicate key given in txn request";
    let request = success(vec![Request::RequestPut(put("k", "1")), Request::RequestPut(put("k", "2"))]);
    assert_eq!(show_txn(member.txn(request)), duplicate);
    let request =
        success(vec![Request::RequestPut(put("k", "1")), Request::RequestDeleteRange(delete_range("a", "z"))]);
    assert_eq!(show_txn(member.txn(request)), duplicate);
    let request = success(vec![
        Request::RequestDeleteRange(delete("t1")),
        Request::RequestDeleteRange(pb::DeleteRangeRequest { prev_kv: true, ..delete_range("t", "u") }),
    ]);
    assert_eq!(show_txn(member.txn(request)), r#"rev 7 true; delete rev 7, 1; delete rev 7, 1 t2{6,6,1,"y"}"#);
    let request = success(vec![Request::RequestRange(pb::RangeRequest { revision: 999, ..get("a") })]);
    assert_eq!(show_txn(member.txn(request)), "etcdserver: mvcc: required revision is a future revision");
    assert_eq!(show_txn(member.txn(pb::TxnRequest::default())), "rev 7 true");
    use {CompareResult as Is, CompareTarget as The};
    let rows = [
        (compare("miss", "", Is::Equal, The::Version, TargetUnion::Version(0)), "rev 7 true"),
        (compare("miss", "", Is::NotEqual, The::Value, TargetUnion::Value(bytes("x"))), "rev 7 false"),
        (compare("m", "n", Is::Equal, The::Create, TargetUnion::CreateRevision(0)), "rev 7 true"),
        (compare("a", "\0", Is::Less, The::Mod, TargetUnion::ModRevision(6)), "rev 7 true"),
        (compare("a", "c", Is::Greater, The::Value, TargetUnion::Value(bytes("1"))), "rev 7 false"),
    ];
    for (request, answer) in rows {
        assert_eq!(show_txn(member.txn(request.clone())), answer, "{request:?}");
    }
    let refused = [
        (pb::PutRequest { ignore_value: true, ..put("miss", "") }, Error::KeyNotFound),
        (pb::PutRequest { ignore_value: true, ..put("a", "q") }, Error::ValueProvided),
        (pb::PutRequest { lease: 77, ..put("a", "q") }, Error::LeaseNotFound),
    ];
    for (request, error) in refused {
        assert_eq!(member.put(request), Err(error));
    }
}

/// Rows 30 to 38. Lifetimes are raised before a grant is proposed.
fn leases(member: &mut Member) {
    assert_eq!(member.grant(77, 2), Ok(7));
    assert_eq!(member.grant(77, 2), Err(Error::LeaseExists));
    assert_eq!(member.grant(78, 9_000_000_001), Err(Error::LeaseTtlTooLarge));
    assert_eq!(revision_of(&member.put(pb::PutRequest { lease: 77, ..put("L", "q") }).unwrap().header), 8);
    assert_eq!(member.state().view().state.leases.get(77).unwrap().keys.len(), 1);
    assert_eq!(revision_of(&member.put(put("L", "q")).unwrap().header), 9);
    let left = member.state().view().state.leases.get(77).unwrap().keys.len();
    assert_eq!(left, 0, "a key that is put again leaves its lease");
    assert_eq!(member.revoke(12345), Err(Error::LeaseNotFound));
    assert_eq!(member.revoke(77), Ok(9));
}

/// Rows 39 to 46.
fn compaction(member: &mut Member) {
    assert_eq!(member.compact(0), Ok(9));
    assert_eq!(member.compact(0), Err(Error::Compacted));
    assert_eq!(member.compact(3), Ok(9));
    assert_eq!(member.compact(3), Err(Error::Compacted));
    assert_eq!(member.compact(9999), Err(Error::FutureRevision));
    for swept in [false, true] {
        if swept {
            member.sweep_all();
        }
        let at = |revision| pb::RangeRequest { revision, ..get("a") };
        assert_eq!(show(member, at(3)), r#"rev 9; a{2,2,1,"3"}; count 1"#);
        assert_eq!(show(member, at(2)), "etcdserver: mvcc: required revision has been compacted");
    }
    let request = success((0..129).map(|_| Request::RequestRange(get("a"))).collect());
    assert_eq!(member.txn(request), Err(Error::TooManyOps));
}

#[test]
fn requests_are_answered_as_etcd_does() {
    let mut member = Member::new(1);
    ranges_and_puts(&mut member);
    transactions_and_deletes(&mut member);
    leases(&mut member);
    compaction(&mut member);
    member = member.restart();
    assert_eq!(show(&member, get("a")), r#"rev 9; a{2,5,2,"9"}; count 1"#);
}

/// Rows 7b and 7c.
#[test]
fn without_an_explicit_order_the_limit_cuts_by_key_before_the_sort() {
    let mut member = Member::new(1);
    for key in ["z", "a", "b", "c"] {
        member.put(put(key, "")).unwrap();
    }
    let request = pb::RangeRequest { limit: 1, sort_target: SortTarget::Mod as i32, ..all() };
    assert_eq!(show(&member, request.clone()), r#"rev 5; a{3,3,1,""}; more; count 4"#);
    let request = pb::RangeRequest { sort_order: SortOrder::Ascend as i32, ..request };
    assert_eq!(show(&member, request), r#"rev 5; z{2,2,1,""}; more; count 4"#);
}

#[test]
fn hashes_are_those_of_etcd() {
    let mut member = Member::new(1);
    let hash = |member: &Member| {
        let hash = member.state().view().hash_kv(0).unwrap();
        (hash.hash, hash.compacted)
    };
    assert_eq!(hash(&member), (1_084_519_789, -1));
    member.put(put("a", "1")).unwrap();
    member.put(put("b", "2")).unwrap();
    member.delete(delete("a")).unwrap();
    assert_eq!(hash(&member), (1_562_576_432, -1));
    member.compact(3).unwrap();
    assert_eq!(hash(&member), (776_148_148, 3));
    member.sweep_all();
    assert_eq!(hash(&member), (776_148_148, 3));
    let member = member.restart();
    assert_eq!(hash(&member), (776_148_148, 3));
}

#[test]
fn a_transaction_that_cannot_run_whole_changes_nothing() {
    let mut member = Member::new(1);
    for value in ["1", "2", "3"] {
        member.put(put("a", value)).unwrap();
    }
    member.compact(3).unwrap();
    let request = success(vec![
        Request::RequestPut(put("b", "1")),
        Request::RequestRange(pb::RangeRequest { revision: 2, ..get("a") }),
    ]);
    assert_eq!(member.txn(request), Err(Error::Compacted));
    let request = success(vec![
        Request::RequestPut(put("b", "1")),
        Request::RequestTxn(success(vec![Request::RequestPut(pb::PutRequest { ignore_value: true, ..put("c", "") })])),
    ]);
    assert_eq!(member.txn(request), Err(Error::KeyNotFound));
    assert_eq!(show(&member, all()), r#"rev 4; a{2,4,3,"3"}; count 1"#);
}

#[test]
fn nested_transactions_take_their_path_from_the_state_before() {
    let mut member = Member::new(1);
    use {CompareResult as Is, CompareTarget as The};
    let absent = compare("a", "", Is::Equal, The::Version, TargetUnion::Version(0));
    let nested = pb::TxnRequest {
        success: ops(vec![Request::RequestPut(put("b", "absent"))]),
        failure: ops(vec![Request::RequestPut(put("b", "present"))]),
        ..absent
    };
    let request = success(vec![Request::RequestPut(put("a", "1")), Request::RequestTxn(nested)]);
    assert_eq!(show_txn(member.txn(request)), "rev 2 true; put rev 2; txn rev 0 true; put rev 2");
    assert_eq!(show(&member, all()), r#"rev 2; a{2,2,1,"1"}; b{2,2,1,"absent"}; count 2"#);
}

#[test]
fn a_revoked_lease_takes_its_keys_in_one_revision() {
    let mut member = Member::new(1);
    member.grant(5, 10).unwrap();
    for key in ["b", "a", "c"] {
        member.put(pb::PutRequest { lease: 5, ..put(key, "") }).unwrap();
    }
    member.put(pb::PutRequest { ignore_lease: true, ..put("c", "still") }).unwrap();
    assert_eq!(member.revoke(5), Ok(6));
    assert_eq!(show(&member, all()), "rev 6");
    assert_eq!(show(&member, pb::RangeRequest { revision: 5, count_only: true, ..all() }), "rev 6; count 3");
}
