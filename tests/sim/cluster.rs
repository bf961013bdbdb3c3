//! The whole control plane on every machine: what is asked of it through its own frontends, and what must be there once
//! all is well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chorus::agent::{Capacity, CapacitySource, RuntimeChoice};
use chorus::cluster::config::ClusterConfig;
use chorus::cluster::node::{Node, Plan};
use chorus::cluster::pki::Pki;
use chorus::kube::client::{Client, DeleteOptions, PatchType};
use chorus::kube::status::Status;
use chorus::world::World;
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{Endpoints, Pod, ReplicationController, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::history::History;
use crate::member::{Running, Seat, witness};
use crate::swarm::Swarm;

const CONTROLLERS: u64 = 3;
const REPLICAS_MAX: u64 = 5;

fn config(swarm: &Swarm) -> ClusterConfig {
    let node = |number: u64| {
        let name = format!("m{number}");
        json!({
            "name": name, "client": format!("{name}:2379"), "peer": format!("{name}:2380"),
            "api": format!("{name}:6443"), "kubelet": format!("{name}:10250"),
        })
    };
    let election = swarm.timings.election.start.as_millis() as u64;
    let config = json!({
        "name": "sim",
        "timing": {"election-ms": election, "heartbeat-ms": swarm.timings.heartbeat.as_millis() as u64},
        "kubernetes": {"node-grace-s": 12, "eviction-s": 5, "leader-lease-s": 5},
        "node": (1..=swarm.members).map(node).collect::<Vec<_>>(),
    });
    of(config)
}

/// Key material that is the same in every run; it signs nothing outside simulations.
fn pki(world: &World) -> Pki {
    let (key, public) = (include_str!("service-account.key"), include_str!("service-account.pub"));
    Pki::without_certificates(&world.disk, "simulated", key, public)
}

fn plan(world: &World, name: &str, swarm: &Swarm) -> Plan {
    Plan {
        cluster: config(swarm),
        name: name.to_owned(),
        data_dir: "/data".into(),
        pki: pki(world),
        tls: false,
        runtime: RuntimeChoice::Hollow,
        capacity: CapacitySource::Fixed(Capacity {
            cpu_millis: 4000,
            memory_bytes: 8 << 30,
            storage_bytes: 64 << 30,
            pods: 110,
        }),
        heal_from_peers: false,
        log: swarm.log,
    }
}

/// Runs a node until its host falls.
pub async fn run(seat: Seat, swarm: Swarm, history: History) -> turmoil::Result {
    let world = seat.world();
    let name = seat.state().name.clone();
    let node = match Node::start(world.clone(), plan(&world, &name, &swarm)).await {
        Ok(node) => node,
        Err(error) => return seat.refuses(&history, &error).await,
    };
    history.note(format_args!("{name} starts"));
    let replica = node.replica().expect("every node has a member of the store").clone();
    seat.state().running = Some(Running { node: replica.status().node, replica });
    let store = node.store().expect("every node has a member of the store").clone();
    world.spawner.task(witness(world.clone(), name.clone(), store, history.clone()));
    let admin = node.admin().expect("every node has a frontend");
    let is_first = name == "m1";
    let user = User { name, world, admin, history };
    if is_first {
        user.make_wishes_until_all_is_well().await
    } else {
        user.make_wishes().await
    }
    std::future::pending().await
}

/// Somebody who uses the cluster through one frontend.
struct User {
    name: String,
    world: World,
    admin: Client,
    history: History,
}

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a valid object")
}

fn background() -> DeleteOptions {
    DeleteOptions { propagation_policy: Some("Background".to_owned()), ..DeleteOptions::default() }
}

impl User {
    async fn make_wishes(&self) {
        self.history.wishes(&self.name);
        while !self.history.is_over() {
            self.make_a_wish().await;
            let pause = self.world.random.duration(Duration::from_millis(300)..Duration::from_millis(3000));
            self.world.clock.sleep(pause).await;
        }
        self.history.wishes_no_more(&self.name);
    }

    async fn make_wishes_until_all_is_well(&self) {
        self.make_wishes().await;
        while self.history.somebody_wishes() {
            self.world.clock.sleep(Duration::from_millis(100)).await;
        }
        // However the storm ended, these are the last wishes.
        while let Err(error) = self.make_last_wishes().await {
            self.history.note(format_args!("last wishes: {error:?}"));
            self.world.clock.sleep(Duration::from_millis(500)).await;
        }
        self.history.note("last wishes are made");
        loop {
            match self.what_is_amiss().await {
                Ok(None) => break,
                Ok(Some(amiss)) => self.history.note(amiss),
                Err(error) => self.history.note(format_args!("look: {}", error.message)),
            }
            self.world.clock.sleep(Duration::from_millis(1000)).await;
        }
        self.history.satisfy();
    }

    async fn make_a_wish(&self) {
        let random = &self.world.random;
        let number = random.within(0..CONTROLLERS);
        let wish = match random.within(0..10) {
            0..=2 => ("create", self.create(number).await),
            3..=6 => ("scale", self.scale(number, random.within(0..REPLICAS_MAX)).await),
            7 => ("delete", self.delete(number).await),
            8 => ("create pod", self.create_pod().await),
            _ => ("delete pod", self.delete_some_pod().await),
        };
        match wish {
            (what, Ok(())) => {
                self.history.note(format_args!("{what} {number}"));
                self.history.count("wishes");
            }
            (what, Err(error)) => self.history.note(format_args!("{what} {number}: {}", error.message)),
        }
    }

    /// Keeps what was said of a write.
    fn wrote<T: Metadata<Ty = ObjectMeta>>(&self, object: Option<T>) {
        let Some(object) = object else { return };
        let ObjectMeta { name, resource_version, .. } = object.metadata();
        let revision = resource_version.as_deref().and_then(|version| version.parse().ok());
        let (name, revision) = name.clone().zip(revision).expect("a stored object has a name and a version");
        self.history.wrote(name, revision);
    }

    async fn create(&self, number: u64) -> Result<(), Status> {
        let name = format!("www-{number}");
        let template = json!({
            "metadata": {"labels": {"name": name}},
            "spec": {"containers": [{"name": "nginx", "image": "nginx", "ports": [{"containerPort": 80}]}]},
        });
        let spec = json!({"replicas": self.world.random.within(1..REPLICAS_MAX), "selector": {"name": name}, "template": template});
        let controller: ReplicationController = of(json!({"metadata": {"name": name}, "spec": spec}));
        let service: Service = of(json!({
            "metadata": {"name": name},
            "spec": {"selector": {"name": name}, "ports": [{"port": 80}]},
        }));
        let services = self.admin.api::<Service>().namespaced("default");
        self.wrote(unless_exists(services.create(&service).await)?);
        self.wrote(unless_exists(self.controllers().create(&controller).await)?);
        Ok(())
    }

    fn controllers(&self) -> chorus::kube::client::Api<ReplicationController> {
        self.admin.api::<ReplicationController>().namespaced("default")
    }

    fn pods(&self) -> chorus::kube::client::Api<Pod> {
        self.admin.api::<Pod>().namespaced("default")
    }

    async fn scale(&self, number: u64, replicas: u64) -> Result<(), Status> {
        let patch = json!({"spec": {"replicas": replicas}});
        self.wrote(Some(self.controllers().patch(&format!("www-{number}"), PatchType::Merge, &patch).await?));
        Ok(())
    }

    async fn delete(&self, number: u64) -> Result<(), Status> {
        self.controllers().delete(&format!("www-{number}"), background()).await.map(drop)
    }

    async fn create_pod(&self) -> Result<(), Status> {
        let pod: Pod = of(json!({
            "metadata": {"name": format!("alone-{}", self.world.random.within(0..3))},
            "spec": {"containers": [{"name": "nginx", "image": "nginx"}]},
        }));
        self.wrote(unless_exists(self.pods().create(&pod).await)?);
        Ok(())
    }

    async fn delete_some_pod(&self) -> Result<(), Status> {
        let pods = self.pods().list(Default::default()).await?.items;
        if pods.is_empty() {
            return Ok(());
        }
        let pod = &pods[self.world.random.within(0..pods.len() as u64) as usize];
        self.pods().delete(pod.metadata.name.as_deref().unwrap_or_default(), Default::default()).await.map(drop)
    }

    async fn make_last_wishes(&self) -> Result<(), Status> {
        self.create(0).await?;
        self.scale(0, 3).await?;
        for pod in self.pods().list(Default::default()).await?.items {
            let name = pod.metadata.name.unwrap_or_default();
            if name.starts_with("alone-") {
                unless_gone(self.pods().delete(&name, Default::default()).await)?;
            }
        }
        Ok(())
    }

    /// What differs from what was asked for; `None` if nothing does.
    async fn what_is_amiss(&self) -> Result<Option<String>, Status> {
        let pods = self.pods().list(Default::default()).await?.items;
        let controllers = self.controllers().list(Default::default()).await?.items;
        let mut owned: BTreeMap<String, Vec<&Pod>> = BTreeMap::new();
        for pod in &pods {
            let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
            owned.entry(owner.map_or_else(String::new, |owner| owner.uid.clone())).or_default().push(pod);
        }
        for controller in &controllers {
            let name = controller.metadata.name.as_deref().unwrap_or_default();
            let mine = owned.remove(controller.metadata.uid.as_deref().unwrap_or_default()).unwrap_or_default();
            let wanted = controller.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1) as usize;
            let ready: BTreeSet<String> =
                mine.iter().filter(|pod| is_ready(pod)).filter_map(|pod| address(pod)).collect();
            if mine.len() != wanted || ready.len() != wanted {
                let pods: Vec<String> = mine.iter().map(|pod| describe(pod)).collect();
                return Ok(Some(format!("{name} has, of {wanted} pods: {}", pods.join("; "))));
            }
            let behind = self.behind(name).await?;
            if behind != ready {
                return Ok(Some(format!("behind {name} there are {behind:?}, ready are {ready:?}")));
            }
        }
        let orphans: Vec<_> = owned.values().flatten().filter_map(|pod| pod.metadata.name.as_ref()).collect();
        Ok((!orphans.is_empty()).then(|| format!("nobody asked for {orphans:?}")))
    }

    /// The addresses behind a service.
    async fn behind(&self, service: &str) -> Result<BTreeSet<String>, Status> {
        let endpoints = self.admin.api::<Endpoints>().namespaced("default").get(service).await?;
        let subsets = endpoints.subsets.unwrap_or_default();
        let addresses = subsets.into_iter().flat_map(|subset| subset.addresses.unwrap_or_default());
        Ok(addresses.map(|address| address.ip).collect())
    }
}

/// What was created; `None` if it was there before.
fn unless_exists<T>(created: Result<T, Status>) -> Result<Option<T>, Status> {
    created.map(Some).or_else(|status| if status.is_already_exists() { Ok(None) } else { Err(status) })
}

fn unless_gone<T>(deleted: Result<T, Status>) -> Result<(), Status> {
    deleted.map(drop).or_else(|status| if status.is_not_found() { Ok(()) } else { Err(status) })
}

/// A pod in a few words.
fn describe(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node");
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("no phase");
    let ready = if is_ready(pod) { "ready" } else { "not ready" };
    let leaving = if pod.metadata.deletion_timestamp.is_some() { ", leaving" } else { "" };
    format!("{name} on {node}, {phase}, {ready} at {}{leaving}", address(pod).unwrap_or_default())
}

fn address(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.pod_ip.clone()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
}
