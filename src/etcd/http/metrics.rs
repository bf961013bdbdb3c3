//! `/metrics`: the frontend's counters and the member's status, under etcd's names.

use chorus_proto::etcdserverpb as pb;

use super::{checks, process};
use crate::actor::connections;
use crate::actor::metrics::{Exposition, Source as _};
use crate::etcd::config::Feature;
use crate::etcd::server::EtcdServer;

pub(super) async fn text(server: &EtcdServer) -> String {
    let _scrape = server.metrics.scrape();
    let mut text = Exposition::default();
    let versions = &server.config.versions;
    text.statement("etcd_server_version", "The version of the server.", "server_version", &versions.server);
    if let Some(cluster) = server.store.versions().cluster {
        text.statement("etcd_cluster_version", "The version of the cluster.", "cluster_version", minor(&cluster));
    }
    expose_features(&mut text, &server.config.features);
    text.statement("etcd_server_go_version", "No Go runtime runs here.", "server_go_version", "none");
    if let Ok(status) = checks::status(server).await {
        expose_status(&mut text, &status);
    }
    server.config.metrics.expose(&mut text);
    server.metrics.expose(&mut text);
    server.world.spawner.roster().expose(&mut text);
    connections::expose(&mut text, &server.world.net);
    process::expose(&mut text, &server.world.disk);
    text.into_text()
}

fn expose_features(text: &mut Exposition, features: &[Feature]) {
    if features.is_empty() {
        return;
    }
    let name = "etcd_server_feature_enabled";
    text.family(name, "gauge", "Whether or not a feature is enabled. 1 is enabled, 0 is not.");
    for feature in features {
        text.sample(name, &[("name", feature.name), ("stage", feature.stage)], u8::from(feature.enabled));
    }
}

/// `3.6` of `3.6.0`.
fn minor(version: &str) -> &str {
    version.match_indices('.').nth(1).map_or(version, |(end, _)| &version[..end])
}

fn expose_status(text: &mut Exposition, status: &pb::StatusResponse) {
    let header = status.header.unwrap_or_default();
    text.statement("etcd_server_id", "The member's ID.", "server_id", &format!("{:x}", header.member_id));
    let is_leader = status.leader != 0 && status.leader == header.member_id;
    for (name, help, value) in [
        ("etcd_server_has_leader", "Whether the member knows a leader.", i64::from(status.leader != 0)),
        ("etcd_server_is_leader", "Whether the member is the leader.", i64::from(is_leader)),
        ("etcd_server_is_learner", "Whether the member is a learner.", i64::from(status.is_learner)),
        ("etcd_server_quota_backend_bytes", "The quota of the database in bytes.", status.db_size_quota),
        ("etcd_mvcc_db_total_size_in_bytes", "The size of the database in bytes.", status.db_size),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", "The bytes of the database in use.", status.db_size_in_use),
    ] {
        text.gauge(name, help, value);
    }
    for (name, help, value) in [
        ("etcd_server_proposals_committed_total", "Committed Raft entries.", status.raft_index),
        ("etcd_server_proposals_applied_total", "Applied Raft entries.", status.raft_applied_index),
    ] {
        text.gauge(name, help, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_shown_under_etcds_names() {
        let status = pb::StatusResponse {
            header: Some(pb::ResponseHeader { member_id: 0x8e9e, revision: 7, ..Default::default() }),
            leader: 0x8e9e,
            db_size: 20480,
            ..Default::default()
        };
        let mut text = Exposition::default();
        expose_status(&mut text, &status);
        let text = text.into_text();
        for line in [
            "etcd_server_id{server_id=\"8e9e\"} 1\n",
            "etcd_server_has_leader 1\n",
            "etcd_server_is_leader 1\n",
            "etcd_server_is_learner 0\n",
            "etcd_mvcc_db_total_size_in_bytes 20480\n",
        ] {
            assert!(text.contains(line), "{line}");
        }
        assert_eq!((minor("3.6.0"), minor("3.6"), minor("not_decided")), ("3.6", "3.6", "not_decided"));
    }
}
