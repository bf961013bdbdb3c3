//! `EtcdFrontend` keeps one member's client listeners.
//!
//! It owns the listeners' accept tasks, the count of open connections and the view of the cluster's leader that long
//! streams depend on. It hears from the node's [`Shutdown`] and from its own look at the store's status, and speaks to
//! streams through a counter of lost leaders. It receives nothing from clients: each connection is a task of its own,
//! so no request waits in a mailbox. When it ends, no connection is accepted, calls under way get a moment to finish,
//! then connections are closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::config::Config;
use super::connection;
use super::listen::{self, Entrance};
use super::metrics::Metrics;
use crate::actor::{Budget, Gate, Shutdown};
use crate::store::client::{Caller, Client};
use crate::world::net::BadAddress;
use crate::world::{Lane, World, tls};

/// Why a frontend did not start. Surface it: the operator has to change something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process listens there: choose another address or stop the other process.
    #[error("{address} is in use: {cause}")]
    InUse { address: String, cause: io::Error },
    /// The address is not one of this machine, is malformed, or may not be used by this user.
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: String, cause: io::Error },
    #[error("no address to listen on is given")]
    NoAddress,
    /// The text is no address.
    #[error("cannot listen on {0}")]
    Address(#[from] BadAddress),
    #[error("TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme")]
    NoCertificate { url: String },
    #[error("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url")]
    NoMetricsCertificate,
    #[error("cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}")]
    BothOnOne { url: String },
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// What every connection and every call of a frontend shares.
pub(super) struct Shared {
    pub world: World,
    pub config: Config,
    /// In the process's own name: for what no client asks.
    pub store: Client,
    /// In the name of somebody who did not say who they are.
    pub anonymous: Client,
    pub metrics: Metrics,
    /// Of calls of the gateway, which share one bound as the streams of one connection do.
    pub turns: Gate,
    /// Of the bodies of requests that are being read or answered.
    pub bodies: Budget,
    /// Begun when the node ends: no new calls, streams are cut.
    pub shutdown: Shutdown,
    /// How often the cluster was found without a leader for three election timeouts.
    pub leaders_lost: watch::Receiver<u64>,
}

/// A running frontend. Dropping the handle leaves it running; it ends with the [`Shutdown`] it was given.
#[derive(Debug)]
pub struct Frontend {
    addresses: Vec<SocketAddr>,
    stopped: watch::Receiver<bool>,
}

impl Frontend {
    /// Listens on every configured address, then serves until `shutdown` begins.
    pub async fn start(world: World, config: Config, store: Client, shutdown: Shutdown) -> Result<Frontend, Error> {
        let entrances = listen::open(&world, &config).await?;
        let addresses = entrances.iter().filter_map(|entrance| entrance.listener.local_addr().ok()).collect();
        let (stopped_sender, stopped) = watch::channel(false);
        let (lost_sender, leaders_lost) = watch::channel(0);
        let metrics = Metrics::new(config.http.extensive_metrics.then(|| world.clock.clone()));
        let turns = Gate::new(config.limits.concurrent_streams_max as usize);
        let bodies = Budget::new(config.limits.body_bytes_max);
        let shared = Arc::new(Shared {
            world: world.clone(),
            config,
            anonymous: store.on_behalf(Caller::ANONYMOUS),
            store,
            metrics,
            turns,
            bodies,
            shutdown,
            leaders_lost,
        });
        world.spawner.start(Lane::Store, "etcd/frontend", move |_| EtcdFrontend {
            shared,
            entrances,
            connections: TaskTracker::new(),
            leaders_lost: lost_sender,
            ticks_without_leader: 0,
            stopped: stopped_sender,
        });
        Ok(Frontend { addresses, stopped })
    }

    /// The addresses it listens on, with the ports the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Resolves once the frontend has ended and its last connection is closed.
    pub async fn stopped(&self) {
        // An error means that the actor is gone, which is an end as well.
        let _ = self.stopped.clone().wait_for(|stopped| *stopped).await;
    }
}

/// One look at whether the member knows a leader.
struct LeaderSeen(bool);

impl Message for LeaderSeen {
    type Result = ();
}

/// After so many looks without a leader, streams that require one are cut, as etcd does.
const TICKS_WITHOUT_LEADER_MAX: u32 = 3;

struct EtcdFrontend {
    shared: Arc<Shared>,
    entrances: Vec<Entrance>,
    connections: TaskTracker,
    leaders_lost: watch::Sender<u64>,
    ticks_without_leader: u32,
    stopped: watch::Sender<bool>,
}

impl Actor for EtcdFrontend {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        for entrance in self.entrances.drain(..) {
            entrance.announce();
            let accepting = accept(self.shared.clone(), entrance, self.connections.clone());
            self.shared.world.spawner.keep("etcd/listener", self.connections.track_future(accepting));
        }
        ctx.run_interval(self.shared.config.election_timeout, Self::look_for_leader);
        ctx.spawn(self.shared.shutdown.wait().into_actor(self).map(|(), frontend, ctx| frontend.drain(ctx)));
    }
}

impl Handler<LeaderSeen> for EtcdFrontend {
    type Result = ();

    fn handle(&mut self, LeaderSeen(seen): LeaderSeen, _: &mut Context<Self>) {
        self.ticks_without_leader = if seen { 0 } else { self.ticks_without_leader + 1 };
        if self.ticks_without_leader == TICKS_WITHOUT_LEADER_MAX {
            tracing::warn!(member = %self.shared.config.name, "no leader: closing the streams that require one");
            self.leaders_lost.send_modify(|lost| *lost += 1);
        }
    }
}

impl EtcdFrontend {
    fn look_for_leader(&mut self, ctx: &mut Context<Self>) {
        // Nobody listens: spare the store.
        if self.leaders_lost.receiver_count() <= 1 {
            self.ticks_without_leader = 0;
            return;
        }
        let (shared, frontend) = (self.shared.clone(), ctx.address());
        self.shared.world.spawner.task(async move {
            let limit = shared.config.election_timeout;
            let looked = shared.world.clock.timeout(limit, shared.store.status(Default::default())).await;
            frontend.do_send(LeaderSeen(matches!(looked, Ok(Ok(status)) if status.leader != 0)));
        });
    }

    /// Waits for the connections to end, which `connection` sees to once the shutdown has begun.
    fn drain(&mut self, ctx: &mut Context<Self>) {
        self.connections.close();
        let connections = self.connections.clone();
        ctx.spawn(async move { connections.wait().await }.into_actor(self).map(|(), frontend, ctx| {
            frontend.stopped.send_replace(true);
            ctx.stop();
        }));
    }
}

/// Accepts until the shutdown begins. Runs on the shared runtime, so that its sockets do, too.
async fn accept(shared: Arc<Shared>, entrance: Entrance, connections: TaskTracker) {
    let Entrance { listener, door } = entrance;
    let shutdown = shared.shutdown.wait();
    tokio::pin!(shutdown);
    loop {
        let (stream, _) = tokio::select! {
            biased;
            () = &mut shutdown => return,
            accepted = listener.next(&shared.world.clock) => accepted,
        };
        let serving = connection::begin(shared.clone(), door.clone(), stream);
        shared.world.spawner.task(connections.track_future(serving));
    }
}
