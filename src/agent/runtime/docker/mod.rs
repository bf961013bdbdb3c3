//! Pods as containers of a Docker engine.
//!
//! ```text
//!   k8s_POD_<pod>_<namespace>_<uid>_<attempt>           the pause container: network and IPC namespaces, published ports
//!   k8s_<container>_<pod>_<namespace>_<uid>_<attempt>   joins them
//! ```
//!
//! Labels name node and cluster, since several agents share one engine; an agent sees its own containers only.
//!
//! - [`shape`]: pure translation between the room's types and the engine's
//! - [`pause`]: the image of the pause container
//! - [`follow`]: logs as they are written
//! - [`failure`]: errors of the engine as those of the room

mod failure;
mod follow;
mod pause;
mod shape;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker as Engine;
use bollard::auth::DockerCredentials;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ContainerSummary};
use bollard::query_parameters as query;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use self::failure::{failed, unless_gone};
use self::shape::Owner;
use super::{
    ContainerRuntime, ContainerSpec, CreatedContainer, Credentials, EngineVersion, ExecOutcome, Image, LogOptions,
    PodId, PodLifecycleEvent, PodView, SandboxSpec, Signal,
};
use crate::agent::error::Error;
use crate::agent::image;
use crate::world::Clock;

/// How long the engine may take until it begins to answer.
const CALL_MAX: Duration = Duration::from_secs(60);
/// How long it may take to answer the first request.
const PING_MAX: Duration = Duration::from_secs(3);
/// A pull that takes longer is given up, and tried again after its backoff.
const PULL_MAX: Duration = Duration::from_secs(1_800);
/// What is kept of a command's output.
const EXEC_OUTPUT_MAX: usize = 10 * 1024;

/// One node's part of a Docker engine. Clones share the connection.
#[derive(Clone)]
pub struct Docker {
    engine: Engine,
    owner: Owner,
    clock: Clock,
    pause_image: String,
    /// The engine has refused to lower an out-of-memory score, since it lacks the privilege.
    cannot_protect: Arc<AtomicBool>,
}

impl Docker {
    /// Connects to the engine that `DOCKER_HOST` names, or the local one, and imports the pause image if it is missing.
    pub async fn connect(node: &str, cluster: &str, clock: Clock) -> Result<Docker, Error> {
        let engine = Engine::connect_with_defaults().map_err(no_engine)?.with_timeout(CALL_MAX);
        let engine = clock
            .timeout(PING_MAX, engine.negotiate_version())
            .await
            .map_err(|_| Error::NoEngine(format!("no answer within {PING_MAX:?}")))?
            .map_err(no_engine)?;
        let pause_image = pause::ensure(&engine).await?;
        let owner = Owner { node: node.to_owned(), cluster: cluster.to_owned() };
        Ok(Docker { engine, owner, clock, pause_image, cannot_protect: Arc::default() })
    }

    async fn list(&self, labels: Vec<String>) -> Result<Vec<ContainerSummary>, Error> {
        let filters = [("label".to_owned(), labels)].into_iter().collect();
        let options = query::ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        self.engine.list_containers(Some(options)).await.map_err(failed)
    }

    /// Creates and starts a container, without a lowered out-of-memory score if the engine may not set one.
    async fn run(&self, name: String, mut body: ContainerCreateBody) -> Result<CreatedContainer, Error> {
        if self.cannot_protect.load(Ordering::Relaxed) {
            shape::do_not_protect(&mut body);
        }
        let outcome = self.run_as_it_is(&name, body.clone()).await;
        let refused = match &outcome {
            Ok(created) => created.failure.is_some(),
            Err(error) => matches!(error, Error::Refused(_)),
        };
        if !refused || !shape::do_not_protect(&mut body) {
            return outcome;
        }
        if let Ok(created) = &outcome {
            self.remove(&created.id).await?;
        }
        let created = self.run_as_it_is(&name, body).await?;
        if created.failure.is_none() {
            tracing::info!("the engine cannot protect containers from the out-of-memory killer");
            self.cannot_protect.store(true, Ordering::Relaxed);
        }
        Ok(created)
    }

    /// Creates and starts a container. One whose process does not start stays, if the engine keeps the reason with it.
    async fn run_as_it_is(&self, name: &str, body: ContainerCreateBody) -> Result<CreatedContainer, Error> {
        let options = query::CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let id = self.engine.create_container(Some(options), body).await.map_err(failed)?.id;
        let started = self.engine.start_container(&id, None::<query::StartContainerOptions>).await.map_err(failed);
        let Err(refused) = started else { return Ok(CreatedContainer { id, failure: None }) };
        if !matches!(refused, Error::Unreachable(_))
            && let Some(failure) = self.start_error(&id).await?
        {
            return Ok(CreatedContainer { id, failure: Some(failure) });
        }
        self.remove(&id).await?;
        Err(refused)
    }

    async fn start_error(&self, id: &str) -> Result<Option<String>, Error> {
        let state = self.engine.inspect_container(id, None::<query::InspectContainerOptions>).await.map_err(failed)?;
        Ok(shape::start_error(&state))
    }
}

fn no_engine(error: bollard::errors::Error) -> Error {
    Error::NoEngine(error.to_string())
}

#[async_trait]
impl ContainerRuntime for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn has_processes(&self) -> bool {
        true
    }

    async fn version(&self) -> Result<EngineVersion, Error> {
        let info = self.engine.info().await.map_err(failed)?;
        Ok(EngineVersion {
            runtime: format!("docker://{}", info.server_version.unwrap_or_default()),
            kernel: info.kernel_version.unwrap_or_default(),
            os_image: info.operating_system.unwrap_or_default(),
        })
    }

    async fn pods(&self) -> Result<Vec<PodId>, Error> {
        let containers = self.list(self.owner.filter()).await?;
        let mut pods: Vec<PodId> = containers.iter().filter_map(shape::pod_of).collect();
        pods.sort();
        pods.dedup();
        Ok(pods)
    }

    async fn view(&self, uid: &str) -> Result<PodView, Error> {
        let mut view = PodView::default();
        for summary in self.list(self.owner.filter_pod(uid)).await? {
            let Some(id) = summary.id else { continue };
            let inspected = self.engine.inspect_container(&id, None::<query::InspectContainerOptions>).await;
            match inspected.map_err(failed) {
                Ok(inspected) => shape::add_to_view(&mut view, inspected),
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        view.sandboxes.sort_by_key(|sandbox| (sandbox.attempt, sandbox.created));
        view.containers.sort_by_key(|container| (container.attempt, container.created));
        Ok(view)
    }

    async fn start_sandbox(&self, pod: &PodId, spec: &SandboxSpec) -> Result<String, Error> {
        let body = shape::sandbox(&self.owner, pod, spec, &self.pause_image);
        let created = self.run(shape::name("POD", pod, spec.attempt), body).await?;
        match created.failure {
            None => Ok(created.id),
            Some(reason) => {
                self.remove(&created.id).await?;
                Err(Error::Refused(reason))
            }
        }
    }

    async fn find_image(&self, image: &str) -> Result<Option<Image>, Error> {
        match self.engine.inspect_image(&image::with_tag(image)).await.map_err(failed) {
            Ok(found) => Ok(Some(Image {
                id: found.id.unwrap_or_default(),
                user: found.config.and_then(|config| config.user).unwrap_or_default(),
            })),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn pull_image(&self, image: &str, credentials: Option<&Credentials>) -> Result<String, Error> {
        let options = query::CreateImageOptions { from_image: Some(image::with_tag(image)), ..Default::default() };
        let credentials = credentials.map(|credentials| DockerCredentials {
            username: Some(credentials.username.clone()),
            password: Some(credentials.password.clone()),
            serveraddress: Some(credentials.registry.clone()),
            ..Default::default()
        });
        let pulled = self.engine.create_image(Some(options), None, credentials).try_for_each(|progress| {
            let failure = progress.error_detail.and_then(|detail| detail.message);
            std::future::ready(match failure {
                Some(error) => Err(bollard::errors::Error::DockerStreamError { error }),
                None => Ok(()),
            })
        });
        let in_time = self.clock.timeout(PULL_MAX, pulled).await;
        in_time.map_err(|_| Error::Refused(format!("the pull took longer than {PULL_MAX:?}")))?.map_err(failed)?;
        let found = self.find_image(image).await?.map(|image| image.id);
        found.ok_or_else(|| Error::NotFound(format!("image {image:?} after its pull")))
    }

    async fn start_container(&self, pod: &PodId, spec: &ContainerSpec) -> Result<CreatedContainer, Error> {
        let body = shape::container(&self.owner, pod, spec);
        self.run(shape::name(&spec.name, pod, spec.attempt), body).await
    }

    async fn signal(&self, id: &str, signal: Signal) -> Result<(), Error> {
        let signal = match signal {
            Signal::Kill => "SIGKILL".to_owned(),
            Signal::Stop => {
                let inspected = self.engine.inspect_container(id, None::<query::InspectContainerOptions>).await;
                let config = inspected.map_err(failed)?.config.unwrap_or_default();
                config.stop_signal.filter(|signal| !signal.is_empty()).unwrap_or_else(|| "SIGTERM".to_owned())
            }
        };
        unless_gone(self.engine.kill_container(id, Some(query::KillContainerOptions { signal })).await)
    }

    async fn remove(&self, id: &str) -> Result<(), Error> {
        let options = query::RemoveContainerOptions { v: true, force: true, link: false };
        unless_gone(self.engine.remove_container(id, Some(options)).await)
    }

    async fn exec(&self, id: &str, command: &[String], limit: Duration) -> Result<ExecOutcome, Error> {
        let options = CreateExecOptions {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let exec = self.engine.create_exec(id, options).await.map_err(failed)?.id;
        let run = async {
            let started = self.engine.start_exec(&exec, None::<StartExecOptions>).await.map_err(failed)?;
            let StartExecResults::Attached { mut output, .. } = started else { return Ok(String::new()) };
            let mut text = Vec::new();
            while let Some(part) = output.next().await {
                let part = part.map_err(failed)?.into_bytes();
                text.extend_from_slice(&part[..part.len().min(EXEC_OUTPUT_MAX - text.len())]);
            }
            Ok::<_, Error>(String::from_utf8_lossy(&text).into_owned())
        };
        let in_time = self.clock.timeout(limit, run).await;
        let output = in_time.map_err(|_| Error::TimedOut(limit))??;
        let exit_code = self.engine.inspect_exec(&exec).await.map_err(failed)?.exit_code.unwrap_or_default();
        Ok(ExecOutcome { exit_code, output })
    }

    async fn logs(&self, id: &str, options: LogOptions) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        // A stream reports a missing container only once it is read.
        let inspected =
            self.engine.inspect_container(id, None::<query::InspectContainerOptions>).await.map_err(failed)?;
        let has_terminal = inspected.config.is_some_and(|config| config.tty == Some(true));
        if options.follow && !has_terminal {
            return Ok(follow::follow(self.engine.clone(), self.clock.clone(), id, options));
        }
        let stream = self.engine.logs(id, Some(follow::logs_request(options)));
        Ok(stream.map(|part| part.map(|part| part.into_bytes()).map_err(failed)).boxed())
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<PodLifecycleEvent, Error>>, Error> {
        let filters = [
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), ["die", "start", "destroy", "oom"].map(str::to_owned).to_vec()),
            ("label".to_owned(), self.owner.filter()),
        ];
        let options = query::EventsOptions { filters: Some(filters.into_iter().collect()), ..Default::default() };
        let events = self.engine.events(Some(options)).map_err(failed);
        Ok(events.try_filter_map(|event| std::future::ready(Ok(shape::changed_pod(event)))).boxed())
    }
}
