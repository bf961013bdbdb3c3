//! What helps to debug a running server: its variables as Go's expvar shows them, and the paths of Go's profiler.

use chorus_proto::etcdserverpb as pb;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::response::text;
use super::{checks, process};
use crate::etcd::body::Body;
use crate::etcd::server::EtcdServer;
use crate::world::process::arguments;

const PROFILES: &str = "/debug/pprof/";

/// Only what is known: this server has no Go heap, so `memstats` has the memory of the process alone.
pub(super) async fn vars(server: &EtcdServer) -> String {
    let disk = &server.world.disk;
    let mut vars = serde_json::Map::new();
    vars.insert("cmdline".into(), json!(arguments()));
    if let Some(limit) = process::fd_limit(disk) {
        vars.insert("file_descriptor_limit".into(), json!(limit));
    }
    vars.insert("memstats".into(), json!({ "Sys": process::resident(disk).unwrap_or_default() }));
    if let Ok(status) = checks::status(server).await {
        vars.insert("raft.status".into(), raft(&status));
    }
    let lines: Vec<_> = vars.iter().map(|(name, value)| format!("{name:?}: {value}")).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

fn raft(status: &pb::StatusResponse) -> Value {
    let member_id = status.header.unwrap_or_default().member_id;
    let state = match status.leader {
        leader if leader == member_id => "StateLeader",
        0 => "StateCandidate",
        _ => "StateFollower",
    };
    json!({
        "id": format!("{member_id:x}"),
        "term": status.raft_term,
        "commit": status.raft_index,
        "lead": format!("{:x}", status.leader),
        "raftState": state,
        "applied": status.raft_applied_index,
    })
}

/// Whether `path` is one of the profiler's.
pub(super) fn profiles(path: &str) -> bool {
    path.starts_with(PROFILES)
}

/// The one profile that does not need a Go runtime, and what to use instead of the others.
pub(super) fn profile(path: &str) -> Response<Body> {
    match path.strip_prefix(PROFILES) {
        Some("") => text(StatusCode::OK, "/debug/pprof/\n\nProfiles:\ncmdline\n".into()),
        Some("cmdline") => text(StatusCode::OK, arguments().join("\0")),
        _ => text(
            StatusCode::NOT_IMPLEMENTED,
            "This server has no Go runtime to profile; use perf(1) on its process.\n".into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_raft_status_tells_who_leads() {
        let mut status = pb::StatusResponse {
            header: Some(pb::ResponseHeader { member_id: 0x1f, ..Default::default() }),
            leader: 0x1f,
            ..Default::default()
        };
        assert_eq!((&raft(&status)["id"], &raft(&status)["raftState"]), (&json!("1f"), &json!("StateLeader")));
        status.leader = 3;
        assert_eq!(raft(&status)["raftState"], "StateFollower");
        status.leader = 0;
        assert_eq!(raft(&status)["lead"], "0");
    }
}
