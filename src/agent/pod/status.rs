//! A pod's status: a pure function of its specification, what the engine shows and what was tried.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState as State, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use super::lifecycle::{self, Outcome, PodSnapshot};
use super::memory::{ContainerMemory, Failure, ImageState};
use super::sysctls;
use crate::agent::runtime::{Container, ContainerState, Exit};

/// A failed pull shows as such for so long, and as a backoff from then on.
pub const FAILURE_SHOWN: jiff::SignedDuration = jiff::SignedDuration::from_secs(3);

/// The conditions that the agent writes.
const OWN_CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// What the status says about the node.
#[derive(Clone, Copy, Debug)]
pub struct NodeFacts<'a> {
    pub address: IpAddr,
    /// The scheme of container IDs.
    pub runtime: &'a str,
}

/// The pod's status. Conditions that are not the agent's are kept.
pub fn compute(snapshot: PodSnapshot<'_>, node: NodeFacts<'_>) -> PodStatus {
    let reported = snapshot.pod.status.clone().unwrap_or_default();
    let outcome = snapshot.outcome();
    let statuses = |specs: &[Spec], is_init| -> Vec<ContainerStatus> {
        specs.iter().map(|spec| container_status(snapshot, spec, is_init, node.runtime)).collect()
    };
    let init = statuses(lifecycle::init_containers(snapshot.pod), true);
    let apps = statuses(&lifecycle::spec(snapshot.pod).containers, false);
    let phase = phase(snapshot, outcome, &apps);
    let on_host = lifecycle::spec(snapshot.pod).host_network == Some(true);
    let ip = match snapshot.sandbox() {
        Some(_) if on_host => Some(node.address.to_string()),
        Some(sandbox) => sandbox.ip.map(|ip| ip.to_string()),
        // A pod that has ended keeps its address.
        None if outcome.is_some() => reported.pod_ip.clone(),
        None => None,
    };
    let (reason, message) = match outcome {
        Some(Outcome::DeadlineExceeded) => {
            let message = "Pod was active on the node longer than the specified deadline";
            (Some("DeadlineExceeded".to_owned()), Some(message.to_owned()))
        }
        Some(Outcome::SysctlForbidden) => {
            let why = sysctls::forbidden(lifecycle::spec(snapshot.pod)).unwrap_or_default();
            (Some("SysctlForbidden".to_owned()), Some(format!("Pod was rejected: {why}")))
        }
        _ => (reported.reason, reported.message),
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions(snapshot, outcome, reported.conditions.as_deref().unwrap_or_default())),
        host_ip: Some(node.address.to_string()),
        host_ips: Some(vec![HostIP { ip: node.address.to_string() }]),
        pod_ips: ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: ip,
        start_time: snapshot.start_time().map(Time),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(apps),
        reason,
        message,
        observed_generation: snapshot.pod.metadata.generation,
        ..PodStatus::default()
    }
}

/// The pod with the status that was computed last instead of the API's, but for conditions that others write.
pub fn with_found(pod: &Pod, found: &PodStatus) -> Pod {
    let own = |condition: &PodCondition| OWN_CONDITIONS.contains(&condition.type_.as_str());
    let reported = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let conditions = reported.filter(|condition| !own(condition)).cloned();
    let conditions = conditions.chain(found.conditions.iter().flatten().filter(|condition| own(condition)).cloned());
    let status = PodStatus { conditions: Some(conditions.collect()), ..found.clone() };
    Pod { status: Some(status), ..pod.clone() }
}

/// The part of the status in the API that is the agent's.
pub fn own(pod: &Pod) -> PodStatus {
    let shown = pod.status.clone().unwrap_or_default();
    let conditions = shown.conditions.into_iter().flatten();
    PodStatus {
        phase: shown.phase,
        conditions: Some(conditions.filter(|condition| OWN_CONDITIONS.contains(&condition.type_.as_str())).collect()),
        host_ip: shown.host_ip,
        host_ips: shown.host_ips,
        pod_ip: shown.pod_ip,
        pod_ips: shown.pod_ips,
        start_time: shown.start_time,
        init_container_statuses: shown.init_container_statuses,
        container_statuses: shown.container_statuses,
        reason: shown.reason,
        message: shown.message,
        observed_generation: shown.observed_generation,
        ..PodStatus::default()
    }
}

/// A strategic merge patch that makes the agent's part of the status in the API the computed one, and leaves alone the
/// rest: conditions that others write, for example.
pub fn patch(uid: &str, status: &PodStatus) -> Value {
    const OWN: [&str; 12] = [
        "phase",
        "conditions",
        "hostIP",
        "hostIPs",
        "podIP",
        "podIPs",
        "startTime",
        "initContainerStatuses",
        "containerStatuses",
        "reason",
        "message",
        "observedGeneration",
    ];
    let mut computed = match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => Map::new(),
    };
    let mut fields: Map<String, Value> =
        OWN.iter().map(|name| ((*name).to_owned(), computed.remove(*name).unwrap_or(Value::Null))).collect();
    if let Some(Value::Array(conditions)) = fields.get_mut("conditions") {
        conditions.retain(|condition| OWN_CONDITIONS.iter().any(|own| condition["type"] == *own));
    }
    // A strategic merge would keep former addresses.
    for name in ["hostIPs", "podIPs"] {
        if let Some(Value::Array(addresses)) = fields.get_mut(name) {
            addresses.push(json!({ "$patch": "replace" }));
        }
    }
    json!({ "metadata": { "uid": uid }, "status": fields })
}

fn phase(snapshot: PodSnapshot<'_>, outcome: Option<Outcome>, apps: &[ContainerStatus]) -> &'static str {
    match outcome {
        // The pod is not over while something still runs.
        Some(_) if snapshot.view.containers.iter().any(Container::is_running) => {}
        Some(Outcome::Succeeded) => return "Succeeded",
        Some(Outcome::Failed | Outcome::DeadlineExceeded | Outcome::SysctlForbidden) => return "Failed",
        None => {}
    }
    let ever_ran = |status: &ContainerStatus| {
        let ended = |state: &Option<State>| state.as_ref().is_some_and(|state| state.terminated.is_some());
        status.state.as_ref().is_some_and(|state| state.running.is_some())
            || ended(&status.state)
            || ended(&status.last_state)
    };
    if snapshot.is_initialized() && apps.iter().all(ever_ran) { "Running" } else { "Pending" }
}

fn container_status(snapshot: PodSnapshot<'_>, spec: &Spec, is_init: bool, scheme: &str) -> ContainerStatus {
    let reported = lifecycle::reported(snapshot.pod, &spec.name);
    let latest = snapshot.view.latest(&spec.name);
    let none = ContainerMemory::default();
    let memory = snapshot.memory.containers.get(&spec.name).unwrap_or(&none);
    let terminated = |container: &Container, exit: &Exit| State {
        terminated: Some(self::terminated(snapshot, container, exit, scheme)),
        ..State::default()
    };
    let former = |container: &Container| match &container.state {
        ContainerState::Exited(exit) => Some(terminated(container, exit)),
        ContainerState::Created | ContainerState::Running { .. } => None,
    };
    let (state, last_state) = match latest {
        Some(container) => match &container.state {
            ContainerState::Running { .. } if snapshot.is_in_post_start(container) => {
                (waiting_for("ContainerCreating", None), snapshot.view.previous(&spec.name).and_then(former))
            }
            ContainerState::Running { started } => {
                let running = Some(ContainerStateRunning { started_at: Some(Time(*started)) });
                let before = snapshot.view.previous(&spec.name).and_then(former);
                (
                    State { running, ..State::default() },
                    before.or_else(|| reported.and_then(|status| status.last_state.clone())),
                )
            }
            ContainerState::Exited(exit) => match why_not_again(snapshot, spec, is_init, memory, exit) {
                Some(waiting) => (waiting, Some(terminated(container, exit))),
                None => (terminated(container, exit), snapshot.view.previous(&spec.name).and_then(former)),
            },
            ContainerState::Created => (waiting(snapshot, memory, is_init), None),
        },
        None => {
            let ended = reported.and_then(|status| status.state.clone()).filter(|state| state.terminated.is_some());
            match ended {
                // It ended for good, and was removed since.
                Some(state) if snapshot.outcome().is_some() => (state, None),
                ended => (
                    waiting(snapshot, memory, is_init),
                    ended.or_else(|| reported.and_then(|reported| reported.last_state.clone())),
                ),
            }
        }
    };
    let is_ended_init = is_init && !lifecycle::is_sidecar(spec);
    ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        image_id: latest
            .map(|container| format!("{scheme}://{}", container.image_id))
            .or_else(|| reported.map(|reported| reported.image_id.clone()))
            .unwrap_or_default(),
        container_id: latest
            .map(|container| format!("{scheme}://{}", container.id))
            .or_else(|| reported.and_then(|reported| reported.container_id.clone())),
        restart_count: latest
            .and_then(|container| i32::try_from(container.attempt).ok())
            .or_else(|| reported.map(|reported| reported.restart_count))
            .unwrap_or_default(),
        ready: if is_ended_init { snapshot.is_initialized_by(spec) } else { snapshot.is_ready(spec) },
        started: Some(snapshot.is_started(spec)),
        state: Some(state),
        last_state: Some(last_state.unwrap_or_default()),
        ..ContainerStatus::default()
    }
}

fn terminated(snapshot: PodSnapshot<'_>, container: &Container, exit: &Exit, scheme: &str) -> ContainerStateTerminated {
    let reason = match exit {
        Exit { started: None, error, .. } if !error.is_empty() => "StartError",
        Exit { out_of_memory: true, .. } => "OOMKilled",
        Exit { code: 0, .. } => "Completed",
        Exit { .. } => "Error",
    };
    let termination_message = snapshot.memory.termination_messages.get(&container.id).filter(|text| !text.is_empty());
    let message = termination_message.or(Some(&exit.error)).filter(|text| !text.is_empty());
    ContainerStateTerminated {
        container_id: Some(format!("{scheme}://{}", container.id)),
        exit_code: exit.code,
        reason: Some(reason.to_owned()),
        message: message.cloned(),
        // Upstream's zero time is the Unix epoch for a container that never started.
        started_at: Some(Time(exit.started.unwrap_or(Timestamp::UNIX_EPOCH))),
        finished_at: Some(Time(exit.finished)),
        signal: None,
    }
}

/// The waiting state of an ended container that is to run again, but not at once.
fn why_not_again(
    snapshot: PodSnapshot<'_>,
    spec: &Spec,
    is_init: bool,
    memory: &ContainerMemory,
    exit: &Exit,
) -> Option<State> {
    if snapshot.outcome().is_some() || !lifecycle::restarts(snapshot.pod, spec, is_init, exit.code) {
        return None;
    }
    if memory.restarts.wait_until(exit.finished, snapshot.now).is_some() {
        let meta = &snapshot.pod.metadata;
        let pod =
            format!("{}_{}", meta.name.as_deref().unwrap_or_default(), meta.namespace.as_deref().unwrap_or_default());
        let message = format!(
            "back-off {} restarting failed container={} pod={pod}({})",
            duration_text(memory.restarts.delay().as_secs()),
            spec.name,
            meta.uid.as_deref().unwrap_or_default(),
        );
        return Some(waiting_for("CrashLoopBackOff", Some(message)));
    }
    failure(snapshot, memory)
}

fn waiting(snapshot: PodSnapshot<'_>, memory: &ContainerMemory, is_init: bool) -> State {
    failure(snapshot, memory).unwrap_or_else(|| {
        let initializing =
            !is_init && !lifecycle::init_containers(snapshot.pod).is_empty() && !snapshot.is_initialized();
        waiting_for(if initializing { "PodInitializing" } else { "ContainerCreating" }, None)
    })
}

/// The failure that keeps a container from being created.
fn failure(snapshot: PodSnapshot<'_>, memory: &ContainerMemory) -> Option<State> {
    if let Some(Failure { reason, message, .. }) = &memory.failure {
        return Some(waiting_for(reason, Some(message.clone())));
    }
    let ImageState::Failed(failure) = &memory.image else { return None };
    if failure.reason != "ErrImagePull" || snapshot.now < failure.at + FAILURE_SHOWN {
        return Some(waiting_for(failure.reason, Some(failure.message.clone())));
    }
    Some(waiting_for("ImagePullBackOff", Some(format!("Back-off pulling image: {}", failure.message))))
}

fn waiting_for(reason: &str, message: Option<String>) -> State {
    State { waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }), ..State::default() }
}

/// `10s`, `1m20s`, `5m0s`.
fn duration_text(seconds: i64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

/// A condition but for its times.
struct ConditionState {
    kind: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl ConditionState {
    fn plain(kind: &'static str, holds: bool) -> ConditionState {
        ConditionState { kind, holds, reason: None, message: None }
    }
}

fn conditions(snapshot: PodSnapshot<'_>, outcome: Option<Outcome>, reported: &[PodCondition]) -> Vec<PodCondition> {
    let condition_states = condition_states(snapshot, outcome, reported);
    let mut all: Vec<PodCondition> = reported
        .iter()
        .filter(|condition| condition_states.iter().all(|wanted| wanted.kind != condition.type_))
        .cloned()
        .collect();
    for wanted in condition_states {
        let status = if wanted.holds { "True" } else { "False" };
        let before = reported.iter().find(|condition| condition.type_ == wanted.kind && condition.status == status);
        let since = before.and_then(|condition| condition.last_transition_time.clone());
        all.push(PodCondition {
            type_: wanted.kind.to_owned(),
            status: status.to_owned(),
            reason: wanted.reason.map(str::to_owned),
            message: wanted.message,
            last_transition_time: Some(since.unwrap_or(Time(to_second(snapshot.now)))),
            observed_generation: snapshot.pod.metadata.generation,
            last_probe_time: None,
        });
    }
    all
}

fn to_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).expect("a time cut to its second is a time")
}

fn condition_states(
    snapshot: PodSnapshot<'_>,
    outcome: Option<Outcome>,
    reported: &[PodCondition],
) -> Vec<ConditionState> {
    let sandbox = ConditionState::plain("PodReadyToStartContainers", snapshot.sandbox().is_some());
    let scheduled = ConditionState::plain("PodScheduled", true);
    let waiting: Vec<&str> = lifecycle::init_containers(snapshot.pod)
        .iter()
        .filter(|init| !snapshot.is_initialized_by(init))
        .map(|init| init.name.as_str())
        .collect();
    let unready: Vec<&str> = lifecycle::spec(snapshot.pod)
        .containers
        .iter()
        .chain(lifecycle::init_containers(snapshot.pod).iter().filter(|init| lifecycle::is_sidecar(init)))
        .filter(|container| !snapshot.is_ready(container))
        .map(|container| container.name.as_str())
        .collect();
    let over = match outcome {
        Some(Outcome::Succeeded) => Some("PodCompleted"),
        Some(Outcome::Failed | Outcome::DeadlineExceeded | Outcome::SysctlForbidden) => Some("PodFailed"),
        None => None,
    };
    let initialized = if snapshot.is_initialized() || outcome == Some(Outcome::Succeeded) {
        ConditionState {
            reason: over.filter(|reason| *reason == "PodCompleted"),
            ..ConditionState::plain("Initialized", true)
        }
    } else {
        ConditionState {
            reason: Some("ContainersNotInitialized"),
            message: Some(format!("containers with incomplete status: [{}]", waiting.join(" "))),
            ..ConditionState::plain("Initialized", false)
        }
    };
    let not_ready = |kind| match over {
        Some(reason) => ConditionState { reason: Some(reason), ..ConditionState::plain(kind, false) },
        None => ConditionState {
            reason: Some("ContainersNotReady"),
            message: Some(format!("containers with unready status: [{}]", unready.join(" "))),
            ..ConditionState::plain(kind, false)
        },
    };
    let containers_ready = unready.is_empty() && over.is_none();
    let (containers, ready) = if !containers_ready {
        (not_ready("ContainersReady"), not_ready("Ready"))
    } else {
        (ConditionState::plain("ContainersReady", true), gates(snapshot, reported))
    };
    vec![sandbox, initialized, ready, containers, scheduled]
}

/// Whether all readiness gates are open.
fn gates(snapshot: PodSnapshot<'_>, reported: &[PodCondition]) -> ConditionState {
    let closed =
        |gate: &&str| !reported.iter().any(|condition| condition.type_ == **gate && condition.status == "True");
    let gates = lifecycle::spec(snapshot.pod).readiness_gates.iter().flatten();
    let closed: Vec<&str> = gates.map(|gate| gate.condition_type.as_str()).filter(|gate| closed(gate)).collect();
    if closed.is_empty() {
        return ConditionState::plain("Ready", true);
    }
    ConditionState {
        reason: Some("ReadinessGatesNotReady"),
        message: Some(format!("the status of pod readiness gates is not \"True\": [{}]", closed.join(" "))),
        ..ConditionState::plain("Ready", false)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::agent::pod::memory::Memory;
    use crate::agent::runtime::PodView;
    use crate::kube::client::PatchType;
    use crate::kube::patch;
    use crate::kube::resources::Table;
    use crate::kube::schema::Schemas;

    #[test]
    fn what_others_write_meanwhile_stays() {
        let condition =
            |kind: &str| PodCondition { type_: kind.to_owned(), status: "True".to_owned(), ..PodCondition::default() };
        let status = PodStatus {
            // Computed from a state in which the gate was open.
            conditions: Some(vec![condition("example.com/gate"), condition("Ready")]),
            pod_ip: Some("10.0.0.2".to_owned()),
            pod_ips: Some(vec![PodIP { ip: "10.0.0.2".to_owned() }]),
            ..PodStatus::default()
        };
        let before = json!({"metadata": {"uid": "u"}, "status": {
            "conditions": [
                {"type": "example.com/gate", "status": "False"},
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
                {"type": "DisruptionTarget", "status": "True"},
            ],
            "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}],
            "nominatedNodeName": "n2",
            "reason": "Evicted",
        }});
        let body = serde_json::to_vec(&super::patch("u", &status)).unwrap();
        let table = Table::builtin();
        let definition = &table.by_kind("v1", "Pod").unwrap().definition;
        let patched = patch::patch(&Schemas::builtin(), definition, PatchType::Strategic, &body, &before).unwrap();
        let status = &patched["status"];
        let conditions: BTreeMap<&str, &str> = (status["conditions"].as_array().unwrap().iter())
            .map(|condition| (condition["type"].as_str().unwrap(), condition["status"].as_str().unwrap()))
            .collect();
        assert_eq!(conditions, [("example.com/gate", "False"), ("Ready", "True"), ("DisruptionTarget", "True")].into());
        assert_eq!(status["podIPs"], json!([{"ip": "10.0.0.2"}]), "an address of before is none any more");
        assert_eq!((&status["nominatedNodeName"], &status["reason"]), (&json!("n2"), &Value::Null));
    }

    #[test]
    fn a_container_that_never_started_has_upstreams_zero_time() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "i:1"}]}}))
        .unwrap();
        let (now, error) = (Timestamp::from_second(9).unwrap(), "no such file".to_owned());
        let exit = Exit { code: 128, out_of_memory: false, error, started: None, finished: now };
        let container = Container {
            id: "c0".into(),
            name: "c".into(),
            attempt: 0,
            sandbox: "s0".into(),
            image: "i:1".into(),
            image_id: "sha256:1".into(),
            hash: String::new(),
            created: now,
            state: ContainerState::Exited(exit.clone()),
            termination_message: None,
        };
        let (view, memory) = (PodView::default(), Memory::default());
        let snapshot = PodSnapshot { pod: &pod, view: &view, memory: &memory, now, probed: true };
        let terminated = super::terminated(snapshot, &container, &exit, "docker");
        assert_eq!(terminated.reason.as_deref(), Some("StartError"));
        assert_eq!(terminated.started_at, Some(Time(Timestamp::UNIX_EPOCH)));
    }
}
