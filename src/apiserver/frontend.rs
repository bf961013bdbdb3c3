//! [`Frontend`]: a Kubernetes endpoint and its background duties, each a task. They put the built-in objects in the
//! store, keep the Service `kubernetes` and the frontend's address in its endpoints, count quotas anew after deletions,
//! and follow which pods are on which node. Requests are tasks, too; all tasks share the request path.
//!
//! A frontend holds nothing that is not in the store. A duty that panics is restarted; all end with the node.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::actor::{Budget, Gate, Shutdown, Supervisor};
use crate::kube::client::Transport;
use crate::kube::resources::Table;
use crate::kube::schema::Schemas;
use crate::store;
use crate::world::World;
use crate::world::net::Refusal;

use super::admission::{Admission, Turns};
use super::authentication::Authenticator;
use super::authorization::Authorizer;
use super::config::Config;
use super::error::Error;
use super::in_process::InProcess;
use super::metrics::Metrics;
use super::recounts::Recounts;
use super::request::{Api, BODIES_BYTES_MAX, READS_MAX, WRITES_MAX};
use super::server::{self, Server};
use super::services::{Addresses, Network};
use super::storage::Storage;
use super::store_check::StoreCheck;
use super::tokens::Tokens;
use super::user::User;

/// Pause between attempts to put the built-in objects in the store.
const RETRY: Duration = Duration::from_millis(200);
/// How long one attempt may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(20);
/// How often all quotas are counted anew, whatever may have been missed.
const RECOUNT_PERIOD: Duration = Duration::from_secs(300);
/// How often the address is written; an address that is not written again goes after three times as long.
const ADVERTISE_PERIOD: Duration = Duration::from_secs(5);
/// Core kinds that admission and authentication ask for: their caches are filled from the start.
const WARM: [&str; 6] = ["namespaces", "serviceaccounts", "limitranges", "resourcequotas", "pods", "nodes"];

/// A running frontend. Clones share it.
#[derive(Clone)]
pub struct Frontend {
    api: Arc<Api>,
    address: Option<SocketAddr>,
}

impl Frontend {
    /// Starts a frontend. It answers once the store does; until then requests wait, within their deadline.
    pub async fn start(
        world: World,
        config: Config,
        store: store::client::Client,
        shutdown: Shutdown,
    ) -> Result<Frontend, Error> {
        let tls = config.tls.as_ref().map(|tls| server::acceptor(tls, world.clock.clone())).transpose()?;
        let (ready, is_ready) = watch::channel(false);
        let supervisor = Supervisor::new(&world, &shutdown);
        let api = Arc::new(build(&world, &config, store, is_ready, shutdown)?);
        let mut address = None;
        if let Some(listen) = &config.listen {
            let refuse = |source| Error::Listen { address: listen.clone(), source };
            let listener = world.net.listen(listen).await.map_err(refuse)?;
            let listener = listener.refusing_by(if tls.is_some() { Refusal::Tls } else { Refusal::Http });
            address = Some(listener.local_addr().map_err(refuse)?);
            let server = Arc::new(Server { api: api.clone(), listener, tls });
            supervisor.task("apiserver/listener", move || {
                let server = server.clone();
                async move { server.run().await }
            });
        }
        let duties = Duties { api: api.clone(), supervisor: supervisor.restart_on_panic_only() };
        let ready = Arc::new(ready);
        duties.start("built_in_objects", move |api| begin(api, ready.clone()));
        duties.start("quotas", recount);
        duties.start("pods_of_nodes", follow_pods);
        if let Some((ip, port)) = config.advertise {
            duties.start("endpoints", move |api| advertise(api, ip, port));
        }
        Ok(Frontend { api, address })
    }

    /// The address on which it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Resolves once the store answers and the built-in objects are in it, or the node shuts down.
    pub async fn ready(&self) {
        let mut ready = self.api.ready.clone();
        // The sender is dropped once the objects are in the store, or when the node shuts down.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// The request path without HTTP, as `user`.
    pub fn transport(&self, user: User) -> Arc<dyn Transport> {
        Arc::new(InProcess { api: self.api.clone(), user })
    }
}

/// Starts the background duties of a frontend.
struct Duties {
    api: Arc<Api>,
    supervisor: Supervisor,
}

impl Duties {
    fn start<F>(&self, name: &str, duty: impl Fn(Arc<Api>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let api = self.api.clone();
        self.supervisor.task(format!("apiserver/{name}"), move || until(api.shutdown.clone(), duty(api.clone())));
    }
}

fn build(
    world: &World,
    config: &Config,
    store: store::client::Client,
    ready: watch::Receiver<bool>,
    shutdown: Shutdown,
) -> Result<Api, Error> {
    let table = Table::builtin();
    let network = Network::parse(&config.service_cidr)?;
    let tokens = Arc::new(Tokens::new(&config.token_key_pem, &config.token_public_pem, &config.token_issuer)?);
    let storage = Storage::new(world.clone(), store, shutdown.clone());
    for plural in WARM {
        let resource = table.get("", "v1", plural).expect("the table of resources has the core kinds");
        storage.cache(resource).expect("core kinds are stored");
    }
    let authorizer = Arc::new(Authorizer::new(storage.clone(), &table));
    Ok(Api {
        authenticator: Authenticator {
            clock: world.clock.clone(),
            tokens: tokens.clone(),
            storage: storage.clone(),
            table: table.clone(),
        },
        authorizer: authorizer.clone(),
        admission: Admission {
            authorizer,
            turns: Turns::default(),
            world: world.clone(),
            storage: storage.clone(),
            table: table.clone(),
            toleration_seconds: config.toleration_seconds,
        },
        addresses: Addresses {
            storage: storage.clone(),
            random: world.random.clone(),
            network,
            node_ports: config.node_ports.clone(),
        },
        world: world.clone(),
        config: config.clone(),
        table,
        schemas: Schemas::builtin(),
        storage,
        tokens,
        metrics: Metrics::default(),
        recounts: Recounts::default(),
        store_check: StoreCheck::default(),
        reads: Gate::new(READS_MAX),
        writes: Gate::new(WRITES_MAX),
        bodies: Budget::new(BODIES_BYTES_MAX),
        ready,
        shutdown,
    })
}

/// Runs `duty` until the node ends.
async fn until(shutdown: Shutdown, duty: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = shutdown.wait() => {}
        () = duty => {}
    }
}

/// Puts the built-in objects in the store, however long that takes to answer.
async fn begin(api: Arc<Api>, ready: Arc<watch::Sender<bool>>) {
    loop {
        let deadline = api.world.clock.now() + ATTEMPT_MAX;
        match api.until(deadline, api.ensure_built_in(deadline)).await {
            Ok(()) => break,
            Err(status) => tracing::debug!(%status, "the built-in objects are not in the store yet"),
        }
        api.world.clock.sleep(RETRY).await;
    }
    ready.send_replace(true);
}

/// Counts the quotas of namespaces anew in which something went away, and all of them from time to time.
async fn recount(api: Arc<Api>) {
    let mut ready = api.ready.clone();
    let _ = ready.wait_for(|ready| *ready).await;
    let mut all_at = api.world.clock.now();
    loop {
        let waiting = api.world.clock.timeout_at(all_at, api.recounts.next()).await;
        let namespaces = match waiting {
            Ok(namespaces) => namespaces,
            Err(_) => {
                all_at = api.world.clock.now() + RECOUNT_PERIOD;
                let deadline = api.world.clock.now() + ATTEMPT_MAX;
                api.admission.limited_namespaces(deadline).await.unwrap_or_default()
            }
        };
        for namespace in namespaces {
            let deadline = api.world.clock.now() + ATTEMPT_MAX;
            let counted = api.until(deadline, api.admission.recount_quotas(&namespace, deadline)).await;
            if let Err(status) = counted {
                tracing::debug!(namespace, %status, "quotas could not be counted anew");
                api.recounts.add(namespace);
                api.world.clock.sleep(RETRY).await;
            }
        }
    }
}

/// Keeps what the node authorizer knows of pods up to date.
async fn follow_pods(api: Arc<Api>) {
    if let Err(status) = api.authorizer.follow_pods().await {
        tracing::error!(%status, "the node authorizer learns of pods only when it is asked");
    }
}

/// Keeps the Service `kubernetes`, and this frontend's address in its endpoints.
async fn advertise(api: Arc<Api>, ip: IpAddr, port: u16) {
    let mut ready = api.ready.clone();
    let _ = ready.wait_for(|ready| *ready).await;
    loop {
        let deadline = api.world.clock.now() + ATTEMPT_MAX;
        let publish = async {
            api.publish_endpoint(ip, port).await?;
            api.ensure_kubernetes_service(deadline).await
        };
        if let Err(status) = api.until(deadline, publish).await {
            tracing::debug!(%status, "the Service kubernetes and its endpoints could not be brought up to date");
        }
        api.world.clock.sleep(ADVERTISE_PERIOD).await;
    }
}
