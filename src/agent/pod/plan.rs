//! What to do next for a pod: a pure decision from what it should be, what the engine shows and what was tried.
//!
//! The pod actor carries a plan out, looks again and asks for the next one, until there is nothing to do. No plan waits
//! for anything: what takes time (pulls, hooks, dying processes) goes on beside it and shows up in the next look.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container as Spec;

use super::lifecycle::{self, Known};
use super::memory::{ContainerMemory, Hook, ImageState, KillReason};
use crate::agent::runtime::{Container, ContainerState, Signal};

/// What the pod is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// As its specification says.
    Run,
    /// Ended for good: nothing runs, but its logs can still be read.
    End { grace: SignedDuration },
    /// Gone, with no process left after `by`.
    Delete { by: Timestamp },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Prepare volumes, then create and start the sandbox.
    StartSandbox {
        attempt: u32,
    },
    /// See that the image for the container's next start is there.
    FindImage {
        container: String,
        is_init: bool,
    },
    StartContainer {
        container: String,
        is_init: bool,
        attempt: u32,
        image_id: String,
        sandbox: String,
    },
    /// Begin to stop a container: its preStop hook, if it has one and there is time, then the stop signal.
    Stop {
        id: String,
        reason: KillReason,
        deadline: Timestamp,
    },
    Signal {
        id: String,
        signal: Signal,
    },
    Remove {
        id: String,
    },
    /// Nothing of the pod is left in the engine and its last status is told: remove its files, confirm its deletion.
    ConfirmDeletion,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// When to look again, if nothing happens before.
    pub wake: Option<Timestamp>,
}

impl Plan {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn wake_at(&mut self, time: Timestamp) {
        self.wake = Some(self.wake.map_or(time, |earlier| earlier.min(time)));
    }
}

/// How long a container that is killed may take when nothing says otherwise.
const GRACE_DEFAULT: SignedDuration = SignedDuration::from_secs(30);

/// What the pod is to become now. `delete_by` is set once it is being deleted.
pub fn goal(known: Known<'_>, delete_by: Option<Timestamp>) -> Goal {
    match (delete_by, known.outcome()) {
        (Some(by), _) => Goal::Delete { by },
        (None, Some(_)) => Goal::End { grace: grace(known) },
        (None, None) => Goal::Run,
    }
}

/// How long the pod's processes may take to end.
fn grace(known: Known<'_>) -> SignedDuration {
    let seconds = lifecycle::spec(known.pod).termination_grace_period_seconds;
    seconds.map_or(GRACE_DEFAULT, SignedDuration::from_secs)
}

/// The next actions towards `goal`. `told` says whether the API has heard of the present status.
pub fn plan(known: Known<'_>, goal: Goal, told: bool) -> Plan {
    let mut plan = Plan::default();
    match goal {
        Goal::Run => run(known, &mut plan),
        Goal::End { grace } => end(known, known.now + grace, &mut plan),
        Goal::Delete { by } => delete(known, by, told, &mut plan),
    }
    plan
}

fn end(known: Known<'_>, by: Timestamp, plan: &mut Plan) {
    if stop_all(known, by, plan) {
        return;
    }
    for sandbox in known.view.sandboxes.iter().filter(|sandbox| sandbox.running) {
        plan.act(Action::Signal { id: sandbox.id.clone(), signal: Signal::Stop });
    }
}

/// Containers first, so that their last states can be told; the sandbox when no process needs its network any more.
fn delete(known: Known<'_>, by: Timestamp, told: bool, plan: &mut Plan) {
    if stop_all(known, by, plan) || !told {
        return;
    }
    for id in known.view.containers.iter().map(|c| &c.id).chain(known.view.sandboxes.iter().map(|s| &s.id)) {
        plan.act(Action::Remove { id: id.clone() });
    }
    if known.view.is_empty() {
        plan.act(Action::ConfirmDeletion);
    }
}

/// Stops what runs; whether anything does. Sidecars outlive the app containers, which may need them to end.
fn stop_all(known: Known<'_>, by: Timestamp, plan: &mut Plan) -> bool {
    let is_sidecar = |container: &&Container| {
        lifecycle::init_containers(known.pod)
            .iter()
            .any(|init| init.name == container.name && lifecycle::is_sidecar(init))
    };
    let (sidecars, apps): (Vec<_>, Vec<_>) =
        known.view.containers.iter().filter(|container| container.is_running()).partition(is_sidecar);
    let first = if apps.is_empty() || known.now >= by { sidecars.iter().chain(&apps) } else { apps.iter().chain(&[]) };
    for container in first {
        stop(known, container, KillReason::PodEnds, by, plan);
    }
    !(sidecars.is_empty() && apps.is_empty())
}

/// The next step of stopping one running container.
fn stop(known: Known<'_>, container: &Container, reason: KillReason, deadline: Timestamp, plan: &mut Plan) {
    let id = container.id.clone();
    let Some(kill) = known.memory.kills.get(&id) else {
        return plan.act(Action::Stop { id, reason, deadline });
    };
    // A deletion may leave less time than the kill under way.
    let deadline = deadline.min(kill.deadline);
    if known.now >= deadline {
        plan.act(Action::Signal { id, signal: Signal::Kill });
        return plan.wake_at(known.now + SignedDuration::from_secs(1));
    }
    if kill.hook == Hook::Done && !kill.told_to_stop {
        plan.act(Action::Signal { id, signal: Signal::Stop });
    }
    plan.wake_at(deadline);
}

fn run(known: Known<'_>, plan: &mut Plan) {
    if let Some(deadline) = known.deadline() {
        plan.wake_at(deadline);
    }
    let Some(sandbox) = known.sandbox() else { return rebuild(known, plan) };
    for old in known.view.sandboxes.iter().filter(|old| !old.running) {
        plan.act(Action::Remove { id: old.id.clone() });
    }
    for stray in known.view.containers.iter().filter(|c| c.is_running() && c.sandbox != sandbox.id) {
        stop(known, stray, KillReason::SandboxGone, known.now, plan);
    }
    collect_garbage(known, plan);
    if !initialize(known, &sandbox.id, plan) {
        return;
    }
    for app in &lifecycle::spec(known.pod).containers {
        tend(known, app, false, &sandbox.id, plan);
    }
}

/// Without a sandbox nothing can run: what is left of the former one ends, then a new one is made.
fn rebuild(known: Known<'_>, plan: &mut Plan) {
    let running: Vec<_> = known.view.containers.iter().filter(|container| container.is_running()).collect();
    for container in &running {
        stop(known, container, KillReason::SandboxGone, known.now, plan);
    }
    if !running.is_empty() {
        return;
    }
    if let Some(failure) = known.memory.sandbox_failure.as_ref().filter(|failure| failure.retry_at > known.now) {
        return plan.wake_at(failure.retry_at);
    }
    let attempt = known.view.sandboxes.last().map_or(0, |sandbox| sandbox.attempt + 1);
    for old in &known.view.sandboxes {
        plan.act(Action::Remove { id: old.id.clone() });
    }
    plan.act(Action::StartSandbox { attempt });
}

/// Keeps, of each name, the latest container and the one before it, whose log may still be asked for; removes those
/// that were created but never started.
fn collect_garbage(known: Known<'_>, plan: &mut Plan) {
    for container in &known.view.containers {
        let newer = known
            .view
            .containers
            .iter()
            .filter(|other| other.name == container.name && other.attempt > container.attempt)
            .count();
        let superseded = newer >= 2 && !container.is_running();
        if superseded || container.state == ContainerState::Created {
            plan.act(Action::Remove { id: container.id.clone() });
        }
    }
}

/// Brings the init containers on, one after the other; whether the app containers may start.
fn initialize(known: Known<'_>, sandbox: &str, plan: &mut Plan) -> bool {
    let initialized = known.is_initialized();
    for init in lifecycle::init_containers(known.pod) {
        if initialized && !lifecycle::is_sidecar(init) {
            continue;
        }
        if !known.is_initialized_by(init) {
            tend(known, init, true, sandbox, plan);
            if !initialized {
                return false;
            }
        } else if lifecycle::is_sidecar(init) {
            tend(known, init, true, sandbox, plan);
        }
    }
    true
}

/// Sees that one container runs as it should.
fn tend(known: Known<'_>, spec: &Spec, is_init: bool, sandbox: &str, plan: &mut Plan) {
    let Some(latest) = known.view.latest(&spec.name) else { return start(known, spec, is_init, sandbox, plan) };
    match &latest.state {
        // Garbage collection removes it; the look after that starts another.
        ContainerState::Created => {}
        ContainerState::Running { .. } if latest.sandbox != sandbox => {}
        ContainerState::Running { .. } => {
            let deadline = known.now + grace(known);
            if let Some(kill) = known.memory.kills.get(&latest.id) {
                stop(known, latest, kill.reason, kill.deadline, plan);
            } else if latest.hash != super::spec::hash(spec) {
                stop(known, latest, KillReason::Changed, deadline, plan);
            } else if known.is_sick(latest) {
                stop(known, latest, KillReason::Unhealthy, deadline, plan);
            }
        }
        ContainerState::Exited(exit) => {
            // What a former sandbox took down is started again in the new one, unless it had ended by itself for good.
            let again = lifecycle::restarts(known.pod, spec, is_init, exit.code)
                || (latest.sandbox != sandbox && is_init && exit.code == 0);
            if !again {
                return;
            }
            let memory = known.memory.containers.get(&spec.name);
            match memory.and_then(|memory| memory.restarts.wait_until(exit.finished, known.now)) {
                Some(ready) => plan.wake_at(ready),
                None => start(known, spec, is_init, sandbox, plan),
            }
        }
    }
}

/// The next step towards a start: the image, then the container.
fn start(known: Known<'_>, spec: &Spec, is_init: bool, sandbox: &str, plan: &mut Plan) {
    let none = ContainerMemory::default();
    let memory = known.memory.containers.get(&spec.name).unwrap_or(&none);
    if let Some(failure) = memory.failure.as_ref().filter(|failure| failure.retry_at > known.now) {
        return plan.wake_at(failure.retry_at);
    }
    let container = spec.name.clone();
    match &memory.image {
        ImageState::Pulling => {}
        ImageState::Failed(failure) if failure.retry_at > known.now => {
            let shown_until = failure.at + super::status::FAILURE_SHOWN;
            plan.wake_at(if known.now < shown_until { shown_until } else { failure.retry_at });
        }
        ImageState::Unknown | ImageState::Failed(_) => plan.act(Action::FindImage { container, is_init }),
        ImageState::Ready(image_id) => plan.act(Action::StartContainer {
            attempt: known.next_attempt(&spec.name),
            container,
            is_init,
            image_id: image_id.clone(),
            sandbox: sandbox.to_owned(),
        }),
    }
}
