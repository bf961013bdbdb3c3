//! One sync of a pod: view, plan, act and view again, until there is nothing to do but wait.
//!
//! A sync runs as a task of its own and holds the pod's memory; the pod actor starts the next one after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Container as Spec, ObjectReference, Pod, PodStatus, ServiceAccount, Volume};

use super::content::{self, Content, TokenNeed, Tokens};
use super::downward_api::DownwardApi;
use super::lifecycle::{self, Outcome, PodSnapshot};
use super::memory::{Failure, ImageState, Kill, KillReason, Memory, PostStart, PreStop};
use super::plan::{self, Action, Goal};
use super::sources::{self, Names, Sources};
use super::status::{self, NodeFacts};
use super::volumes::PodDir;
use super::{env, spec, sysctls, termination_message, waiting};
use crate::agent::context::Context;
use crate::agent::error::Error;
use crate::agent::image;
use crate::agent::runtime::{ContainerSpec, ContainerState, CreatedContainer, Credentials, PodView, Signal};
use crate::kube::events::{Severity, reference};
use crate::kube::status::Status;
use crate::kube::time;
use crate::world::disk::Bind;

/// Rounds of one sync. If there is still something to do then, the next sync follows at once.
const ROUNDS_MAX: usize = 12;
/// How long a sync waits for the API; then it goes on with what was fetched before.
const API_MAX: Duration = Duration::from_secs(5);
/// How long the first start of a container waits for the list of services.
const SERVICES_MAX: Duration = Duration::from_secs(2);
/// Volumes are refreshed after a time from this range.
const REFRESH: std::ops::Range<Duration> = Duration::from_secs(60)..Duration::from_secs(90);
/// 128 + SIGKILL, the exit code of a process that was killed.
const EXIT_KILLED: i32 = 137;
/// After an error of the engine the next sync comes this much later.
const ENGINE_RETRY: SignedDuration = SignedDuration::from_secs(5);

/// What a pod keeps between syncs.
#[derive(Default)]
pub struct PodState {
    pub memory: Memory,
    pub sources: Sources,
    pub tokens: BTreeMap<TokenNeed, IssuedToken>,
    pub refresh_at: Option<Timestamp>,
}

pub struct IssuedToken {
    token: String,
    renew_at: Timestamp,
}

/// Work that goes on beside the syncs; the pod actor starts it.
pub enum BackgroundTask {
    Pull { container: String, image: String, credentials: Option<Credentials> },
    PreStop { container_id: String, container: Box<Spec>, is_init: bool, limit: Duration },
    PostStart { container_id: String, container: Box<Spec>, is_init: bool },
}

pub struct PodSync {
    pub context: Arc<Context>,
    pub pod: Arc<Pod>,
    pub state: PodState,
    /// The time by which all processes must have ended, once the pod is being deleted.
    pub delete_by: Option<Timestamp>,
    /// The API has no such pod any more: there is no status to write.
    pub gone: bool,
    /// The status that was written to the API last.
    pub written_status: Option<PodStatus>,
    pub tasks: Vec<BackgroundTask>,
}

pub struct SyncResult {
    pub state: PodState,
    pub tasks: Vec<BackgroundTask>,
    pub outcome: SyncOutcome,
}

/// How a sync ended.
pub enum SyncOutcome {
    /// There is nothing to do before `wake`, unless something happens.
    UpToDate { view: PodView, status: Box<PodStatus>, wake: Option<Timestamp> },
    /// Nothing is left of the pod.
    Removed,
    /// The engine failed, or the rounds did not suffice: sync again at `wake`.
    Incomplete { wake: Timestamp },
}

impl PodSync {
    pub async fn run(mut self) -> SyncResult {
        let outcome = match self.rounds().await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::warn!(pod = self.pod.metadata.name, %error, "cannot sync a pod");
                SyncOutcome::Incomplete { wake: self.now() + ENGINE_RETRY }
            }
        };
        SyncResult { state: self.state, tasks: self.tasks, outcome }
    }

    /// Returns errors of viewing the pod only; a failed action is remembered, and the next plan considers it.
    async fn rounds(&mut self) -> Result<SyncOutcome, Error> {
        let uid = self.pod.metadata.uid.clone().unwrap_or_default();
        // The API keeps whole seconds; with more, the status would differ from what was written.
        let now = self.now();
        self.state.memory.started.get_or_insert(Timestamp::from_second(now.as_second()).unwrap_or(now));
        for _ in 0..ROUNDS_MAX {
            let view = self.context.runtime.view(&uid).await?;
            self.update_memory(&view).await;
            self.refresh_volumes(&view).await;
            let pod = self.pod.clone();
            let snapshot = PodSnapshot {
                pod: &pod,
                view: &view,
                memory: &self.state.memory,
                now: self.now(),
                probed: self.context.runtime.has_processes(),
            };
            let node = NodeFacts { address: self.context.address, runtime: self.context.runtime.name() };
            let goal = plan::goal(snapshot, self.delete_by);
            let is_forbidden = snapshot.outcome() == Some(Outcome::SysctlForbidden);
            let computed = status::compute(snapshot, node);
            let (is_written, status) = match (&self.written_status, self.state.memory.final_status_written) {
                (Some(last), true) => (true, last.clone()),
                (last, _) => (self.gone || last.as_ref() == Some(&computed), computed),
            };
            let plan = plan::plan(snapshot, goal, is_written);
            let runs = view.containers.iter().any(|container| container.is_running());
            self.state.memory.final_status_written |= is_written && !runs && matches!(goal, Goal::Delete { .. });
            if goal == Goal::Run {
                self.record_waiting(&status);
            }
            if plan.actions == [Action::ConfirmDeletion] {
                self.dir().remove()?;
                return Ok(SyncOutcome::Removed);
            }
            if plan.actions.is_empty() {
                if !is_written && is_forbidden {
                    let why = sysctls::forbidden(lifecycle::spec(&pod)).unwrap_or_default();
                    self.context.events.event(&*pod, Severity::Warning, "SysctlForbidden", why);
                }
                let wake = plan.wake.into_iter().chain(self.state.refresh_at).min();
                return Ok(SyncOutcome::UpToDate { view, status: Box::new(status), wake });
            }
            for action in plan.actions {
                self.act(action, &view, goal).await?;
            }
        }
        Ok(SyncOutcome::Incomplete { wake: self.now() })
    }

    /// Records the events of containers that wait for another reason than before.
    fn record_waiting(&mut self, status: &PodStatus) {
        let init = status.init_container_statuses.iter().flatten().map(|container| (container, true));
        let apps = status.container_statuses.iter().flatten().map(|container| (container, false));
        for (container, is_init) in init.chain(apps) {
            let waits = container.state.as_ref().and_then(|state| state.waiting.as_ref());
            let reason = waits.and_then(|waits| waits.reason.clone());
            let memory = self.state.memory.container(&container.name);
            if memory.waiting == reason {
                continue;
            }
            memory.waiting = reason;
            let about = container_reference(&self.pod, &container.name, is_init);
            for (severity, reason, message) in
                waits.iter().flat_map(|waits| waiting::events(&self.pod, container, waits))
            {
                self.context.events.event_about(&about, severity, reason, message);
            }
        }
    }

    /// Updates the memory by what the engine shows.
    async fn update_memory(&mut self, view: &PodView) {
        self.state.memory.keep_only(|id| view.containers.iter().any(|container| container.id == id));
        for container in &view.containers {
            if let ContainerState::Exited(exit) = &container.state
                && !self.state.memory.termination_messages.contains_key(&container.id)
            {
                let words = termination_message::read(&self.context, &self.dir(), &self.pod, container, exit).await;
                self.state.memory.termination_messages.insert(container.id.clone(), words.unwrap_or_default());
            }
        }
    }

    async fn act(&mut self, action: Action, view: &PodView, goal: Goal) -> Result<(), Error> {
        match action {
            Action::StartSandbox { attempt } => self.start_sandbox(attempt).await,
            Action::FindImage { container, is_init } => self.find_image(&container, is_init).await,
            Action::StartContainer { container, is_init, attempt, image_id, sandbox } => {
                if let ContainerState::Exited(exit) =
                    view.latest(&container).map_or(&ContainerState::Created, |latest| &latest.state)
                {
                    let now = self.now();
                    self.state.memory.container(&container).restarts.note(exit.finished, now);
                }
                self.start_container(&container, is_init, attempt, image_id, sandbox, view).await
            }
            Action::Stop { id, reason, deadline } => self.stop(id, reason, deadline, view),
            Action::Signal { id, signal } => {
                if let (Signal::Stop, Some(kill)) = (signal, self.state.memory.kills.get_mut(&id)) {
                    kill.signaled = true;
                }
                unless_gone(self.context.runtime.signal(&id, signal).await)?;
            }
            Action::Remove { id } => unless_gone(self.context.runtime.remove(&id).await)?,
            Action::ConfirmDeletion => unreachable!("deletion is confirmed when nothing else is to be done: {goal:?}"),
        }
        Ok(())
    }

    async fn start_sandbox(&mut self, attempt: u32) {
        let created = match self.prepare_volumes().await {
            Ok(()) => {
                let started = match spec::sandbox(&self.pod, attempt) {
                    Ok(spec) => self.context.runtime.start_sandbox(&spec::pod_id(&self.pod), &spec).await,
                    Err(error) => Err(error),
                };
                started.map_err(|error| ("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}")))
            }
            Err(error) => Err(("FailedMount", format!("MountVolume.SetUp failed: {error}"))),
        };
        let now = self.now();
        let memory = &mut self.state.memory;
        match created {
            Ok(_) => memory.sandbox_failure = None,
            Err((reason, message)) => {
                self.context.events.event(&*self.pod, Severity::Warning, reason, message.clone());
                let failure = Failure::after(reason, message, &mut memory.sandbox_failures, now);
                memory.sandbox_failure = Some(failure);
            }
        }
    }

    /// Finds the image, or starts to pull it.
    async fn find_image(&mut self, container: &str, is_init: bool) {
        let Some(spec) = self.container_spec(container, is_init) else { return };
        let name = spec.image.clone().unwrap_or_default();
        let policy = spec::pull_policy(&spec).to_owned();
        let state = if !image::is_valid(&name) {
            let message = format!("Failed to apply default image tag {name:?}: couldn't parse image name");
            self.image_failure(container, "InvalidImageName", message)
        } else {
            match self.context.runtime.find_image(&name).await {
                Err(error) => self.image_failure(container, "ErrImagePull", error.to_string()),
                Ok(Some(found)) if policy != "Always" => {
                    self.event(
                        container,
                        is_init,
                        "Pulled",
                        format!("Container image {name:?} already present on machine"),
                    );
                    ImageState::Ready(found.id)
                }
                Ok(None) if policy == "Never" => {
                    let message = format!("Container image {name:?} is not present with pull policy of Never");
                    self.image_failure(container, "ErrImageNeverPull", message)
                }
                Ok(_) => {
                    self.event(container, is_init, "Pulling", format!("Pulling image {name:?}"));
                    self.fetch(&Names { secrets: sources::pull_secrets(&self.pod), ..Names::default() }).await;
                    let credentials = self.state.sources.credentials(&self.pod, &name);
                    self.tasks.push(BackgroundTask::Pull { container: container.to_owned(), image: name, credentials });
                    ImageState::Pulling
                }
            }
        };
        self.state.memory.container(container).image = state;
    }

    fn image_failure(&mut self, container: &str, reason: &'static str, message: String) -> ImageState {
        let now = self.now();
        let memory = self.state.memory.container(container);
        ImageState::Failed(Failure::after(reason, message, &mut memory.pulls, now))
    }

    async fn start_container(
        &mut self,
        name: &str,
        is_init: bool,
        attempt: u32,
        image_id: String,
        sandbox: String,
        view: &PodView,
    ) {
        let Some(container) = self.container_spec(name, is_init) else { return };
        let created = match self.describe(&container, attempt, image_id, sandbox, view).await {
            // The parts of volumes that are held are released when it has started.
            Ok((wanted, _held)) => {
                let started = self.context.runtime.start_container(&spec::pod_id(&self.pod), &wanted).await;
                started.map_err(|error| ("CreateContainerError", error.to_string()))
            }
            Err(error) => Err(("CreateContainerConfigError", error.to_string())),
        };
        let now = self.now();
        let memory = self.state.memory.container(name);
        memory.image = ImageState::Unknown;
        match created {
            Ok(CreatedContainer { id, failure }) => {
                memory.failure = None;
                self.event(name, is_init, "Created", format!("Created container: {name}"));
                if let Some(failure) = failure {
                    let message = format!("Error: failed to start container {name:?}: {failure}");
                    return self.warning(name, is_init, "Failed", message);
                }
                self.event(name, is_init, "Started", format!("Started container {name}"));
                let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
                if hook.is_some() && self.context.runtime.has_processes() {
                    self.state.memory.post_start.insert(id.clone(), PostStart::Running);
                    let container = Box::new(container);
                    self.tasks.push(BackgroundTask::PostStart { container_id: id, container, is_init });
                }
            }
            Err((reason, message)) => {
                memory.failure = Some(Failure::after(reason, message.clone(), &mut memory.failures, now));
                self.warning(name, is_init, "Failed", format!("Error: {message}"));
            }
        }
    }

    /// The container's specification for the engine.
    async fn describe(
        &mut self,
        container: &Spec,
        attempt: u32,
        image_id: String,
        sandbox: String,
        view: &PodView,
    ) -> Result<(ContainerSpec, Vec<Bind>), Error> {
        self.fetch(&sources::env_names(&self.pod)).await;
        let clock = &self.context.world.clock;
        // The API may be away: the container starts without variables of services then.
        let _ = clock.timeout(SERVICES_MAX, self.context.services.synced()).await;
        let services = self.context.services.all();
        let own = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let links = lifecycle::spec(&self.pod).enable_service_links != Some(false);
        let services = env::of_services(services.iter().map(|service| &**service), own, links);
        let downward_api = self.downward_api(view);
        let environment = env::environment(container, downward_api, &self.state.sources, &services)?;
        let image = self.context.runtime.find_image(&image_id).await?;
        let image_user = image.ok_or_else(|| Error::NotFound(format!("image {image_id}")))?.user;
        let has_files = self.context.runtime.has_processes();
        let dir = self.dir();
        let (mut held, mut count) = (Vec::new(), 0);
        let mounts = if has_files {
            spec::mounts(container, &environment, |mount, sub_path| {
                let volume = self.volume(&mount.name)?;
                let content = match content::content(volume, downward_api, &self.state.sources, &self.tokens()) {
                    Ok(content) => content,
                    // Its files exist from before, since the sandbox runs.
                    Err(_) if content::is_refreshed(volume) => Content::Files(BTreeMap::new()),
                    Err(error) => return Err(error),
                };
                count += 1;
                let source = dir.source(&content, mount, sub_path, &format!("{}/{count}", container.name))?;
                held.extend(source.held);
                Ok(spec::MountSource { path: source.path, read_only: matches!(content, Content::Files(_)) })
            })?
        } else {
            Vec::new()
        };
        let termination_message =
            if has_files { Some(dir.termination_message(&container.name, attempt)?) } else { None };
        let node_memory_bytes = self.context.capacity.memory_bytes;
        let inputs = spec::ContainerInputs {
            attempt,
            sandbox,
            image_id,
            image_user,
            environment,
            mounts,
            termination_message,
            node_memory_bytes,
        };
        Ok((spec::container(&self.pod, container, inputs)?, held))
    }

    fn stop(&mut self, id: String, reason: KillReason, deadline: Timestamp, view: &PodView) {
        let now = self.now();
        let Some(running) = view.containers.iter().find(|container| container.id == id) else { return };
        let is_init = lifecycle::init_containers(&self.pod).iter().any(|init| init.name == running.name);
        let spec = self.container_spec(&running.name, is_init);
        let restarts = spec.as_ref().is_some_and(|spec| lifecycle::restarts(&self.pod, spec, is_init, EXIT_KILLED));
        let again = if restarts { ", will be restarted" } else { "" };
        let message = match reason {
            KillReason::PodEnds => format!("Stopping container {}", running.name),
            KillReason::LivenessProbe => format!("Container {} failed liveness probe{again}", running.name),
            KillReason::StartupProbe => format!("Container {} failed startup probe{again}", running.name),
            KillReason::PostStartHook => "FailedPostStartHook".to_owned(),
            KillReason::Changed => format!("Container {} definition changed, will be restarted", running.name),
            KillReason::SandboxGone => format!("Container {} lost its sandbox, will be restarted", running.name),
        };
        self.event(&running.name, is_init, "Killing", message);
        let left = Duration::try_from(deadline.duration_since(now)).unwrap_or_default();
        let hooked = spec.filter(|spec| {
            let hook = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
            hook.is_some() && !left.is_zero() && self.context.runtime.has_processes()
        });
        let pre_stop = if hooked.is_some() { PreStop::Running } else { PreStop::Done };
        if let Some(container) = hooked {
            let container = Box::new(container);
            self.tasks.push(BackgroundTask::PreStop { container_id: id.clone(), container, is_init, limit: left });
        }
        self.state.memory.kills.insert(id, Kill { reason, deadline, pre_stop, signaled: false });
    }

    /// Fetches sources. If the API does not answer in time, those that were fetched before stay.
    async fn fetch(&mut self, names: &Names) {
        if names.is_empty() {
            return;
        }
        let namespace = self.pod.metadata.namespace.clone().unwrap_or_default();
        let fetched = sources::fetch(&self.context.client, &namespace, names);
        match self.context.world.clock.timeout(API_MAX, fetched).await {
            Ok(Ok(fetched)) => self.state.sources.update(names, fetched),
            Ok(Err(error)) => tracing::debug!(%error, "sources of a pod cannot be fetched"),
            Err(_) => tracing::debug!("the API does not answer in time; former sources are used"),
        }
    }

    async fn issue_tokens(&mut self) {
        let now = self.now();
        for need in content::tokens_needed(&self.pod) {
            if self.state.tokens.get(&need).is_some_and(|issued| issued.renew_at > now) {
                continue;
            }
            match self.context.world.clock.timeout(API_MAX, self.issue(&need)).await {
                Ok(Ok(issued)) => {
                    self.state.tokens.insert(need, issued);
                }
                Ok(Err(error)) => tracing::debug!(%error, "a service account token cannot be issued"),
                Err(_) => tracing::debug!("the API does not answer in time; no new service account token"),
            }
        }
    }

    async fn issue(&self, need: &TokenNeed) -> Result<IssuedToken, Status> {
        let meta = &self.pod.metadata;
        let account = lifecycle::spec(&self.pod).service_account_name.as_deref().unwrap_or("default");
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: if need.audience.is_empty() { Vec::new() } else { vec![need.audience.clone()] },
                expiration_seconds: Some(need.expiration_seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: meta.name.clone(),
                    uid: meta.uid.clone(),
                }),
            },
            ..TokenRequest::default()
        };
        let accounts = self.context.client.api::<ServiceAccount>();
        let accounts = accounts.namespaced(meta.namespace.as_deref().unwrap_or_default());
        let answer = accounts.create_token(account, &request).await?.status;
        let status =
            answer.ok_or_else(|| Status::new(500, "InternalError", "a TokenRequest came back without a token"))?;
        let now = self.now();
        let life = status.expiration_timestamp.0.duration_since(now);
        // It is renewed at four fifths of its life, and daily at least.
        let renew_at = now + (life * 4 / 5).min(SignedDuration::from_hours(24));
        Ok(IssuedToken { token: status.token, renew_at })
    }

    /// Prepares every volume.
    async fn prepare_volumes(&mut self) -> Result<(), Error> {
        self.fetch(&sources::volume_names(&self.pod)).await;
        if !self.context.runtime.has_processes() {
            return Ok(());
        }
        self.issue_tokens().await;
        let (dir, tokens) = (self.dir(), self.tokens());
        let downward_api = self.downward_api(&PodView::default());
        let group = lifecycle::spec(&self.pod).security_context.as_ref().and_then(|context| context.fs_group);
        let group = group.and_then(|group| u32::try_from(group).ok());
        let mut refreshed = false;
        for volume in lifecycle::spec(&self.pod).volumes.iter().flatten() {
            refreshed |= content::is_refreshed(volume);
            let content = content::content(volume, downward_api, &self.state.sources, &tokens)?;
            dir.prepare(&volume.name, &content, group)?;
        }
        let (now, wait) = (self.now(), self.context.world.random.duration(REFRESH));
        let wait = SignedDuration::try_from(wait).expect("a minute fits");
        self.state.refresh_at = refreshed.then(|| now + wait);
        Ok(())
    }

    /// Refreshes files from their objects now and then. An agent that started again does not know when that was last:
    /// it does so at once.
    async fn refresh_volumes(&mut self, view: &PodView) {
        let now = self.now();
        if self.delete_by.is_some() || view.active_sandbox().is_none() || !self.context.runtime.has_processes() {
            return;
        }
        match self.state.refresh_at {
            Some(at) if at > now => return,
            None if !lifecycle::spec(&self.pod).volumes.iter().flatten().any(content::is_refreshed) => return,
            Some(_) | None => {}
        }
        if let Err(error) = self.prepare_volumes().await {
            tracing::debug!(%error, "volumes cannot be refreshed");
            self.state.refresh_at = Some(now + SignedDuration::try_from(REFRESH.end).expect("a minute fits"));
        }
    }

    fn now(&self) -> Timestamp {
        time::timestamp(&self.context.world.clock)
    }

    fn dir(&self) -> PodDir {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        PodDir::new(self.context.world.disk.clone(), &self.context.data_dir, uid)
    }

    fn tokens(&self) -> Tokens {
        self.state.tokens.iter().map(|(need, issued)| (need.clone(), issued.token.clone())).collect()
    }

    fn downward_api(&self, view: &PodView) -> DownwardApi<'_> {
        let on_host = lifecycle::spec(&self.pod).host_network == Some(true);
        let own = view.active_sandbox().and_then(|sandbox| sandbox.ip);
        DownwardApi {
            pod: &self.pod,
            host_ip: self.context.address,
            pod_ip: if on_host { Some(self.context.address) } else { own },
            node: self.context.capacity,
        }
    }

    fn volume(&self, name: &str) -> Result<&Volume, Error> {
        let found = lifecycle::spec(&self.pod).volumes.iter().flatten().find(|volume| volume.name == name);
        found.ok_or_else(|| Error::Config(format!("volumeMount {name:?} names no volume of the pod")))
    }

    fn container_spec(&self, name: &str, is_init: bool) -> Option<Spec> {
        let all = if is_init { lifecycle::init_containers(&self.pod) } else { &lifecycle::spec(&self.pod).containers };
        all.iter().find(|spec| spec.name == name).cloned()
    }

    fn event(&self, container: &str, is_init: bool, reason: &str, message: String) {
        let about = container_reference(&self.pod, container, is_init);
        self.context.events.event_about(&about, Severity::Normal, reason, message);
    }

    fn warning(&self, container: &str, is_init: bool, reason: &str, message: String) {
        let about = container_reference(&self.pod, container, is_init);
        self.context.events.event_about(&about, Severity::Warning, reason, message);
    }
}

/// A container, as events name it.
pub fn container_reference(pod: &Pod, container: &str, is_init: bool) -> ObjectReference {
    let list = if is_init { "initContainers" } else { "containers" };
    ObjectReference { field_path: Some(format!("spec.{list}{{{container}}}")), ..reference(pod) }
}

/// Ignores that a container is gone already; the next view shows it.
fn unless_gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::NotFound(_)) => Ok(()),
        other => other,
    }
}
