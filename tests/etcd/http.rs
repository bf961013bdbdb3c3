//! The plain HTTP endpoints, asked as curl would.

use chorus::store::error::Error;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::kv_client::KvClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::frozen::Frozen;
use crate::{Running, run};

/// Status line and headers, and the body.
async fn ask(running: &Running, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The status code and the body of each path.
async fn check(store: Frozen, expected: &[(&str, u16, &str)]) {
    let running = Running::start(store).await;
    for (path, code, text) in expected {
        let (head, body) = ask(&running, "GET", path).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{path}: {head}");
        assert_eq!(body, *text, "{path}");
    }
    running.stop().await;
}

#[test]
fn a_healthy_member_says_so_everywhere() {
    run(check(
        Frozen::default(),
        &[
            ("/version", 200, r#"{"etcdserver":"3.7.1","etcdcluster":"3.6.0","storage":"3.6.0"}"#),
            ("/health", 200, r#"{"health":"true","reason":""}"#),
            ("/health?serializable=true&exclude=NOSPACE", 200, r#"{"health":"true","reason":""}"#),
            ("/livez", 200, "ok\n"),
            ("/livez?verbose", 200, "[+]serializable_read ok\nok\n"),
            ("/readyz", 200, "ok\n"),
            ("/readyz/linearizable_read", 200, "ok\n"),
            ("/readyz/nothing", 404, "404 page not found\n"),
            ("/v2/keys", 404, "404 page not found\n"),
            ("/v3/kv/nope", 404, r#"{"code":5,"message":"Not Found"}"#),
        ],
    ));
}

#[test]
fn paths_with_idle_steps_are_moved_whatever_bytes_they_hold() {
    run(async {
        let running = Running::start(Frozen::default()).await;
        for (path, status) in [
            ("//version?a=b", "307 Temporary Redirect"),
            ("//caf\u{e9}?\u{e9}", "307 Temporary Redirect"),
            ("//\u{7f}", "400 Bad Request"),
        ] {
            let (head, _) = ask(&running, "GET", path).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path:?}: {head}");
            if status.starts_with("307") {
                assert!(head.contains(&format!("Location: {}\r\n", &path[1..])), "{path:?}: {head}");
            }
        }
        running.stop().await;
    });
}

#[test]
fn without_a_leader_the_member_is_unhealthy() {
    run(check(
        Frozen::without_leader(),
        &[
            ("/health", 503, "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n"),
            ("/health?serializable=true", 200, r#"{"health":"true","reason":""}"#),
        ],
    ));
}

#[test]
fn a_failing_read_is_the_reason() {
    let failed = "[-]serializable_read failed: etcdserver: request timed out\n\n";
    run(check(
        Frozen::failing(Error::Timeout),
        &[
            ("/health", 503, "{\"health\":\"false\",\"reason\":\"RANGE ERROR:etcdserver: request timed out\"}\n"),
            ("/livez", 503, failed),
            ("/readyz?exclude=serializable_read&exclude=linearizable_read", 200, "ok\n"),
        ],
    ));
}

#[test]
fn alarms_are_reasons_unless_they_are_excluded() {
    run(check(
        Frozen::alarmed("memberID:1 alarm:NOSPACE "),
        &[
            ("/health", 503, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n"),
            ("/health?exclude=NOSPACE", 200, r#"{"health":"true","reason":""}"#),
            ("/readyz", 200, "ok\n"),
        ],
    ));
    run(check(
        Frozen::alarmed("memberID:1 alarm:CORRUPT "),
        &[("/readyz/data_corruption", 503, "[-]data_corruption failed: alarm activated: CORRUPT\n\n")],
    ));
}

#[test]
fn only_get_is_allowed_and_any_origin() {
    run(async {
        let running = Running::start(Frozen::default()).await;
        let (head, body) = ask(&running, "POST", "/version").await;
        assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("\r\nAllow: GET"), "{head}");
        assert_eq!(body, "Method Not Allowed\n");
        let (head, _) = ask(&running, "OPTIONS", "/version").await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("\r\nAccess-Control-Allow-Origin: *"), "{head}");
        running.stop().await;
    });
}

#[test]
fn metrics_count_calls_and_show_the_member() {
    run(async {
        let running = Running::start(Frozen::default()).await;
        let put = pb::PutRequest { key: "k".into(), ..Default::default() };
        KvClient::new(running.channel().await).put(put).await.unwrap();
        let (head, body) = ask(&running, "GET", "/metrics").await;
        assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        for line in [
            "etcd_server_version{server_version=\"3.7.1\"} 1\n",
            "etcd_cluster_version{cluster_version=\"3.6\"} 1\n",
            "etcd_server_has_leader 1\n",
            "etcd_server_is_leader 1\n",
            "etcd_mvcc_db_total_size_in_bytes 20480\n",
            "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1\n",
            "etcd_server_client_requests_total{client_api_version=\"unknown\",type=\"unary\"} 1\n",
        ] {
            assert!(body.contains(line), "{line}\n{body}");
        }
        running.stop().await;
    });
}
