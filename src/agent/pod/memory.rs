//! What is known of one pod beyond its specification and what the engine shows: attempts and their failures, kills
//! under way, results of probes. An agent that starts again begins without it; only backoffs start over then.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::backoff::Backoff;

/// A failure, with the reason and message of a container's waiting state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: &'static str,
    pub message: String,
    pub at: Timestamp,
    pub retry_at: Timestamp,
}

/// The state of the image for a container's next start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ImageState {
    #[default]
    Unknown,
    Pulling,
    /// Its ID.
    Ready(String),
    Failed(Failure),
}

/// What is remembered of the containers of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerMemory {
    pub restarts: Backoff,
    pub image: ImageState,
    pub pulls: Backoff,
    /// The last attempt to create it failed.
    pub failure: Option<Failure>,
    pub failures: Backoff,
    /// Why it waits, by its status; the events of that are recorded.
    pub waiting: Option<String>,
}

/// Why a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// The pod is being deleted, or has ended.
    PodEnds,
    LivenessProbe,
    StartupProbe,
    /// Its postStart hook failed.
    PostStartHook,
    /// Its part of the pod's specification has changed.
    Changed,
    /// The sandbox it lives in is gone.
    SandboxGone,
}

/// The state of the preStop hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreStop {
    Running,
    Done,
}

/// The state of a container's postStart hook. Without an entry it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostStart {
    Running,
    Failed,
}

/// A container that is being stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    pub reason: KillReason,
    /// SIGKILL follows then.
    pub deadline: Timestamp,
    pub pre_stop: PreStop,
    pub signaled: bool,
}

/// Results of the probes of one running container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `None` while the probe has not decided.
    pub started: Option<bool>,
    pub ready: Option<bool>,
    pub alive: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// By container name.
    pub containers: BTreeMap<String, ContainerMemory>,
    /// By container ID.
    pub kills: BTreeMap<String, Kill>,
    /// By container ID.
    pub health: BTreeMap<String, Health>,
    /// By container ID.
    pub post_start: BTreeMap<String, PostStart>,
    /// The sandbox could not be started, or the volumes could not be prepared.
    pub sandbox_failure: Option<Failure>,
    pub sandbox_failures: Backoff,
    /// By container ID.
    pub termination_messages: BTreeMap<String, String>,
    /// The last status of a pod being deleted is written; what follows is not reported.
    pub final_status_written: bool,
    /// When the agent first took the pod up.
    pub started: Option<Timestamp>,
}

impl Memory {
    pub fn container(&mut self, name: &str) -> &mut ContainerMemory {
        self.containers.entry(name.to_owned()).or_default()
    }

    /// Forgets what is about containers that the engine no longer has.
    pub fn keep_only(&mut self, is_there: impl Fn(&str) -> bool) {
        self.kills.retain(|id, _| is_there(id));
        self.health.retain(|id, _| is_there(id));
        self.post_start.retain(|id, _| is_there(id));
        self.termination_messages.retain(|id, _| is_there(id));
    }
}

impl Failure {
    /// A failure now, to be tried again when `backoff` says.
    pub fn after(reason: &'static str, message: String, backoff: &mut Backoff, now: Timestamp) -> Failure {
        let delay = backoff.note(now, now);
        Failure { reason, message, at: now, retry_at: now + delay }
    }
}
