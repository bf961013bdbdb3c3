//! `/health`: whether the cluster would answer a client, with the first reason why not.

use chorus_proto::etcdserverpb as pb;
use http::{Response, StatusCode};
use serde::Serialize;

use super::checks;
use super::query::Query;
use super::response::{TEXT, text, typed};
use crate::etcd::alarm;
use crate::etcd::body::Body;
use crate::etcd::server::EtcdServer;

#[derive(Serialize)]
struct Health {
    health: &'static str,
    reason: String,
}

pub(super) async fn answer(server: &EtcdServer, query: &Query<'_>) -> Response<Body> {
    let outcome = examine(server, query).await;
    server.metrics.health(outcome.is_ok());
    match outcome {
        Ok(()) => typed(StatusCode::OK, TEXT, json("true", String::new())),
        Err(reason) => {
            tracing::warn!(%reason, "the member is not healthy");
            text(StatusCode::SERVICE_UNAVAILABLE, json("false", reason) + "\n")
        }
    }
}

fn json(health: &'static str, reason: String) -> String {
    serde_json::to_string(&Health { health, reason }).expect("strings are JSON")
}

/// Alarms, then the leader, then a read: the first that fails is the reason.
async fn examine(server: &EtcdServer, query: &Query<'_>) -> Result<(), String> {
    let serializable = query.says("serializable", "true");
    let status = checks::status(server).await.map_err(|error| format!("RANGE ERROR:{error}"))?;
    if let Some(raised) = raised(&status, query) {
        return Err(format!("ALARM {}", raised.as_str_name()));
    }
    if !serializable && status.leader == 0 {
        return Err("RAFT NO LEADER".into());
    }
    checks::read(server, serializable).await.map_err(|error| format!("RANGE ERROR:{error}"))
}

fn raised(status: &pb::StatusResponse, query: &Query<'_>) -> Option<pb::AlarmType> {
    let mut alarms = status.errors.iter().filter_map(|text| alarm::parse(text)).map(|member| member.alarm());
    alarms.find(|alarm| !query.says("exclude", alarm.as_str_name()))
}
