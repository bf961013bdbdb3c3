//! What clients of etcd ask a running member.

use std::time::Duration;

use bytes::Bytes;
use chorus::store::client::Client;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::request_op::Request as Op;
use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpStream;

use crate::member::Running;
use crate::mutate::bend;

/// How long an answer is waited for: some calls have none until somebody else acts.
const PATIENCE: Duration = Duration::from_millis(5);

/// A path of the gateway, and a body for it. What ends the member, or locks the test out, is not among them.
const CALLS: &[&str] = &[
    r#"kv/range {"key":"YQ==","range_end":"AA==","limit":"5","revision":2,"sort_order":"DESCEND","sort_target":"MOD"}"#,
    r#"kv/range {"key":"AA==","rangeEnd":"AA==","serializable":true,"keys_only":true,"min_mod_revision":"1"}"#,
    r#"kv/put {"key":"YQ==","value":"YmFy","lease":"7","prev_kv":true,"ignore_value":false}"#,
    r#"kv/put {"key":"YWI=","value":"eA=="}"#,
    r#"kv/deleterange {"key":"YQ==","range_end":"Yg==","prev_kv":true}"#,
    r#"kv/txn {"compare":[{"result":"EQUAL","target":"VERSION","key":"YQ==","version":"0","range_end":"Yg=="}],
        "success":[{"request_put":{"key":"YQ==","value":"eA=="}},{"request_txn":{"failure":[{"requestRange":{"key":"YQ=="}}]}}],
        "failure":[{"request_delete_range":{"key":"YQ=="}}]}"#,
    r#"kv/compaction {"revision":"3","physical":true}"#,
    r#"watch {"create_request":{"key":"YQ==","range_end":"Yg==","start_revision":"1","prev_kv":true,"filters":["NOPUT"]}}"#,
    r#"watch {"create_request":{"watch_id":3,"fragment":true}}{"cancel_request":{"watch_id":3}}{"progress_request":{}}"#,
    r#"lease/grant {"TTL":"10","ID":"7"}"#,
    r#"lease/revoke {"ID":"7"}"#,
    r#"lease/keepalive {"ID":"7"}"#,
    r#"kv/lease/timetolive {"ID":"7","keys":true}"#,
    r#"lease/leases {}"#,
    r#"cluster/member/list {"linearizable":true}"#,
    r#"maintenance/alarm {"action":"DEACTIVATE","memberID":"1","alarm":"NOSPACE"}"#,
    r#"maintenance/status {}"#,
    r#"maintenance/hashkv {"revision":"2","compact_revision":1}"#,
    r#"lock/lock {"name":"bA==","lease":"7"}"#,
    r#"lock/unlock {"key":"bC83"}"#,
    r#"election/campaign {"name":"ZQ==","lease":"7","value":"dg=="}"#,
    r#"election/observe {"name":"ZQ=="}"#,
    r#"election/resign {"leader":{"name":"ZQ==","key":"ZS83","rev":"4","lease":"7"}}"#,
    r#"auth/user/add {"name":"u","hashedPassword":"eA==","options":{"no_password":true}}"#,
    r#"auth/user/get {"name":"u"}"#,
    r#"auth/role/grant {"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"AA=="}}"#,
    r#"auth/role/add {"name":"r"}"#,
    r#"auth/authenticate {"name":"u","password":""}"#,
];

#[test]
fn of_the_json_gateway() {
    let member = Running::start();
    let samples: Vec<Vec<u8>> = CALLS.iter().map(|call| call.as_bytes().to_vec()).collect();
    let mut connection = None;
    bend("gateway", &samples, |bytes| {
        let (path, body) = bytes.split_at(bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len()));
        let Ok(uri) = http::Uri::try_from([b"/v3/", path].concat()) else { return };
        let body = Full::new(Bytes::copy_from_slice(body));
        let request = http::Request::post(uri).header("host", "member").body(body).unwrap();
        let sender = connection.take().unwrap_or_else(|| member.run(PATIENCE * 1_000, connect(&member)).unwrap());
        connection = member.run(PATIENCE, ask(sender, request)).flatten();
    });
}

type Sender = SendRequest<Full<Bytes>>;

async fn connect(member: &Running) -> Sender {
    let socket = TcpStream::connect(member.address).await.unwrap();
    let (sender, connection) = handshake(TokioIo::new(socket)).await.unwrap();
    tokio::task::spawn_local(connection);
    sender
}

/// The connection again, when it has no more to say.
async fn ask(mut sender: Sender, request: http::Request<Full<Bytes>>) -> Option<Sender> {
    let response = sender.send_request(request).await.ok()?;
    response.into_body().collect().await.ok()?;
    sender.ready().await.ok()?;
    Some(sender)
}

#[test]
fn of_the_store() {
    let member = Running::start();
    let range = pb::RangeRequest { key: "a".into(), range_end: "\0".into(), limit: 3, ..Default::default() };
    let put = pb::PutRequest { key: "a".into(), value: "x".into(), prev_kv: true, ..Default::default() };
    let delete = pb::DeleteRangeRequest { key: "a".into(), prev_kv: true, ..Default::default() };
    let compare = pb::Compare {
        key: "a".into(),
        target: pb::compare::CompareTarget::Mod as i32,
        target_union: Some(pb::compare::TargetUnion::ModRevision(2)),
        ..Default::default()
    };
    let op = |request| pb::RequestOp { request: Some(request) };
    let inner = pb::TxnRequest { success: vec![op(Op::RequestPut(put.clone()))], ..Default::default() };
    let txn = pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(Op::RequestTxn(inner)), op(Op::RequestDeleteRange(delete.clone()))],
        failure: vec![op(Op::RequestRange(range.clone()))],
    };
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 7 };
    let create = pb::WatchCreateRequest { key: "a".into(), start_revision: 1, filters: vec![0], ..Default::default() };
    let watch = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    let samples = [
        range.encode_to_vec(),
        put.encode_to_vec(),
        delete.encode_to_vec(),
        txn.encode_to_vec(),
        grant.encode_to_vec(),
        watch.encode_to_vec(),
    ];
    let mut turn = 0;
    bend("calls", &samples, |bytes| {
        turn += 1;
        // Each as each of them: numbers that are keys elsewhere.
        member.run(PATIENCE, call(&member.store, turn % 9, bytes));
    });
}

async fn call(store: &Client, kind: u32, bytes: &[u8]) {
    fn as_message<M: Message + Default>(bytes: &[u8]) -> M {
        M::decode(bytes).unwrap_or_default()
    }
    // Refusals are as good as answers.
    match kind {
        0 => drop(store.range(as_message(bytes)).await),
        1 => drop(store.put(as_message(bytes)).await),
        2 => drop(store.delete_range(as_message(bytes)).await),
        3 => drop(store.compact(as_message(bytes)).await),
        4 => drop(store.lease_grant(as_message(bytes)).await),
        5 => drop(store.lease_time_to_live(as_message(bytes)).await),
        6 => {
            let requests = futures::stream::iter([as_message(bytes)]).chain(futures::stream::pending());
            if let Ok(mut responses) = store.watch(requests.boxed()).await {
                let _ = (responses.next().await, responses.next().await);
            }
        }
        _ => drop(store.txn(as_message(bytes)).await),
    }
}
