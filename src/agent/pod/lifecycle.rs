//! The lifecycle of a pod's containers: which start first, which are restarted, when the pod is over. Plan and status
//! both use it, so they never disagree.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, ContainerRestartRule, ContainerStatus, Pod, PodSpec};

use super::memory::{Health, KillReason, Memory, PostStart};
use super::sysctls;
use crate::agent::runtime::{Container, ContainerState, Exit, PodView, Sandbox};

/// How a pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    Failed,
    /// It ran longer than its `activeDeadlineSeconds`.
    DeadlineExceeded,
    /// It sets kernel parameters that it may not set.
    SysctlForbidden,
}

/// A pod with all that is known of it at one time: plan and status are functions of it.
#[derive(Clone, Copy)]
pub struct PodSnapshot<'a> {
    pub pod: &'a Pod,
    pub view: &'a PodView,
    pub memory: &'a Memory,
    pub now: Timestamp,
    /// Whether probes run; without them containers count as healthy.
    pub probed: bool,
}

pub fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().expect("a pod without a specification is refused when it arrives")
}

pub fn init_containers(pod: &Pod) -> &[Spec] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// An init container that runs beside the others once it has started.
pub fn is_sidecar(container: &Spec) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether a container is started again after it ended with `code`.
pub fn restarts(pod: &Pod, container: &Spec, is_init: bool, code: i32) -> bool {
    if is_init && is_sidecar(container)
        || container.restart_policy_rules.iter().flatten().any(|rule| applies(rule, code))
    {
        return true;
    }
    if is_init && code == 0 {
        return false;
    }
    let policy = container.restart_policy.as_deref().or(spec(pod).restart_policy.as_deref()).unwrap_or("Always");
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

/// Whether `rule` restarts a container that ended with `code`.
fn applies(rule: &ContainerRestartRule, code: i32) -> bool {
    let Some(exit) = rule.exit_codes.as_ref().filter(|_| rule.action == "Restart") else { return false };
    let is_named = exit.values.iter().flatten().any(|value| *value == code);
    match exit.operator.as_str() {
        "In" => is_named,
        "NotIn" => !is_named,
        _ => false,
    }
}

/// The container's status in the API.
pub fn reported<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    all.into_iter().find(|container| container.name == name)
}

impl<'a> PodSnapshot<'a> {
    pub fn sandbox(&self) -> Option<&'a Sandbox> {
        self.view.active_sandbox()
    }

    pub fn exit(&self, name: &str) -> Option<(&'a Container, &'a Exit)> {
        let container = self.view.latest(name)?;
        match &container.state {
            ContainerState::Exited(exit) => Some((container, exit)),
            ContainerState::Created | ContainerState::Running { .. } => None,
        }
    }

    /// The running container of that name in the present sandbox.
    pub fn running(&self, name: &str) -> Option<&'a Container> {
        let container = self.view.latest(name)?;
        let here = self.sandbox().is_some_and(|sandbox| sandbox.id == container.sandbox);
        (here && container.is_running()).then_some(container)
    }

    fn health(&self, container: &Container) -> Health {
        self.memory.health.get(&container.id).copied().unwrap_or_default()
    }

    /// The container runs and its postStart hook does, too: it does not count as started yet.
    pub fn is_in_post_start(&self, container: &Container) -> bool {
        container.is_running() && self.memory.post_start.get(&container.id) == Some(&PostStart::Running)
    }

    /// Running, its postStart hook is over and its startup probe, if it has one, has succeeded.
    pub fn is_started(&self, spec: &Spec) -> bool {
        self.running(&spec.name).is_some_and(|container| {
            !self.is_in_post_start(container)
                && (!self.probed || spec.startup_probe.is_none() || self.health(container).started == Some(true))
        })
    }

    /// Started, and its readiness probe, if it has one, succeeds: also while it is being stopped.
    pub fn is_ready(&self, spec: &Spec) -> bool {
        self.is_started(spec)
            && self.running(&spec.name).is_some_and(|container| {
                !self.probed || spec.readiness_probe.is_none() || self.health(container).ready == Some(true)
            })
    }

    /// Why the running container must be replaced: its hook or a probe failed.
    pub fn unhealthy(&self, container: &Container) -> Option<KillReason> {
        let health = self.health(container);
        match self.memory.post_start.get(&container.id) {
            Some(PostStart::Failed) => Some(KillReason::PostStartHook),
            _ if !self.probed => None,
            _ if health.started == Some(false) => Some(KillReason::StartupProbe),
            _ if health.alive == Some(false) => Some(KillReason::LivenessProbe),
            _ => None,
        }
    }

    /// Whether an init container needs nothing more before the next may start.
    pub fn is_initialized_by(&self, spec: &Spec) -> bool {
        if is_sidecar(spec) {
            return self.is_started(spec);
        }
        let here = |container: &Container| self.sandbox().is_none_or(|sandbox| sandbox.id == container.sandbox);
        self.exit(&spec.name).is_some_and(|(container, exit)| exit.code == 0 && here(container))
    }

    /// Whether the app containers may start: every init container is done, or an app container was started in this
    /// sandbox, which proves it even if the ended init containers were removed.
    pub fn is_initialized(&self) -> bool {
        let in_sandbox = |container: &Container| self.sandbox().is_some_and(|sandbox| sandbox.id == container.sandbox);
        let app_ran = spec(self.pod).containers.iter().any(|app| {
            self.view.containers.iter().any(|container| container.name == app.name && in_sandbox(container))
        });
        app_ran || init_containers(self.pod).iter().all(|init| self.is_initialized_by(init))
    }

    /// How the pod ended; `None` while something runs or is to be started.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
            Some("Succeeded") => return Some(Outcome::Succeeded),
            Some("Failed") => return Some(Outcome::Failed),
            _ => {}
        }
        if sysctls::forbidden(spec(self.pod)).is_some() {
            return Some(Outcome::SysctlForbidden);
        }
        if self.deadline().is_some_and(|deadline| self.now >= deadline) {
            return Some(Outcome::DeadlineExceeded);
        }
        let init_failed = init_containers(self.pod).iter().any(|init| {
            self.exit(&init.name).is_some_and(|(_, exit)| exit.code != 0 && !restarts(self.pod, init, true, exit.code))
        });
        if init_failed && !self.is_initialized() {
            return Some(Outcome::Failed);
        }
        let mut failed = false;
        for app in &spec(self.pod).containers {
            let (_, exit) = self.exit(&app.name)?;
            if restarts(self.pod, app, false, exit.code) {
                return None;
            }
            failed |= exit.code != 0;
        }
        Some(if failed { Outcome::Failed } else { Outcome::Succeeded })
    }

    /// The end of the pod's `activeDeadlineSeconds`.
    pub fn deadline(&self) -> Option<Timestamp> {
        let seconds = spec(self.pod).active_deadline_seconds?;
        Some(self.start_time()? + SignedDuration::from_secs(seconds))
    }

    /// When the agent took the pod up.
    pub fn start_time(&self) -> Option<Timestamp> {
        let reported = self.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        reported.map(|time| time.0).or(self.memory.started)
    }

    /// How many times the next container of that name will have been started before.
    pub fn next_attempt(&self, name: &str) -> u32 {
        if let Some(container) = self.view.latest(name) {
            return container.attempt + 1;
        }
        let Some(reported) = reported(self.pod, name) else { return 0 };
        let count = u32::try_from(reported.restart_count).unwrap_or_default();
        if reported.container_id.is_some() { count + 1 } else { count }
    }
}
