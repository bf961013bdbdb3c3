//! What comes from clients, peers and operators.

use chorus::cluster::server::{FLAGS, Options};
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::request_op::Request;
use prost::Message;

use crate::mutate::bend;

fn put() -> pb::PutRequest {
    pb::PutRequest { key: "key".into(), value: "value".into(), lease: 7, prev_kv: true, ..Default::default() }
}

fn txn() -> pb::TxnRequest {
    let compare = pb::Compare {
        key: "key".into(),
        target_union: Some(pb::compare::TargetUnion::Value("v".into())),
        ..Default::default()
    };
    let op = |request| pb::RequestOp { request: Some(request) };
    let inner = pb::TxnRequest { success: vec![op(Request::RequestPut(put()))], ..Default::default() };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(Request::RequestTxn(inner)), op(Request::RequestRange(pb::RangeRequest::default()))],
        failure: vec![op(Request::RequestDeleteRange(pb::DeleteRangeRequest::default()))],
    }
}

#[test]
fn protobuf() {
    let create = pb::WatchCreateRequest { key: "key".into(), filters: vec![0, 1], ..Default::default() };
    let watch = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    let raft = pb::InternalRaftRequest { put: Some(put()), txn: Some(txn()), ..Default::default() };
    let samples =
        [put().encode_to_vec(), txn().encode_to_vec(), watch.encode_to_vec(), raft.encode_to_vec(), Vec::new()];
    bend("protobuf", &samples, |bytes| {
        // Each as any of them: a decoder must stand what was meant for another.
        let _ = pb::RangeRequest::decode(bytes);
        let _ = pb::PutRequest::decode(bytes);
        let _ = pb::TxnRequest::decode(bytes);
        let _ = pb::WatchRequest::decode(bytes);
        let _ = pb::LeaseGrantRequest::decode(bytes);
        let _ = pb::InternalRaftRequest::decode(bytes);
        let _ = pb::SnapshotResponse::decode(bytes);
    });
}

#[test]
fn options_of_the_command_line() {
    let values = ["1", "true", "http://127.0.0.1:2379,unix://a:1", "5m0s", "a=http://b:1", "1.2.3", "k=v,k2=v2", ""];
    let samples: Vec<Vec<u8>> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
    let mut turn = 0;
    bend("flags", &samples, |bytes| {
        let flag = &FLAGS[turn % FLAGS.len()];
        turn += 1;
        let _ = Options::default().set(flag.name, &String::from_utf8_lossy(bytes));
    });
}

#[test]
fn the_configuration_file() {
    let file = "name: one\ndata-dir: /tmp/one\nlisten-client-urls: http://127.0.0.1:2379\nquota-backend-bytes: 0\n\
        client-transport-security:\n  cert-file: a\n  client-cert-auth: true\ncors: '*'\nlog-outputs: [stderr]\n\
        election-timeout: 1000\nfeature-gates: InitialCorruptCheck=true\nanchored: &a {x: [*a, 1e400, 0x, ~]}\n";
    let samples = [file.as_bytes().to_vec(), b"{\"name\": [1, {}]}".to_vec(), b"- - - ? : |\n >".to_vec()];
    bend("configuration", &samples, |bytes| drop(Options::from_file(bytes)));
}
