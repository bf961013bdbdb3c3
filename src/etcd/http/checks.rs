//! `/livez` and `/readyz`: named checks, each also a path of its own.

use chorus_proto::etcdserverpb as pb;
use http::{Response, StatusCode};

use super::{Query, text};
use crate::etcd::body::Body;
use crate::etcd::frontend::Shared;
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

    async fn run(self, shared: &Shared) -> Result<(), String> {
        match self {
            Check::SerializableRead => read(shared, true).await,
            Check::LinearizableRead => read(shared, false).await,
            Check::DataCorruption => match is_corrupt(&status(shared).await?) {
                true => Err("alarm activated: CORRUPT".into()),
                false => Ok(()),
            },
            Check::NonLearner => match status(shared).await?.is_learner {
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

pub(super) async fn answer(shared: &Shared, path: &str, query: &Query<'_>) -> Response<Body> {
    let (checks, is_group) = at(path).expect("only known paths come here");
    let group = if path.starts_with("/livez") { "livez" } else { "readyz" };
    let (mut lines, mut healthy) = (String::new(), true);
    for check in checks {
        if is_group && query.says("exclude", check.name()) {
            continue;
        }
        let outcome = check.run(shared).await;
        shared.metrics.checked(group, check.name(), outcome.is_ok());
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

/// The member's status, or why it is not to be had.
pub(super) async fn status(shared: &Shared) -> Result<pb::StatusResponse, String> {
    within(shared, shared.store.status(Default::default())).await
}

/// A read of one key, which need not exist.
pub(super) async fn read(shared: &Shared, serializable: bool) -> Result<(), String> {
    let request = pb::RangeRequest {
        key: bytes::Bytes::from_static(b"\0"),
        serializable,
        keys_only: true,
        limit: 1,
        ..Default::default()
    };
    within(shared, shared.store.range(request)).await.map(drop)
}

async fn within<T>(
    shared: &Shared,
    asked: impl Future<Output = Result<T, crate::store::error::Error>>,
) -> Result<T, String> {
    match shared.world.clock.timeout(shared.config.request_timeout(), asked).await {
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
