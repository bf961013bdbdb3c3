//! [`Frontend`]: one member's client listeners, the tasks behind them, and their orderly end.
//!
//! Each listener is a task and each connection is one, so no request waits in a mailbox. A further task looks whether
//! the member knows a leader, for the streams that require one. When the [`Shutdown`] begins, no connection is accepted
//! any more, calls under way get a moment to finish, then connections are closed.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::config::Config;
use super::error::Error;
use super::listen::{self, ClientListener};
use super::serve;
use super::server::EtcdServer;
use crate::actor::Shutdown;
use crate::store::client::Client;
use crate::world::World;

/// A running frontend. Dropping the handle leaves it running; it ends with the [`Shutdown`] it was given.
#[derive(Debug)]
pub struct Frontend {
    addresses: Vec<SocketAddr>,
    /// The tasks of its listeners and connections.
    connections: TaskTracker,
}

impl Frontend {
    /// Listens on every configured address, then serves until `shutdown` begins.
    pub async fn start(world: World, config: Config, store: Client, shutdown: Shutdown) -> Result<Frontend, Error> {
        let listeners = listen::open(&world, &config).await?;
        let addresses = listeners.iter().filter_map(|listener| listener.socket.local_addr().ok()).collect();
        let (leader_lost, leaders_lost) = watch::channel(0);
        let server = Arc::new(EtcdServer::new(world.clone(), config, store, shutdown, leaders_lost));
        let connections = TaskTracker::new();
        for listener in listeners {
            listener.announce();
            let accepting = accept(server.clone(), listener, connections.clone());
            world.spawner.keep("etcd/listener", connections.track_future(accepting));
        }
        // More connections may come, but the last task to end is the last of all.
        connections.close();
        world.spawner.keep("etcd/leader_watch", watch_leader(server, leader_lost));
        Ok(Frontend { addresses, connections })
    }

    /// The addresses it listens on, with the ports the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Resolves once the frontend has ended and its last connection is closed.
    pub async fn stopped(&self) {
        self.connections.wait().await;
    }
}

/// Accepts until the shutdown begins.
async fn accept(server: Arc<EtcdServer>, listener: ClientListener, connections: TaskTracker) {
    let shutdown = server.shutdown.wait();
    tokio::pin!(shutdown);
    loop {
        let (stream, _) = tokio::select! {
            biased;
            () = &mut shutdown => return,
            accepted = listener.socket.next(&server.world.clock) => accepted,
        };
        let serving = serve::begin(server.clone(), listener.serves, listener.security.clone(), stream);
        server.world.spawner.task(connections.track_future(serving));
    }
}

/// After so many looks without a leader, streams that require one are cut, as etcd does.
const LOOKS_WITHOUT_LEADER_MAX: u32 = 3;

/// Looks once every election timeout whether the member knows a leader, until the shutdown begins.
async fn watch_leader(server: Arc<EtcdServer>, leader_lost: watch::Sender<u64>) {
    let period = server.config.election_timeout;
    let mut looks_without_leader = 0;
    let mut next = server.world.clock.now() + period;
    loop {
        tokio::select! {
            biased;
            () = server.shutdown.wait() => return,
            () = server.world.clock.sleep_until(next) => {}
        }
        next = server.world.clock.now() + period;
        // No stream requires a leader, so the store need not be asked. One receiver is the server's own.
        if leader_lost.receiver_count() <= 1 || knows_leader(&server).await {
            looks_without_leader = 0;
            continue;
        }
        looks_without_leader += 1;
        if looks_without_leader == LOOKS_WITHOUT_LEADER_MAX {
            tracing::warn!(member = %server.config.name, "no leader: closing the streams that require one");
            leader_lost.send_modify(|lost| *lost += 1);
        }
    }
}

async fn knows_leader(server: &EtcdServer) -> bool {
    let asked = server.store.status(Default::default());
    let status = server.world.clock.timeout(server.config.election_timeout, asked).await;
    matches!(status, Ok(Ok(status)) if status.leader != 0)
}
