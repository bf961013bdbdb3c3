//! What to do next for a pod: a pure decision from its specification, what the engine shows and what was tried.
//!
//! A sync carries a plan out, views the pod again and makes the next plan, until there is nothing to do. No plan waits
//! for anything: what takes time (pulls, hooks, ending processes) goes on beside it and shows up in a later view.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container as Spec;

use super::lifecycle::{self, PodSnapshot};
use super::memory::{ContainerMemory, ImageState, KillReason, PreStop};
use crate::agent::runtime::{Container, ContainerState, Signal};

/// The state that a pod is brought to.
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
    /// Find or pull the image for the container's next start.
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
    /// Nothing of the pod is left in the engine and its last status is written: remove its files, confirm its deletion.
    ConfirmDeletion,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// When to sync again, if nothing happens before.
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

/// Upstream's default of `terminationGracePeriodSeconds`.
const GRACE_DEFAULT: SignedDuration = SignedDuration::from_secs(30);

/// The pod's goal. `delete_by` is set once it is being deleted.
pub fn goal(snapshot: PodSnapshot<'_>, delete_by: Option<Timestamp>) -> Goal {
    match (delete_by, snapshot.outcome()) {
        (Some(by), _) => Goal::Delete { by },
        (None, Some(_)) => Goal::End { grace: grace(snapshot) },
        (None, None) => Goal::Run,
    }
}

/// How long the pod's processes may take to end: bounded, since it is added to a time.
fn grace(snapshot: PodSnapshot<'_>) -> SignedDuration {
    let seconds = lifecycle::spec(snapshot.pod).termination_grace_period_seconds;
    seconds.map_or(GRACE_DEFAULT, |seconds| SignedDuration::from_secs(seconds.min(i32::MAX.into())))
}

/// How long a container may take to end when it is replaced for `reason`: probes may set their own grace period.
fn grace_of(snapshot: PodSnapshot<'_>, spec: &Spec, reason: KillReason) -> SignedDuration {
    let probe = match reason {
        KillReason::LivenessProbe => spec.liveness_probe.as_ref(),
        KillReason::StartupProbe => spec.startup_probe.as_ref(),
        _ => None,
    };
    let seconds = probe.and_then(|probe| probe.termination_grace_period_seconds);
    seconds.map_or_else(|| grace(snapshot), SignedDuration::from_secs)
}

/// The next actions towards `goal`. `status_written` says whether the API has the present status.
pub fn plan(snapshot: PodSnapshot<'_>, goal: Goal, status_written: bool) -> Plan {
    let mut plan = Plan::default();
    match goal {
        Goal::Run => run(snapshot, &mut plan),
        Goal::End { grace } => end(snapshot, snapshot.now + grace, &mut plan),
        Goal::Delete { by } => delete(snapshot, by, status_written, &mut plan),
    }
    plan
}

fn end(snapshot: PodSnapshot<'_>, by: Timestamp, plan: &mut Plan) {
    if stop_all(snapshot, by, plan) {
        return;
    }
    for sandbox in snapshot.view.sandboxes.iter().filter(|sandbox| sandbox.running) {
        plan.act(Action::Signal { id: sandbox.id.clone(), signal: Signal::Stop });
    }
}

/// Stops containers first, so that their last states can be written; then the sandbox, whose network they needed.
fn delete(snapshot: PodSnapshot<'_>, by: Timestamp, status_written: bool, plan: &mut Plan) {
    if stop_all(snapshot, by, plan) || !status_written {
        return;
    }
    for id in snapshot.view.containers.iter().map(|c| &c.id).chain(snapshot.view.sandboxes.iter().map(|s| &s.id)) {
        plan.act(Action::Remove { id: id.clone() });
    }
    if snapshot.view.is_empty() {
        plan.act(Action::ConfirmDeletion);
    }
}

/// Stops running containers; returns whether there are any. Sidecars end after the app containers, which may need them.
fn stop_all(snapshot: PodSnapshot<'_>, by: Timestamp, plan: &mut Plan) -> bool {
    let is_sidecar = |container: &&Container| {
        lifecycle::init_containers(snapshot.pod)
            .iter()
            .any(|init| init.name == container.name && lifecycle::is_sidecar(init))
    };
    let (sidecars, apps): (Vec<_>, Vec<_>) =
        snapshot.view.containers.iter().filter(|container| container.is_running()).partition(is_sidecar);
    let first =
        if apps.is_empty() || snapshot.now >= by { sidecars.iter().chain(&apps) } else { apps.iter().chain(&[]) };
    for container in first {
        stop(snapshot, container, KillReason::PodEnds, by, plan);
    }
    !(sidecars.is_empty() && apps.is_empty())
}

/// The next step of stopping one running container.
fn stop(snapshot: PodSnapshot<'_>, container: &Container, reason: KillReason, deadline: Timestamp, plan: &mut Plan) {
    let id = container.id.clone();
    let Some(kill) = snapshot.memory.kills.get(&id) else {
        return plan.act(Action::Stop { id, reason, deadline });
    };
    // A deletion may leave less time than the kill under way.
    let deadline = deadline.min(kill.deadline);
    if snapshot.now >= deadline {
        plan.act(Action::Signal { id, signal: Signal::Kill });
        return plan.wake_at(snapshot.now + SignedDuration::from_secs(1));
    }
    if kill.pre_stop == PreStop::Done && !kill.signaled {
        plan.act(Action::Signal { id, signal: Signal::Stop });
    }
    plan.wake_at(deadline);
}

fn run(snapshot: PodSnapshot<'_>, plan: &mut Plan) {
    if let Some(deadline) = snapshot.deadline() {
        plan.wake_at(deadline);
    }
    let Some(sandbox) = snapshot.sandbox() else { return restart_sandbox(snapshot, plan) };
    for old in snapshot.view.sandboxes.iter().filter(|old| !old.running) {
        plan.act(Action::Remove { id: old.id.clone() });
    }
    for stray in snapshot.view.containers.iter().filter(|c| c.is_running() && c.sandbox != sandbox.id) {
        stop(snapshot, stray, KillReason::SandboxGone, snapshot.now, plan);
    }
    collect_garbage(snapshot, plan);
    if !run_init_containers(snapshot, &sandbox.id, plan) {
        return;
    }
    for app in &lifecycle::spec(snapshot.pod).containers {
        sync_container(snapshot, app, false, &sandbox.id, plan);
    }
}

/// Stops what is left of the former sandbox, then starts a new one.
fn restart_sandbox(snapshot: PodSnapshot<'_>, plan: &mut Plan) {
    let running: Vec<_> = snapshot.view.containers.iter().filter(|container| container.is_running()).collect();
    for container in &running {
        stop(snapshot, container, KillReason::SandboxGone, snapshot.now, plan);
    }
    if !running.is_empty() {
        return;
    }
    if let Some(failure) = snapshot.memory.sandbox_failure.as_ref().filter(|failure| failure.retry_at > snapshot.now) {
        return plan.wake_at(failure.retry_at);
    }
    let attempt = snapshot.view.sandboxes.last().map_or(0, |sandbox| sandbox.attempt + 1);
    for old in &snapshot.view.sandboxes {
        plan.act(Action::Remove { id: old.id.clone() });
    }
    plan.act(Action::StartSandbox { attempt });
}

/// Keeps the latest container of each name and the one before it, for `kubectl logs --previous`; removes older ones,
/// and those that were created but never started.
fn collect_garbage(snapshot: PodSnapshot<'_>, plan: &mut Plan) {
    for container in &snapshot.view.containers {
        let newer = snapshot
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

/// Runs the init containers, one after the other; returns whether the app containers may start.
fn run_init_containers(snapshot: PodSnapshot<'_>, sandbox: &str, plan: &mut Plan) -> bool {
    let initialized = snapshot.is_initialized();
    for init in lifecycle::init_containers(snapshot.pod) {
        if initialized && !lifecycle::is_sidecar(init) {
            continue;
        }
        if !snapshot.is_initialized_by(init) {
            sync_container(snapshot, init, true, sandbox, plan);
            if !initialized {
                return false;
            }
        } else if lifecycle::is_sidecar(init) {
            sync_container(snapshot, init, true, sandbox, plan);
        }
    }
    true
}

/// Starts, restarts or stops one container, as it needs.
fn sync_container(snapshot: PodSnapshot<'_>, spec: &Spec, is_init: bool, sandbox: &str, plan: &mut Plan) {
    let Some(latest) = snapshot.view.latest(&spec.name) else { return start(snapshot, spec, is_init, sandbox, plan) };
    match &latest.state {
        // Garbage collection removes it; the next plan starts another.
        ContainerState::Created => {}
        ContainerState::Running { .. } if latest.sandbox != sandbox => {}
        ContainerState::Running { .. } => {
            if let Some(kill) = snapshot.memory.kills.get(&latest.id) {
                stop(snapshot, latest, kill.reason, kill.deadline, plan);
            } else if latest.hash != super::spec::hash(spec) {
                stop(snapshot, latest, KillReason::Changed, snapshot.now + grace(snapshot), plan);
            } else if let Some(reason) = snapshot.unhealthy(latest) {
                stop(snapshot, latest, reason, snapshot.now + grace_of(snapshot, spec, reason), plan);
            }
        }
        ContainerState::Exited(exit) => {
            // An init container that succeeded runs again in a new sandbox.
            let again = lifecycle::restarts(snapshot.pod, spec, is_init, exit.code)
                || (latest.sandbox != sandbox && is_init && exit.code == 0);
            if !again {
                return;
            }
            let memory = snapshot.memory.containers.get(&spec.name);
            match memory.and_then(|memory| memory.restarts.wait_until(exit.finished, snapshot.now)) {
                Some(ready) => plan.wake_at(ready),
                None => start(snapshot, spec, is_init, sandbox, plan),
            }
        }
    }
}

/// The next step towards a start: the image, then the container. Containers are started one after the other, and one is
/// started when its postStart hook is over.
fn start(snapshot: PodSnapshot<'_>, spec: &Spec, is_init: bool, sandbox: &str, plan: &mut Plan) {
    let is_start_planned = plan.actions.iter().any(|action| matches!(action, Action::StartContainer { .. }));
    if is_start_planned || snapshot.view.containers.iter().any(|container| snapshot.is_in_post_start(container)) {
        return;
    }
    let none = ContainerMemory::default();
    let memory = snapshot.memory.containers.get(&spec.name).unwrap_or(&none);
    if let Some(failure) = memory.failure.as_ref().filter(|failure| failure.retry_at > snapshot.now) {
        return plan.wake_at(failure.retry_at);
    }
    let container = spec.name.clone();
    match &memory.image {
        ImageState::Pulling => {}
        ImageState::Failed(failure) if failure.retry_at > snapshot.now => {
            let shown_until = failure.at + super::status::FAILURE_SHOWN;
            plan.wake_at(if snapshot.now < shown_until { shown_until } else { failure.retry_at });
        }
        ImageState::Unknown | ImageState::Failed(_) => plan.act(Action::FindImage { container, is_init }),
        ImageState::Ready(image_id) => plan.act(Action::StartContainer {
            attempt: snapshot.next_attempt(&spec.name),
            container,
            is_init,
            image_id: image_id.clone(),
            sandbox: sandbox.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;
    use crate::agent::pod::memory::{Failure, Health, Kill, Memory, PostStart};
    use crate::agent::runtime::{Exit, PodView, Sandbox};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const NOW: i64 = 1_000;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "www"}, "spec": spec})).unwrap()
    }

    fn www(policy: &str) -> Pod {
        pod(json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i:1"}]}))
    }

    fn sandbox(attempt: u32, running: bool) -> Sandbox {
        Sandbox { id: format!("s{attempt}"), attempt, running, ip: None, created: at(0) }
    }

    /// A container of the sandbox `s0`; its ID is its name and attempt.
    fn container(name: &str, attempt: u32, state: ContainerState) -> Container {
        let spec = Spec { name: name.into(), image: Some("i:1".into()), ..Spec::default() };
        Container {
            id: format!("{name}{attempt}"),
            name: name.into(),
            attempt,
            sandbox: "s0".into(),
            image: "i:1".into(),
            image_id: "sha256:1".into(),
            hash: crate::agent::pod::spec::hash(&spec),
            created: at(0),
            state,
            termination_message: None,
        }
    }

    fn running() -> ContainerState {
        ContainerState::Running { started: at(1) }
    }

    fn exited(code: i32, finished: i64) -> ContainerState {
        let (error, finished) = (String::new(), at(finished));
        ContainerState::Exited(Exit { code, out_of_memory: false, error, started: Some(at(1)), finished })
    }

    fn view(containers: Vec<Container>) -> PodView {
        PodView { sandboxes: vec![sandbox(0, true)], containers }
    }

    fn planned(pod: &Pod, view: &PodView, memory: &Memory, delete_by: Option<i64>) -> Plan {
        let snapshot = PodSnapshot { pod, view, memory, now: at(NOW), probed: true };
        plan(snapshot, goal(snapshot, delete_by.map(at)), true)
    }

    fn with_image(name: &str) -> Memory {
        let mut memory = Memory::default();
        memory.container(name).image = ImageState::Ready("sha256:1".into());
        memory
    }

    fn start(name: &str, is_init: bool, attempt: u32) -> Action {
        let (image_id, sandbox) = ("sha256:1".into(), "s0".into());
        Action::StartContainer { container: name.into(), is_init, attempt, image_id, sandbox }
    }

    fn find(name: &str) -> Action {
        Action::FindImage { container: name.into(), is_init: false }
    }

    #[test]
    fn a_pod_comes_up_step_by_step() {
        let pod = www("Always");
        let none = Memory::default();
        assert_eq!(planned(&pod, &PodView::default(), &none, None).actions, [Action::StartSandbox { attempt: 0 }]);
        assert_eq!(planned(&pod, &view(vec![]), &none, None).actions, [find("c")]);
        assert_eq!(planned(&pod, &view(vec![]), &with_image("c"), None).actions, [start("c", false, 0)]);
        assert_eq!(planned(&pod, &view(vec![container("c", 0, running())]), &none, None), Plan::default());
    }

    #[test]
    fn what_ended_is_started_again_as_the_policy_says() {
        let table = [
            ("Always", 0, true),
            ("Always", 1, true),
            ("OnFailure", 0, false),
            ("OnFailure", 1, true),
            ("Never", 0, false),
            ("Never", 1, false),
        ];
        for (policy, code, again) in table {
            let view = view(vec![container("c", 4, exited(code, NOW))]);
            let actions = planned(&www(policy), &view, &with_image("c"), None).actions;
            let stop = Action::Signal { id: "s0".into(), signal: Signal::Stop };
            let expected = if again { start("c", false, 5) } else { stop };
            assert_eq!(actions, [expected], "{policy} {code}");
        }
    }

    #[test]
    fn a_container_s_own_rules_go_over_the_policy() {
        let rule = |operator: &str| json!([{"action": "Restart", "exitCodes": {"operator": operator, "values": [42]}}]);
        for (operator, code, again) in [("In", 42, true), ("In", 1, false), ("NotIn", 42, false), ("NotIn", 1, true)] {
            let pod = pod(json!({"restartPolicy": "Never", "containers": [
                {"name": "c", "image": "i:1", "restartPolicy": "Never", "restartPolicyRules": rule(operator)}]}));
            let view = view(vec![container("c", 0, exited(code, NOW))]);
            let actions = planned(&pod, &view, &with_image("c"), None).actions;
            assert_eq!(actions == [start("c", false, 1)], again, "{operator} {code}: {actions:?}");
        }
    }

    #[test]
    fn a_crashing_container_waits_for_its_backoff() {
        let mut memory = with_image("c");
        memory.container("c").restarts.note(at(NOW - 5), at(NOW - 5));
        let view = view(vec![container("c", 1, exited(1, NOW - 1))]);
        let plan = planned(&www("Always"), &view, &memory, None);
        assert_eq!(plan, Plan { actions: vec![], wake: Some(at(NOW + 9)) });
    }

    #[test]
    fn init_containers_come_one_after_the_other_and_sidecars_stay() {
        let pod = pod(json!({"initContainers": [
            {"name": "one", "image": "i:1"}, {"name": "side", "image": "i:1", "restartPolicy": "Always"}],
            "containers": [{"name": "c", "image": "i:1"}]}));
        let mut memory = Memory::default();
        for name in ["one", "side", "c"] {
            memory.container(name).image = ImageState::Ready("sha256:1".into());
        }
        let one = || container("one", 0, exited(0, 1));
        let side = || container("side", 0, running());
        let table = [
            (vec![], vec![start("one", true, 0)]),
            (vec![container("one", 0, running())], vec![]),
            (vec![container("one", 0, exited(1, 1))], vec![start("one", true, 1)]),
            (vec![one()], vec![start("side", true, 0)]),
            (vec![one(), side()], vec![start("c", false, 0)]),
            (vec![one(), side(), container("c", 0, running())], vec![]),
            (
                vec![one(), container("side", 0, exited(1, 1)), container("c", 0, running())],
                vec![start("side", true, 1)],
            ),
            (vec![side(), container("c", 0, running())], vec![]),
        ];
        for (containers, expected) in table {
            let view = view(containers);
            assert_eq!(planned(&pod, &view, &memory, None).actions, expected, "{:?}", view.containers);
        }
    }

    #[test]
    fn without_its_sandbox_a_pod_is_rebuilt_from_the_ground() {
        let lost = |containers| PodView { sandboxes: vec![sandbox(0, false)], containers };
        let pod = www("Always");
        let none = Memory::default();
        let kill = Action::Stop { id: "c0".into(), reason: KillReason::SandboxGone, deadline: at(NOW) };
        assert_eq!(planned(&pod, &lost(vec![container("c", 0, running())]), &none, None).actions, [kill]);
        let ended = lost(vec![container("c", 0, exited(137, NOW))]);
        let restart_sandbox = [Action::Remove { id: "s0".into() }, Action::StartSandbox { attempt: 1 }];
        assert_eq!(planned(&pod, &ended, &none, None).actions, restart_sandbox);
        let failure = Failure { reason: "x", message: String::new(), at: at(NOW), retry_at: at(NOW + 10) };
        let memory = Memory { sandbox_failure: Some(failure), ..Memory::default() };
        assert_eq!(planned(&pod, &ended, &memory, None), Plan { actions: vec![], wake: Some(at(NOW + 10)) });
        assert_eq!(planned(&www("Never"), &ended, &none, None), Plan::default(), "it has failed");
    }

    #[test]
    fn a_deleted_pod_is_stopped_told_and_removed_in_this_order() {
        let pod = www("Always");
        let up = view(vec![container("c", 0, running())]);
        let mut memory = Memory::default();
        let by = NOW + 30;
        let stop = Action::Stop { id: "c0".into(), reason: KillReason::PodEnds, deadline: at(by) };
        assert_eq!(planned(&pod, &up, &memory, Some(by)).actions, [stop]);
        let kill = |pre_stop, signaled| Kill { reason: KillReason::PodEnds, deadline: at(by), pre_stop, signaled };
        memory.kills.insert("c0".into(), kill(PreStop::Running, false));
        assert_eq!(planned(&pod, &up, &memory, Some(by)), Plan { actions: vec![], wake: Some(at(by)) });
        memory.kills.insert("c0".into(), kill(PreStop::Done, false));
        let signal = |signal| Action::Signal { id: "c0".into(), signal };
        assert_eq!(planned(&pod, &up, &memory, Some(by)).actions, [signal(Signal::Stop)]);
        memory.kills.insert("c0".into(), kill(PreStop::Done, true));
        assert_eq!(planned(&pod, &up, &memory, Some(by)).actions, []);
        assert_eq!(planned(&pod, &up, &memory, Some(NOW)).actions, [signal(Signal::Kill)], "patience was cut short");
        let down = view(vec![container("c", 0, exited(0, NOW))]);
        let snapshot = PodSnapshot { pod: &pod, view: &down, memory: &memory, now: at(NOW), probed: true };
        assert_eq!(plan(snapshot, Goal::Delete { by: at(by) }, false), Plan::default(), "the last status comes first");
        let remove = ["c0", "s0"].map(|id| Action::Remove { id: id.into() });
        assert_eq!(planned(&pod, &down, &memory, Some(by)).actions, remove);
        assert_eq!(planned(&pod, &PodView::default(), &memory, Some(by)).actions, [Action::ConfirmDeletion]);
    }

    #[test]
    fn sick_and_outdated_containers_are_replaced() {
        let pod = pod(json!({"terminationGracePeriodSeconds": 7, "containers": [{"name": "c", "image": "i:1",
            "livenessProbe": {"tcpSocket": {"port": 1}}}]}));
        let up = || container("c", 0, running());
        let mut memory = Memory::default();
        let stop = |reason| Action::Stop { id: "c0".into(), reason, deadline: at(NOW + 7) };
        memory.health.insert("c0".into(), Health { alive: Some(false), ..Health::default() });
        assert_eq!(planned(&pod, &view(vec![up()]), &memory, None).actions, [stop(KillReason::LivenessProbe)]);
        let old = Container { hash: "other".into(), ..up() };
        assert_eq!(planned(&pod, &view(vec![old]), &Memory::default(), None).actions, [stop(KillReason::Changed)]);
    }

    #[test]
    fn a_probe_may_have_a_grace_period_of_its_own() {
        let probe = |seconds: i64| json!({"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": seconds});
        let pod = pod(json!({"terminationGracePeriodSeconds": 600, "containers": [{"name": "c", "image": "i:1",
            "livenessProbe": probe(5), "startupProbe": probe(3)}]}));
        let health = |started, alive| Health { started: Some(started), alive: Some(alive), ready: None };
        let table =
            [(health(true, false), KillReason::LivenessProbe, 5), (health(false, true), KillReason::StartupProbe, 3)];
        for (health, reason, seconds) in table {
            let memory = Memory { health: [("c0".to_owned(), health)].into(), ..Memory::default() };
            let stop = Action::Stop { id: "c0".into(), reason, deadline: at(NOW + seconds) };
            assert_eq!(planned(&pod, &view(vec![container("c", 0, running())]), &memory, None).actions, [stop]);
        }
    }

    #[test]
    fn the_next_container_waits_for_the_hook_of_the_one_before() {
        let pod = pod(json!({"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}]}));
        let mut memory = Memory::default();
        for name in ["a", "b"] {
            memory.container(name).image = ImageState::Ready("sha256:1".into());
        }
        assert_eq!(planned(&pod, &view(vec![]), &memory, None).actions, [start("a", false, 0)]);
        let up = view(vec![container("a", 0, running())]);
        memory.post_start.insert("a0".into(), PostStart::Running);
        assert_eq!(planned(&pod, &up, &memory, None).actions, []);
        memory.post_start.insert("a0".into(), PostStart::Failed);
        let stop = Action::Stop { id: "a0".into(), reason: KillReason::PostStartHook, deadline: at(NOW + 30) };
        assert_eq!(planned(&pod, &up, &memory, None).actions, [stop, start("b", false, 0)]);
        memory.post_start.remove("a0");
        assert_eq!(planned(&pod, &up, &memory, None).actions, [start("b", false, 0)]);
    }

    #[test]
    fn old_containers_are_cleaned_away_but_the_one_before_the_latest() {
        let containers =
            vec![container("c", 0, exited(1, 1)), container("c", 1, exited(1, 2)), container("c", 2, running())];
        let plan = planned(&www("Always"), &view(containers), &Memory::default(), None);
        assert_eq!(plan.actions, [Action::Remove { id: "c0".into() }]);
    }

    #[test]
    fn a_pod_past_its_deadline_ends() {
        let mut pod = pod(json!({"activeDeadlineSeconds": 60, "containers": [{"name": "c", "image": "i:1"}]}));
        let memory = Memory { started: Some(at(NOW - 10)), ..Memory::default() };
        let up = view(vec![container("c", 0, running())]);
        assert_eq!(planned(&pod, &up, &memory, None).wake, Some(at(NOW + 50)));
        pod.spec.as_mut().unwrap().active_deadline_seconds = Some(5);
        let stop = Action::Stop { id: "c0".into(), reason: KillReason::PodEnds, deadline: at(NOW + 30) };
        assert_eq!(planned(&pod, &up, &memory, None).actions, [stop]);
    }
}
