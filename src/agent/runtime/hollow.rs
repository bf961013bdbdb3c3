//! The runtime without containers: every image exists, every process starts at once and runs until it is signalled.
//!
//! Names and addresses are digests of the node and the pod, so that two runs of one simulation agree. What "runs" is
//! forgotten when the agent ends, as on a machine that was switched off.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::{
    Container, ContainerRuntime, ContainerSpec, ContainerState, CreatedContainer, Credentials, EngineVersion,
    ExecOutcome, Exit, Image, LogOptions, PodId, PodLifecycleEvent, PodView, Sandbox, SandboxSpec, Signal,
};
use crate::agent::error::Error;
use crate::world::Clock;

/// Events that a slow reader may lag behind; the agent syncs every pod then.
const CHANGES_KEPT: usize = 256;

/// 128 + SIGKILL and 128 + SIGTERM, as a shell reports them.
const EXIT_KILLED: i32 = 137;
const EXIT_TERMINATED: i32 = 143;

/// `nobody`, the user of every image.
const USER: &str = "65534";

/// Pods that only appear to run. Clones share them.
#[derive(Clone)]
pub struct Hollow {
    node: String,
    clock: Clock,
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<PodLifecycleEvent>,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<String, (PodId, PodView)>,
    addresses_given: u16,
}

impl Hollow {
    pub fn new(node: &str, clock: Clock) -> Hollow {
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        Hollow { node: node.to_owned(), clock, state: Arc::default(), changes }
    }

    /// Ends a container's process with `code`, as a crash does. Tests and simulated faults use it.
    pub fn crash(&self, id: &str, code: i32) -> Result<(), Error> {
        self.end(id, code)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        crate::kube::time::timestamp(&self.clock)
    }

    fn changed(&self, uid: &str) {
        // There may be no listener.
        let _ = self.changes.send(PodLifecycleEvent { uid: uid.to_owned() });
    }

    fn end(&self, id: &str, code: i32) -> Result<(), Error> {
        let now = self.now();
        let mut state = self.lock();
        for (pod, view) in state.pods.values_mut() {
            if let Some(sandbox) = view.sandboxes.iter_mut().find(|sandbox| sandbox.id == id) {
                (sandbox.running, sandbox.ip) = (false, None);
            } else if let Some(container) = view.containers.iter_mut().find(|container| container.id == id) {
                if let ContainerState::Running { started } = container.state {
                    container.state = ContainerState::Exited(Exit {
                        code,
                        out_of_memory: false,
                        error: String::new(),
                        started: Some(started),
                        finished: now,
                    });
                }
            } else {
                continue;
            }
            let uid = pod.uid.clone();
            drop(state);
            self.changed(&uid);
            return Ok(());
        }
        Err(Error::NotFound(format!("container {id}")))
    }
}

/// A stable identifier of 64 hexadecimal digits, as Docker's are.
fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Addresses of one node lie in one /16 of 10.0.0.0/8, drawn from its name, so that nodes rarely share any.
fn address(node: &str, number: u16) -> IpAddr {
    let hash = Sha256::digest(node.as_bytes());
    let [high, low] = number.wrapping_add(2).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, hash[0], high ^ (hash[1] & 0xfc), low))
}

#[async_trait]
impl ContainerRuntime for Hollow {
    fn name(&self) -> &'static str {
        "hollow"
    }

    fn has_processes(&self) -> bool {
        false
    }

    async fn version(&self) -> Result<EngineVersion, Error> {
        Ok(EngineVersion {
            runtime: format!("hollow://{}", env!("CARGO_PKG_VERSION")),
            kernel: "hollow".to_owned(),
            os_image: "hollow".to_owned(),
        })
    }

    async fn pods(&self) -> Result<Vec<PodId>, Error> {
        Ok(self.lock().pods.values().map(|(pod, _)| pod.clone()).collect())
    }

    async fn view(&self, uid: &str) -> Result<PodView, Error> {
        Ok(self.lock().pods.get(uid).map(|(_, view)| view.clone()).unwrap_or_default())
    }

    async fn start_sandbox(&self, pod: &PodId, spec: &SandboxSpec) -> Result<String, Error> {
        let id = digest(&[&self.node, &pod.uid, "", &spec.attempt.to_string()]);
        let created = self.now();
        let mut state = self.lock();
        let ip = (!spec.host_network).then(|| address(&self.node, state.addresses_given));
        state.addresses_given = state.addresses_given.wrapping_add(1);
        let (_, view) = state.pods.entry(pod.uid.clone()).or_insert_with(|| (pod.clone(), PodView::default()));
        view.sandboxes.push(Sandbox { id: id.clone(), attempt: spec.attempt, running: true, ip, created });
        Ok(id)
    }

    async fn find_image(&self, image: &str) -> Result<Option<Image>, Error> {
        // The image is not known; root as its user would keep pods with `runAsNonRoot` from starting.
        Ok(Some(Image { id: format!("sha256:{}", digest(&[image])), user: USER.to_owned() }))
    }

    async fn pull_image(&self, image: &str, _: Option<&Credentials>) -> Result<String, Error> {
        Ok(format!("sha256:{}", digest(&[image])))
    }

    async fn start_container(&self, pod: &PodId, spec: &ContainerSpec) -> Result<CreatedContainer, Error> {
        let id = digest(&[&self.node, &pod.uid, &spec.name, &spec.attempt.to_string()]);
        let now = self.now();
        let mut state = self.lock();
        let (_, view) = state.pods.entry(pod.uid.clone()).or_insert_with(|| (pod.clone(), PodView::default()));
        view.containers.push(Container {
            id: id.clone(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            sandbox: spec.sandbox.clone(),
            image: spec.image.clone(),
            image_id: spec.image_id.clone(),
            hash: spec.hash.clone(),
            created: now,
            state: ContainerState::Running { started: now },
            termination_message: None,
        });
        Ok(CreatedContainer { id, failure: None })
    }

    async fn signal(&self, id: &str, signal: Signal) -> Result<(), Error> {
        let code = if signal == Signal::Kill { EXIT_KILLED } else { EXIT_TERMINATED };
        self.end(id, code)
    }

    async fn remove(&self, id: &str) -> Result<(), Error> {
        let mut state = self.lock();
        for (_, view) in state.pods.values_mut() {
            view.sandboxes.retain(|sandbox| sandbox.id != id);
            view.containers.retain(|container| container.id != id);
        }
        state.pods.retain(|_, (_, view)| !view.is_empty());
        Ok(())
    }

    async fn exec(&self, _: &str, _: &[String], _: Duration) -> Result<ExecOutcome, Error> {
        Ok(ExecOutcome::default())
    }

    async fn logs(&self, _: &str, _: LogOptions) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        Ok(futures::stream::empty().boxed())
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<PodLifecycleEvent, Error>>, Error> {
        let stream = BroadcastStream::new(self.changes.subscribe());
        Ok(stream.map(|item| item.map_err(|lagged| Error::Unreachable(lagged.to_string()))).boxed())
    }
}
