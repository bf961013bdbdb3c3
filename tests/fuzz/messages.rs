//! What comes from clients, peers and operators.

use std::collections::BTreeMap;
use std::path::Path;

use chorus::cli::etcd;
use chorus::cluster::config::ClusterConfig;
use chorus::cluster::server::{FLAGS, Options, check};
use chorus::world::disk::Open;
use chorus::world::{MemoryDisk, World};
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

/// Lines of words: arguments, up to an empty line; then variables, up to another; then the configuration file.
#[test]
fn the_whole_command_line() {
    let samples = [
        "--name=a\n-data-dir\nd\n--listen-client-urls=http://127.0.0.1:1,https://[::1]:2\n--quota-backend-bytes\n-1\n\n\
         ETCD_ELECTION_TIMEOUT=1000\nETCD_INITIAL_CLUSTER=a=http://127.0.0.1:2380\nETCD_CHORUS_REPORTED_VERSION=3.6\n",
        "--config-file=/file\n\n\nname: b\nlisten-peer-urls: unix://p\npeer-transport-security: {auto-tls: true}\n",
        "-h\n--version\n--\n\nETCD_CONFIG_FILE=/file\n\n{\"log-level\": \"debug\", \"socket-options\": []}",
        "--auto-compaction-mode=periodic\n--auto-compaction-retention=1h0.5m\n--cipher-suites=TLS_AES_128_GCM_SHA256\n\
         --experimental-initial-corrupt-check\n--feature-gates=AllAlpha=true,InitialCorruptCheck=x\n--host-whitelist=*\n",
        "--discovery-endpoints=a,b\n--discovery-token=t\n--log-outputs=stderr,/x\n--log-rotation-config-json={\"maxsize\":1}\n",
    ];
    let samples = samples.map(|text| text.as_bytes().to_vec());
    bend("command line", &samples, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let mut parts = text.splitn(3, "\n\n");
        let mut lines = || parts.next().unwrap_or_default().lines();
        let arguments: Vec<String> = lines().map(str::to_owned).collect();
        let variable = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables: BTreeMap<String, String> = lines().filter_map(variable).collect();
        let world = World::simulated(1, MemoryDisk::new());
        let file = parts.next().unwrap_or_default().as_bytes();
        world.disk.open(Path::new("/file"), Open::CreateNew).unwrap().write_all_at(file, 0).unwrap();
        if let Ok(etcd::Invocation::Serve(mut options, _)) = etcd::read(&world.disk, &arguments, &variables)
            && check::check(&options).is_ok()
        {
            options.update_default_cluster_from_name(None);
        }
    });
}

#[test]
fn the_configuration_of_a_cluster() {
    let file = "name = \"test\"\nstore-endpoints = [\"http://a:1\"]\n[timing]\nheartbeat-ms = 100\n\
        [store-tls]\nca-file = \"a\"\n[kubernetes]\nnode-grace-s = 6\nservice-cidr = \"10.0.0.0/8\"\n\
        [[node]]\nname = \"n1\"\nroles = [\"store\", \"apiserver\"]\nclient = \"127.0.0.1:1\"\n\
        peer = \"[::1]:2\"\napi = \"localhost:3\"\n[[node]]\nname = 'n2'\nroles = []\n";
    bend("cluster", &[file.as_bytes().to_vec()], |bytes| {
        if let Ok(config) = ClusterConfig::parse(Path::new("c.toml"), &String::from_utf8_lossy(bytes)) {
            config.store_urls();
        }
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
