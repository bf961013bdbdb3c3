//! A member of the store with its etcd frontend: files in memory, real sockets, all actors on the test's own thread.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chorus::actor::Shutdown;
use chorus::etcd::{self, Frontend};
use chorus::raft::{self, ClusterId, Member, Replica};
use chorus::store::client::Client;
use chorus::store::{self, Store};
use chorus::world::disk::Access;
use chorus::world::{MemoryDisk, Network, NodeId, World};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

pub struct Running {
    runtime: Runtime,
    actors: LocalSet,
    pub store: Client,
    pub address: SocketAddr,
    // It serves as long as it is held.
    _frontend: Frontend,
}

thread_local! {
    /// Whether something on this thread has panicked: a runtime keeps the panics of its tasks to itself.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

impl Running {
    pub fn start() -> Running {
        let before = std::panic::take_hook();
        #[allow(clippy::disallowed_methods, reason = "only notes the panic")]
        std::panic::set_hook(Box::new(move |panic| {
            PANICKED.set(true);
            before(panic);
        }));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let actors = LocalSet::new();
        let (store, frontend) = actors.block_on(&runtime, start());
        Running { runtime, actors, store, address: frontend.addresses()[0], _frontend: frontend }
    }

    /// Does something with the member, for a while at most.
    ///
    /// # Panics
    /// When the member does.
    pub fn run<T>(&self, patience: Duration, task: impl Future<Output = T>) -> Option<T> {
        let outcome = self.actors.block_on(&self.runtime, async { tokio::time::timeout(patience, task).await });
        assert!(!PANICKED.get(), "the member panicked");
        outcome.ok()
    }
}

async fn start() -> (Client, Frontend) {
    let world = World { net: Network::real(), ..World::simulated(1, MemoryDisk::default()) };
    let listen = world.net.listen("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (id, cluster, data_dir) = (NodeId(1), ClusterId(1), PathBuf::from("/data"));
    let member = Member {
        id,
        name: "n1".to_owned(),
        peer_urls: vec![format!("http://{listen}")],
        client_urls: Vec::new(),
        learner: false,
    };
    world.disk.create_dir_all(&data_dir, Access::Owner).unwrap();
    let (machine, opened) = Store::open(&world, store::Config::new(data_dir.clone(), id, cluster)).unwrap();
    let config = raft::Config::new(member.clone(), vec![member], cluster, data_dir);
    let replica = Replica::start(world.clone(), config, Box::new(machine)).await.unwrap();
    let shutdown = Shutdown::new();
    let store = Client::new(Store::start(&world, opened, replica, shutdown.clone()));
    let config = etcd::Config { listen: vec!["127.0.0.1:0".to_owned()], ..etcd::Config::default() };
    let frontend = Frontend::start(world, config, store.clone(), shutdown).await.unwrap();
    (store, frontend)
}
