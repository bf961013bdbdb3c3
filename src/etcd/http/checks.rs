//! `/livez` and `/readyz`: named checks, each also a path of its own.

use chorus_proto::etcdserverpb as pb;
use http::{Response, StatusCode};

use super::query::Query;
use super::response::text;
use crate::etcd::body::Body;
use crate::etcd::server::EtcdServer;
use crate::etcd::{alarm, status as statuses};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVE: &[Check] = &[Check::SerializableRead];
const READY: &[Check] = &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run(self, server: &EtcdServer) -> Result<(), String> {
        match self {
            Check::SerializableRead => read(server, true).await,
            Check::LinearizableRead => read(server, false).await,
            Check::DataCorruption => match is_corrupt(&status(server).await?) {
                true => Err("alarm activated: CORRUPT".into()),
                false => Ok(()),
            },
            Check::NonLearner => match status(server).await?.is_learner {
                true => Err("not supported for learner".into()),
                false => Ok(()),
            },
        }
    }
}

fn is_corrupt(status: &pb::StatusResponse) -> bool {
    let mut alarms = status.errors.iter().filter_map(|text| alarm::parse(text));
    alarms.any(|member| member.alarm() == pb::AlarmType::Corrupt)
}

/// The checks behind `path`, if it is a probe: all of a group, or the one it names.
fn at(path: &str) -> Option<(&'static [Check], bool)> {
    let (group, checks) = match path.strip_prefix("/livez") {
        Some(rest) => (rest, LIVE),
        None => (path.strip_prefix("/readyz")?, READY),
    };
    if group.is_empty() {
        return Some((checks, true));
    }
    let name = group.strip_prefix('/')?;
    let index = checks.iter().position(|check| check.name() == name)?;
    Some((&checks[index..=index], false))
}

pub(super) fn known(path: &str) -> bool {
    at(path).is_some()
}

pub(super) async fn answer(server: &EtcdServer, path: &str, query: &Query<'_>) -> Response<Body> {
    let (checks, is_group) = at(path).expect("only known paths come here");
    let group = if path.starts_with("/livez") { "livez" } else { "readyz" };
    let (mut lines, mut healthy) = (String::new(), true);
    for check in checks {
        if is_group && query.says("exclude", check.name()) {
            continue;
        }
        let outcome = check.run(server).await;
        server.metrics.checked(group, check.name(), outcome.is_ok());
        match outcome {
            Ok(()) => lines += &format!("[+]{} ok\n", check.name()),
            Err(error) => {
                healthy = false;
                lines += &format!("[-]{} failed: {error}\n", check.name());
            }
        }
    }
    match (healthy, query.has("verbose")) {
        (true, false) => text(StatusCode::OK, "ok\n".into()),
        (true, true) => text(StatusCode::OK, lines + "ok\n"),
        (false, _) => text(StatusCode::SERVICE_UNAVAILABLE, lines + "\n"),
    }
}

/// The member's status, or why it does not give one.
pub(super) async fn status(server: &EtcdServer) -> Result<pb::StatusResponse, String> {
    within(server, server.store.status(Default::default())).await
}

/// A read of one key, which need not exist.
pub(super) async fn read(server: &EtcdServer, serializable: bool) -> Result<(), String> {
    let request = pb::RangeRequest {
        key: bytes::Bytes::from_static(b"\0"),
        serializable,
        keys_only: true,
        limit: 1,
        ..Default::default()
    };
    within(server, server.store.range(request)).await.map(drop)
}

async fn within<T>(
    server: &EtcdServer,
    asked: impl Future<Output = Result<T, crate::store::error::Error>>,
) -> Result<T, String> {
    match server.world.clock.timeout(server.config.request_timeout(), asked).await {
        Ok(answered) => answered.map_err(|error| statuses::of(&error).message().to_owned()),
        Err(_) => Err("context deadline exceeded".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_groups_and_their_checks() {
        assert_eq!(at("/livez"), Some((LIVE, true)));
        assert_eq!(at("/readyz/data_corruption"), Some((&[Check::DataCorruption][..], false)));
        assert_eq!(at("/livez/serializable_read"), Some((LIVE, false)));
        for unknown in ["/livez/linearizable_read", "/readyzz", "/livez/", "/health"] {
            assert!(!known(unknown), "{unknown}");
        }
    }
}
