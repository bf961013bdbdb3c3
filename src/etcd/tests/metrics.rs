//! What `/metrics` shows, by name.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};

use super::{Member, run};

/// The names that etcd's own tests and dashboards look for, without what belongs to a Go runtime, and without what the
/// kernel tells, which a disk in memory does not know.
const NAMES: &str = include_str!("metrics.txt");

async fn metrics(member: &Member) -> String {
    let request = Request::get("/metrics").header("host", "localhost").body(Full::<Bytes>::default()).unwrap();
    let body = member.send(request).await.into_body().collect().await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

#[test]
fn every_name_is_shown() {
    run(async {
        let member = Member::start().await;
        for path in ["/v3/kv/put", "/v3/kv/range", "/v3/kv/deleterange"] {
            member.post(path, r#"{"key":"YQ=="}"#.into()).await;
        }
        member.post("/v3/cluster/member/promote", r#"{"ID":"5"}"#.into()).await;
        let shown = metrics(&member).await;
        let missing: Vec<_> = NAMES.lines().filter(|name| !shown.contains(&format!("# TYPE {name} "))).collect();
        assert!(missing.is_empty(), "{missing:?}");
        for line in [
            "etcd_mvcc_put_total 1\n",
            "etcd_mvcc_range_total 1\n",
            "etcd_mvcc_delete_total 1\n",
            "etcd_debugging_mvcc_keys_total 0\n",
            "etcd_debugging_mvcc_current_revision 3\n",
            "etcd_debugging_mvcc_total_put_size_in_bytes 1\n",
            "etcd_server_apply_duration_seconds_count{op=\"Put\",success=\"true\",version=\"v3\"} 1\n",
            "etcd_server_request_duration_seconds_count{success=\"true\",type=\"Range\"} 1\n",
            "etcd_server_learner_promote_failures{Reason=\"etcdserver: member not found\"} 1\n",
            "etcd_network_known_peers{Local=\"1\",Remote=\"1\"} 1\n",
        ] {
            assert!(shown.contains(line), "{line}");
        }
        let names = shown.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name is shown twice");
        member.stop().await;
    });
}
