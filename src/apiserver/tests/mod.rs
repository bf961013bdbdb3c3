//! Frontends on a real store of one member: sockets for its peer port only, files in memory, all actors on the test's
//! thread.

mod escalation;
mod nodes;
mod quota;
mod stories;
mod trust;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::task::LocalSet;

use super::{Config, Frontend, User, tokens};
use crate::actor::Shutdown;
use crate::kube::client::{
    DeleteOptions, ListOptions, PatchType, Request, Response, Target, Transport, Verb, WatchOptions, WriteOptions,
};
use crate::kube::object::WatchEvent;
use crate::kube::status::Status;
use crate::raft::{self, ClusterId, Member, Replica};
use crate::store::client::Client;
use crate::store::{self, Store};
use crate::world::{MemoryDisk, Network, NodeId, World};

const RBAC: &str = "rbac.authorization.k8s.io";

/// A store, and as many frontends as a test wants.
pub struct Cluster {
    pub world: World,
    store: Client,
    keys: (String, String),
    pub shutdown: Shutdown,
    replica: raft::Handle,
}

/// Runs a test where actors can live.
pub fn run(test: impl AsyncFnOnce(&Cluster)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let cluster = Cluster::start().await;
        tokio::time::timeout(Duration::from_secs(60), test(&cluster)).await.expect("the test ends in time");
        cluster.shutdown.begin();
        cluster.replica.shutdown().await;
    });
}

impl Cluster {
    async fn start() -> Cluster {
        let world = World { net: Network::real(), ..World::simulated(1, MemoryDisk::default()) };
        let listen = world.net.listen("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let shutdown = Shutdown::new();
        let (id, cluster, data_dir) = (NodeId(1), ClusterId(1), PathBuf::from("/data"));
        let member = Member {
            id,
            name: "n1".to_owned(),
            peer_urls: vec![format!("http://{listen}")],
            client_urls: Vec::new(),
            learner: false,
        };
        world.disk.create_dir_all(&data_dir, crate::world::disk::Access::Owner).unwrap();
        let config = store::Config::new(data_dir.clone(), id, cluster);
        let (machine, opened) = Store::open(&world, config).unwrap();
        let config = raft::Config::new(member.clone(), vec![member], cluster, data_dir);
        let replica = Replica::start(world.clone(), config, Box::new(machine)).await.unwrap();
        let local = Store::start(&world, opened, replica.clone(), shutdown.clone());
        Cluster { world, store: Client::new(local), keys: tokens::tests::key(), shutdown, replica }
    }

    /// One more frontend, ready.
    pub async fn frontend(&self) -> Frontend {
        self.frontend_on(None).await
    }

    /// One more frontend, which may listen on an address.
    pub async fn frontend_on(&self, listen: Option<String>) -> Frontend {
        let config = Config { listen, ..Config::new(self.keys.0.clone(), self.keys.1.clone()) };
        let frontend =
            Frontend::start(self.world.clone(), config, self.store.clone(), self.shutdown.clone()).await.unwrap();
        frontend.ready().await;
        frontend
    }

    /// An administrator at a new frontend.
    pub async fn admin(&self) -> Caller {
        Caller(self.frontend().await.transport(User::master("admin")))
    }
}

/// Calls in few words.
#[derive(Clone)]
pub struct Caller(pub Arc<dyn Transport>);

/// `pods/ns/name/status`, or `nodes//name`; other groups before a colon: `apps:deployments/ns/web`.
pub fn target(path: &str) -> Target {
    let (group, path) = path.split_once(':').unwrap_or(("", path));
    let mut words = path.split('/').map(str::to_owned);
    let mut word = || words.next().filter(|word| !word.is_empty());
    Target {
        group: group.to_owned(),
        version: "v1".to_owned(),
        resource: word().unwrap(),
        namespace: word(),
        name: word(),
        subresource: word(),
    }
}

impl Caller {
    pub async fn call(&self, path: &str, verb: Verb) -> Result<Response, Status> {
        let request = Request { target: target(path), verb, write: WriteOptions::default() };
        self.0.call(request).await
    }

    pub async fn object(&self, path: &str, verb: Verb) -> Result<Value, Status> {
        match self.call(path, verb).await? {
            Response::Object(object) => Ok(object.value()),
            Response::Done => Ok(Value::Null),
            Response::List(_) => panic!("{path} gave a list"),
        }
    }

    pub async fn get(&self, path: &str) -> Result<Value, Status> {
        self.object(path, Verb::Get).await
    }

    pub async fn create(&self, path: &str, object: Value) -> Result<Value, Status> {
        self.object(path, Verb::Create { body: bytes(&object) }).await
    }

    pub async fn update(&self, path: &str, object: &Value) -> Result<Value, Status> {
        self.object(path, Verb::Update { body: bytes(object) }).await
    }

    pub async fn merge(&self, path: &str, patch: Value) -> Result<Value, Status> {
        let verb = Verb::Patch { kind: PatchType::Merge, body: bytes(&patch), force: false };
        self.object(path, verb).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value, Status> {
        self.delete_with(path, DeleteOptions::default()).await
    }

    pub async fn delete_with(&self, path: &str, options: DeleteOptions) -> Result<Value, Status> {
        self.object(path, Verb::Delete(options)).await
    }

    pub async fn list(&self, path: &str, options: ListOptions) -> Result<crate::kube::client::List, Status> {
        match self.call(path, Verb::List(options)).await? {
            Response::List(list) => Ok(list),
            _ => panic!("{path} gave no list"),
        }
    }

    /// The first `count` events as `ADDED name`, `BOOKMARK`.
    pub async fn events(&self, path: &str, options: WatchOptions, count: usize) -> Vec<String> {
        let events = self.0.watch(target(path), options).await.unwrap();
        let told = events.take(count).map(|event| match event.unwrap() {
            WatchEvent::Added(object) => format!("ADDED {}", object.meta.name),
            WatchEvent::Modified(object) => format!("MODIFIED {}", object.meta.name),
            WatchEvent::Deleted(object) => format!("DELETED {}", object.meta.name),
            WatchEvent::Bookmark { .. } => "BOOKMARK".to_owned(),
        });
        told.collect().await
    }

    /// Waits until the user may list `path`: rights come from the cache, which follows the store.
    pub async fn until_allowed(&self, path: &str) {
        let allowed = async {
            while self.list(path, ListOptions::default()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), allowed).await.expect("the rights arrive in time");
    }

    /// Gives `user` these rights in a namespace, by a role and a binding of its own.
    pub async fn grant(&self, user: &str, namespace: &str, verbs: &[&str], group: &str, resource: &str) {
        let name = format!("{user}-{resource}");
        let role = json!({"metadata": {"name": name},
            "rules": [{"verbs": verbs, "apiGroups": [group], "resources": [resource]}]});
        self.create(&format!("{RBAC}:roles/{namespace}"), role).await.unwrap();
        let binding = json!({"metadata": {"name": name}, "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}]});
        self.create(&format!("{RBAC}:rolebindings/{namespace}"), binding).await.unwrap();
    }

    /// Gives `user` these rights everywhere.
    pub async fn grant_everywhere(&self, user: &str, verbs: &[&str], group: &str, resource: &str) {
        let name = format!("{user}-{resource}");
        let role = json!({"metadata": {"name": name},
            "rules": [{"verbs": verbs, "apiGroups": [group], "resources": [resource]}]});
        self.create(&format!("{RBAC}:clusterroles"), role).await.unwrap();
        let binding = json!({"metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}]});
        self.create(&format!("{RBAC}:clusterrolebindings"), binding).await.unwrap();
    }

    /// A namespace in which pods can be created.
    pub async fn namespace(&self, name: &str) {
        self.create("namespaces", json!({"metadata": {"name": name}})).await.unwrap();
        let account = json!({"metadata": {"name": "default"}});
        self.create(&format!("serviceaccounts/{name}"), account).await.unwrap();
    }
}

fn bytes(value: &Value) -> Bytes {
    serde_json::to_vec(value).unwrap().into()
}

pub fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

pub fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}})
}
