//! A whole member behind its frontend, asked over real sockets.

mod connections;
mod golden;
mod locks;
mod metrics;
mod websocket;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::task::LocalSet;

use crate::actor::Shutdown;
use crate::actor::metrics::Sources;
use crate::etcd::{Config, Frontend};
use crate::store::Store;
use crate::store::client::Client;
use crate::world::{MemoryDisk, Network, NodeId, World};
use crate::{raft, store};

const NODE: NodeId = NodeId(1);
const CLUSTER: raft::ClusterId = raft::ClusterId(7);
/// No answer takes this long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

struct Member {
    world: World,
    frontend: Frontend,
    shutdown: Shutdown,
    store: Client,
}

impl Member {
    /// Files in memory, sockets of this machine.
    async fn start() -> Member {
        Member::start_on(Network::real()).await
    }

    async fn start_on(net: Network) -> Member {
        let world = World { net, ..World::simulated(1, MemoryDisk::new()) };
        let shutdown = Shutdown::new();
        let (store, metrics) = store(&world, &shutdown).await;
        let config = Config { listen: vec!["127.0.0.1:0".into()], metrics, ..Config::default() };
        let frontend = Frontend::start(world.clone(), config, store.clone(), shutdown.clone()).await.unwrap();
        Member { world, frontend, shutdown, store }
    }

    fn address(&self) -> SocketAddr {
        self.frontend.addresses()[0]
    }

    /// Posts `json` to `path` of the gateway.
    async fn post(&self, path: &str, json: String) -> Response<Incoming> {
        let request = Request::post(path).header("host", "localhost").body(Full::new(Bytes::from(json))).unwrap();
        self.send(request).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = self.world.net.connect(&self.address().to_string()).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        self.world.spawner.task(async move { drop(connection.with_upgrades().await) });
        sender.send_request(request).await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.begin();
        self.frontend.stopped().await;
    }
}

async fn store(world: &World, shutdown: &Shutdown) -> (Client, Sources) {
    let (machine, opened) = Store::open(world, store::Config::new("/data".into(), NODE, CLUSTER)).unwrap();
    let me = raft::Member {
        id: NODE,
        name: "n1".into(),
        peer_urls: vec!["http://127.0.0.1:2380".into()],
        client_urls: vec!["http://127.0.0.1:2379".into()],
        learner: false,
    };
    let config = raft::Config {
        listen: vec!["127.0.0.1:0".into()],
        log: crate::disk::log::Options { segment_bytes: 256 * 1024, cache_bytes_max: 64 * 1024 },
        ..raft::Config::new(me.clone(), vec![me], CLUSTER, "/data".into())
    };
    let replica = raft::Replica::start(world.clone(), config, Box::new(machine)).await.unwrap();
    let local = Store::start(world, opened, replica.clone(), shutdown.clone());
    replica.leadership().wait_for(|leadership| leadership.is_leader).await.unwrap();
    let mut metrics = Sources::default();
    metrics.add(local.metrics());
    metrics.add(replica.metrics());
    (Client::new(local), metrics)
}

/// Runs a test where actors can live.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(PATIENCE, test).await.expect("the test ends in time");
    });
}
