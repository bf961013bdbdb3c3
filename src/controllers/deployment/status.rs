//! A deployment's status: counts and conditions. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::replica_sets::ReplicaSets;
use super::rollout::{ReplicaCounts, RollingLimits};

pub const AVAILABLE: &str = "Available";
pub const PROGRESSING: &str = "Progressing";
pub const REPLICA_FAILURE: &str = "ReplicaFailure";

const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// A condition that begins now.
pub fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.into()),
        last_transition_time: Some(Time(now)),
        last_update_time: Some(Time(now)),
    }
}

pub fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Puts a condition in the place of the former one of its type. One that says the same stays as it is, with its times.
pub fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(former) = find(status, &condition.type_) {
        if (&former.status, &former.reason) == (&condition.status, &condition.reason) {
            return;
        }
        if former.status == condition.status {
            condition.last_transition_time.clone_from(&former.last_transition_time);
        }
    }
    replace(status, condition);
}

fn replace(status: &mut DeploymentStatus, condition: DeploymentCondition) {
    remove(status, &condition.type_);
    status.conditions.get_or_insert_default().push(condition);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
    }
}

/// How long a rollout may go without progress; `None` if there is no deadline.
fn deadline(deployment: &Deployment) -> Option<SignedDuration> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    (seconds != i32::MAX).then(|| SignedDuration::from_secs(i64::from(seconds)))
}

pub fn has_deadline(deployment: &Deployment) -> bool {
    deadline(deployment).is_some()
}

/// The counts and the availability; other conditions are as they were.
pub fn calculate(deployment: &Deployment, sets: &ReplicaSets, now: Timestamp) -> DeploymentStatus {
    let spec = deployment.spec.clone().unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1);
    let all = || sets.new.iter().chain(&sets.old);
    let total = |count: fn(ReplicaCounts) -> i32| all().map(|set| count(ReplicaCounts::of(set))).sum::<i32>();
    let told = |count: fn(&ReplicaSet) -> Option<i32>| all().filter_map(|set| count(set)).sum::<i32>();
    let available = total(|set| set.available);
    let nonzero = |count: i32| (count != 0).then_some(count);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(total(|set| set.replicas)),
        updated_replicas: nonzero(sets.new.as_ref().map_or(0, |new| ReplicaCounts::of(new).replicas)),
        ready_replicas: nonzero(told(|set| set.status.as_ref()?.ready_replicas)),
        available_replicas: nonzero(available),
        unavailable_replicas: nonzero((total(|set| set.wanted) - available).max(0)),
        terminating_replicas: Some(told(|set| set.status.as_ref()?.terminating_replicas)),
        ..deployment.status.clone().unwrap_or_default()
    };
    let enough = available >= wanted - RollingLimits::of(&spec).max_unavailable;
    set(
        &mut status,
        match enough {
            true => {
                let message = "Deployment has minimum availability.";
                condition(AVAILABLE, "True", "MinimumReplicasAvailable", message, now)
            }
            false => {
                let message = "Deployment does not have minimum availability.";
                condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message, now)
            }
        },
    );
    status
}

/// Whether all replicas are updated and available, and no old ones are left.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let counts = [status.updated_replicas, status.replicas, status.available_replicas];
    counts.iter().all(|count| count.unwrap_or(0) == wanted)
        && status.observed_generation >= deployment.metadata.generation
}

/// The status during a rollout, with its progress and failures.
pub fn calculate_after_rollout(deployment: &Deployment, sets: &ReplicaSets, now: Timestamp) -> DeploymentStatus {
    let mut status = calculate(deployment, sets, now);
    progress(deployment, sets, &mut status, now);
    match failure(sets) {
        Some(failure) => set(&mut status, failure),
        None => remove(&mut status, REPLICA_FAILURE),
    }
    status
}

fn progress(deployment: &Deployment, sets: &ReplicaSets, status: &mut DeploymentStatus, now: Timestamp) {
    if !has_deadline(deployment) {
        return remove(status, PROGRESSING);
    }
    let former = find(status, PROGRESSING).cloned();
    let was_complete = former.as_ref().is_some_and(|former| former.reason.as_deref() == Some(COMPLETE));
    if was_complete && status.replicas == status.updated_replicas {
        return; // Nothing is being rolled out: pods that come and go are no progress.
    }
    let before = deployment.status.clone().unwrap_or_default();
    let subject = subject(deployment, sets);
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set(status, condition(PROGRESSING, "True", COMPLETE, message, now));
    } else if moved(&before, status) {
        let message = format!("{subject} is progressing.");
        let mut progressing = condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
        if let Some(former) = former.filter(|former| former.status == "True") {
            progressing.last_transition_time = former.last_transition_time;
        }
        replace(status, progressing);
    } else if timed_out(deployment, former.as_ref(), now) {
        let message = format!("{subject} has timed out progressing.");
        set(status, condition(PROGRESSING, "False", TIMED_OUT, message, now));
    }
}

fn subject(deployment: &Deployment, sets: &ReplicaSets) -> String {
    match &sets.new {
        Some(set) => format!("ReplicaSet {:?}", set.metadata.name.as_deref().unwrap_or_default()),
        None => format!("Deployment {:?}", deployment.metadata.name.as_deref().unwrap_or_default()),
    }
}

/// More pods of the new template, fewer of the old ones, more that are ready or available.
fn moved(before: &DeploymentStatus, now: &DeploymentStatus) -> bool {
    let updated = |status: &DeploymentStatus| status.updated_replicas.unwrap_or(0);
    let old = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - updated(status);
    updated(now) > updated(before)
        || old(now) < old(before)
        || now.ready_replicas.unwrap_or(0) > before.ready_replicas.unwrap_or(0)
        || now.available_replicas.unwrap_or(0) > before.available_replicas.unwrap_or(0)
}

/// Whether the last progress is longer ago than the deadline allows. Once it was, it stays so until there is progress.
fn timed_out(deployment: &Deployment, former: Option<&DeploymentCondition>, now: Timestamp) -> bool {
    let (Some(former), Some(deadline)) = (former, deadline(deployment)) else { return false };
    match former.reason.as_deref() {
        Some(COMPLETE) => false,
        Some(TIMED_OUT) => true,
        _ => former.last_update_time.as_ref().is_some_and(|from| now.duration_since(from.0) > deadline),
    }
}

/// Why a replica set could not create or delete its pods; the new one's reason counts first.
fn failure(sets: &ReplicaSets) -> Option<DeploymentCondition> {
    let conditions = sets.new.iter().chain(&sets.old).filter_map(|set| set.status.as_ref()?.conditions.as_ref());
    let failure = conditions.flatten().find(|condition| condition.type_ == REPLICA_FAILURE)?;
    Some(DeploymentCondition {
        type_: failure.type_.clone(),
        status: failure.status.clone(),
        reason: failure.reason.clone(),
        message: failure.message.clone(),
        last_transition_time: failure.last_transition_time.clone(),
        last_update_time: failure.last_transition_time.clone(),
    })
}

/// The condition of a deployment that was paused or resumed since its status was written: the deadline does not run
/// while it is paused. A deadline that was exceeded stays so.
pub fn pause_condition(deployment: &Deployment, now: Timestamp) -> Option<DeploymentCondition> {
    if !has_deadline(deployment) {
        return None;
    }
    let said = deployment.status.as_ref().and_then(|status| find(status, PROGRESSING)?.reason.as_deref());
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    match (paused, said) {
        (_, Some(TIMED_OUT)) => None,
        (true, said) if said != Some(PAUSED) => {
            Some(condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused", now))
        }
        (false, Some(PAUSED)) => {
            Some(condition(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed", now))
        }
        _ => None,
    }
}

/// How long until a rollout without progress exceeds its deadline; `None` if it can't.
pub fn next_check(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let condition = find(status, PROGRESSING)?;
    if matches!(condition.reason.as_deref(), Some(COMPLETE | TIMED_OUT | PAUSED)) {
        return None;
    }
    let left = deadline(deployment)? - now.duration_since(condition.last_update_time.as_ref()?.0);
    // Times in a status are whole seconds.
    Some(Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn deployment(deadline: i32) -> Deployment {
        let spec = json!({"replicas": 2, "selector": {}, "template": {}, "progressDeadlineSeconds": deadline});
        serde_json::from_value(json!({"metadata": {"name": "web", "generation": 1}, "spec": spec})).unwrap()
    }

    fn set_of(wanted: i32, status: Value) -> Arc<ReplicaSet> {
        let spec = json!({"replicas": wanted, "selector": {}});
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "web-1"}, "spec": spec, "status": status})).unwrap(),
        )
    }

    fn new(ready: i32) -> ReplicaSets {
        let status = json!({"replicas": 2, "readyReplicas": ready, "availableReplicas": ready});
        ReplicaSets { new: Some(set_of(2, status)), old: Vec::new() }
    }

    fn said(deployment: &Deployment) -> (String, String) {
        let condition = find(deployment.status.as_ref().unwrap(), PROGRESSING).unwrap();
        (condition.status.clone(), condition.reason.clone().unwrap())
    }

    #[test]
    fn a_rollout_that_stands_still_times_out_and_says_so_until_it_moves() {
        let mut web = deployment(10);
        let mut write_status = |sets: &ReplicaSets, second| {
            web.status = Some(calculate_after_rollout(&web, sets, at(second)));
            said(&web)
        };
        assert_eq!(write_status(&new(0), 0), ("True".into(), "ReplicaSetUpdated".into()));
        assert_eq!(
            write_status(&new(0), 10),
            ("True".into(), "ReplicaSetUpdated".into()),
            "the deadline is not over yet"
        );
        for second in [11, 12, 500] {
            assert_eq!(
                write_status(&new(0), second),
                ("False".into(), "ProgressDeadlineExceeded".into()),
                "at {second}"
            );
        }
        assert_eq!(write_status(&new(1), 501), ("True".into(), "ReplicaSetUpdated".into()));
        assert_eq!(write_status(&new(2), 502), ("True".into(), "NewReplicaSetAvailable".into()));
        assert_eq!(
            write_status(&new(1), 600),
            ("True".into(), "NewReplicaSetAvailable".into()),
            "no rollout is under way"
        );
    }

    #[test]
    fn what_says_the_same_is_not_written_again() {
        let mut web = deployment(10);
        web.status = Some(calculate_after_rollout(&web, &new(0), at(0)));
        assert_eq!(web.status, Some(calculate_after_rollout(&web, &new(0), at(5))));
        web.status = Some(calculate_after_rollout(&web, &new(0), at(20)));
        assert_eq!(web.status, Some(calculate_after_rollout(&web, &new(0), at(30))));
    }

    #[test]
    fn conditions_of_others_stay() {
        let mut web = deployment(10);
        let mut status = DeploymentStatus::default();
        set(&mut status, condition("example.com/Checked", "True", "Fine", "", at(0)));
        web.status = Some(status);
        assert!(find(&calculate_after_rollout(&web, &new(0), at(1)), "example.com/Checked").is_some());
    }

    #[test]
    fn a_failing_replica_set_shows_until_it_recovers() {
        let mut web = deployment(10);
        let failure = json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"});
        let failing =
            ReplicaSets { new: Some(set_of(2, json!({"replicas": 0, "conditions": [failure]}))), old: Vec::new() };
        web.status = Some(calculate_after_rollout(&web, &failing, at(0)));
        let shown = find(web.status.as_ref().unwrap(), REPLICA_FAILURE).unwrap();
        assert_eq!((shown.reason.as_deref(), shown.message.as_deref()), (Some("FailedCreate"), Some("quota")));
        assert!(find(&calculate_after_rollout(&web, &new(2), at(1)), REPLICA_FAILURE).is_none());
    }

    #[test]
    fn the_deadline_does_not_run_while_it_is_paused() {
        let mut web = deployment(10);
        web.status = Some(calculate_after_rollout(&web, &new(0), at(0)));
        web.spec.as_mut().unwrap().paused = Some(true);
        let paused = pause_condition(&web, at(5)).unwrap();
        set(web.status.as_mut().unwrap(), paused);
        assert_eq!(said(&web), ("Unknown".into(), "DeploymentPaused".into()));
        assert_eq!(pause_condition(&web, at(6)), None);
        assert_eq!(next_check(&web, web.status.as_ref().unwrap(), at(6)), None);
        web.spec.as_mut().unwrap().paused = None;
        let resumed = pause_condition(&web, at(100)).unwrap();
        set(web.status.as_mut().unwrap(), resumed);
        web.status = Some(calculate_after_rollout(&web, &new(0), at(105)));
        assert_eq!(said(&web), ("Unknown".into(), "DeploymentResumed".into()));
        assert_eq!(next_check(&web, web.status.as_ref().unwrap(), at(105)), Some(Duration::from_secs(6)));
    }

    #[test]
    fn no_deadline_no_progress() {
        let web = deployment(i32::MAX);
        assert!(find(&calculate_after_rollout(&web, &new(0), at(0)), PROGRESSING).is_none());
    }
}
