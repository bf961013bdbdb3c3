//! The story that every seed tells, each at its own pace.

use std::collections::BTreeMap;
use std::time::Duration;

use chorus::agent::{Capacity, CapacitySource, RuntimeChoice};
use chorus::cluster::config::ClusterConfig;
use chorus::cluster::node::{Node, Plan};
use chorus::cluster::pki::{Pair, Pki};
use chorus::disk::log;
use chorus::kube;
use chorus::store::{self, client::Client};
use chorus::world::{Instant, MemoryDisk, Random, World};
use chorus_proto::etcdserverpb as pb;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Endpoints, Pod, ReplicationController, Service};
use serde_json::json;

use crate::history::History;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Simulated time in which a cluster must have done what is asked of it.
const LIMIT: Duration = Duration::from_secs(240);

const CONFIG: &str = r#"
name = "sim"
[kubernetes]
node-grace-s = 12
eviction-s = 5
leader-lease-s = 5
[[node]]
name = "n1"
client = "n1:2379"
peer = "n1:2380"
api = "n1:6443"
kubelet = "n1:10250"
[[node]]
name = "n2"
client = "n2:2379"
peer = "n2:2380"
api = "n2:6443"
kubelet = "n2:10250"
[[node]]
name = "n3"
client = "n3:2379"
peer = "n3:2380"
api = "n3:6443"
kubelet = "n3:10250"
"#;

/// Key material that is the same in every run; it signs nothing outside simulations.
fn pki() -> Pki {
    let none = || Pair { certificate: String::new(), key: String::new() };
    Pki {
        ca_certificate: "simulated".to_owned(),
        server: none(),
        admin: none(),
        service_account_key: include_str!("service-account.key").to_owned(),
        service_account_public: include_str!("service-account.pub").to_owned(),
        kubelet_token: "simulated".to_owned(),
    }
}

fn plan(name: &str) -> Plan {
    Plan {
        cluster: ClusterConfig::parse("sim.toml".as_ref(), CONFIG).expect("the configuration is valid"),
        name: name.to_owned(),
        data_dir: "/data".into(),
        pki: pki(),
        tls: false,
        runtime: RuntimeChoice::Hollow,
        capacity: CapacitySource::Fixed(Capacity {
            cpu_millis: 4000,
            memory_bytes: 8 << 30,
            storage_bytes: 64 << 30,
            pods: 110,
        }),
        log: log::Options { segment_bytes: 1 << 20, cache_bytes_max: 1 << 20 },
    }
}

/// Runs the story of `seed`; the hash of its trace. Panics where a promise is broken.
pub fn run(seed: u64) -> u64 {
    let random = Random::from_seed(seed);
    let history = History::default();
    let mut sim = turmoil::Builder::new()
        .rng_seed(random.u64())
        .simulation_duration(LIMIT * 2)
        .tick_duration(Duration::from_millis(2))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(random.within(3..20)))
        .tcp_capacity(4096)
        .build();
    let disks: BTreeMap<&str, MemoryDisk> = NODES.map(|name| (name, MemoryDisk::new())).into();
    for name in NODES {
        let (disk, history, seed) = (disks[name].clone(), history.clone(), random.u64());
        sim.host(name, move || node(name, World::simulated(seed, disk.clone()), history.clone()));
    }
    let (seed, told) = (random.u64(), history.clone());
    sim.client("clients", async move { clients(World::simulated(seed, MemoryDisk::new()), told).await });

    let step = |sim: &mut turmoil::Sim<'_>, until: &dyn Fn() -> bool, what: &str| {
        let began = sim.elapsed();
        while !until() {
            assert!(sim.elapsed() - began < LIMIT, "this never came true: {what}");
            sim.step().unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    };
    let pause = |sim: &turmoil::Sim<'_>| {
        let end = sim.elapsed() + Duration::from_millis(random.within(200..3000));
        move |now: Duration| now >= end
    };
    step(&mut sim, &|| history.knows("three pods run"), "three pods run");

    // A member is cut off from the others for a while: one time in three it is the leader.
    let cut_off = NODES[random.within(0..3) as usize];
    history.note(format_args!("{cut_off} is cut off"));
    let others = || NODES.into_iter().filter(|name| *name != cut_off);
    others().for_each(|other| sim.partition(cut_off, other));
    sim.partition(cut_off, "clients");
    let over = pause(&sim);
    while !over(sim.elapsed()) {
        sim.step().unwrap();
    }
    others().for_each(|other| sim.repair(cut_off, other));
    sim.repair(cut_off, "clients");

    // A node loses its power, and what it had not synced.
    let fallen = NODES[random.within(1..3) as usize];
    history.note(format_args!("{fallen} falls"));
    sim.crash(fallen);
    disks[fallen].crash(&random);
    let over = pause(&sim);
    while !over(sim.elapsed()) {
        sim.step().unwrap();
    }
    history.note(format_args!("{fallen} comes back"));
    sim.bounce(fallen);

    history.fact("all is healed");
    step(&mut sim, &|| history.knows("all is well"), "all is well");
    assert!(history.acknowledged() > 5, "there was no load");
    history.hash()
}

/// One node, for as long as it has power. The first also keeps watch over the pods.
async fn node(name: &'static str, world: World, history: History) -> turmoil::Result {
    let node = Node::start(world.clone(), plan(name)).await?;
    history.note(format_args!("{name} is up"));
    if name == "n1" {
        let admin = node.admin().expect("every node has a frontend");
        pods(&world, &admin, &history).await;
    }
    std::future::pending::<()>().await;
    Ok(())
}

/// Asks for three pods behind a service, and looks whether there are just as many once all is healed.
async fn pods(world: &World, admin: &kube::client::Client, history: &History) {
    let template = json!({
        "metadata": {"labels": {"name": "nginx"}},
        "spec": {"containers": [{"name": "nginx", "image": "nginx", "ports": [{"containerPort": 80}]}]},
    });
    let spec = json!({"replicas": 3, "selector": {"name": "nginx"}, "template": template});
    let controller: ReplicationController = of(json!({"metadata": {"name": "www"}, "spec": spec}));
    let ports = json!([{"port": 80}]);
    let service: Service =
        of(json!({"metadata": {"name": "www"}, "spec": {"selector": {"name": "nginx"}, "ports": ports}}));
    let controllers = admin.api::<ReplicationController>().namespaced("default");
    let services = admin.api::<Service>().namespaced("default");
    loop {
        let created = controllers.create(&controller).await.is_ok_or_exists()
            && services.create(&service).await.is_ok_or_exists();
        if created {
            break;
        }
        world.clock.sleep(Duration::from_millis(200)).await;
    }
    while as_asked(admin).await != Some(true) {
        world.clock.sleep(Duration::from_millis(200)).await;
    }
    history.fact("three pods run");
    while !(history.knows("all is healed")
        && history.knows("all writes are there")
        && as_asked(admin).await == Some(true))
    {
        world.clock.sleep(Duration::from_millis(500)).await;
    }
    history.fact("all is well");
}

fn of<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("a valid object")
}

trait Created {
    fn is_ok_or_exists(&self) -> bool;
}

impl<T> Created for Result<T, kube::status::Status> {
    fn is_ok_or_exists(&self) -> bool {
        self.as_ref().err().is_none_or(|status| status.is_already_exists())
    }
}

/// Whether there are just three pods, all running, none twice, and the endpoints are theirs. `None`: nobody answered.
async fn as_asked(admin: &kube::client::Client) -> Option<bool> {
    let pods = admin.api::<Pod>().namespaced("default").list(Default::default()).await.ok()?.items;
    let endpoints = admin.api::<Endpoints>().namespaced("default").get("www").await.ok()?;
    let ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions
            .is_some_and(|all| all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
    };
    let mut running: Vec<String> =
        pods.iter().filter(|pod| ready(pod)).filter_map(|pod| pod.status.as_ref()?.pod_ip.clone()).collect();
    let subsets = endpoints.subsets.unwrap_or_default();
    let mut behind: Vec<String> =
        subsets.into_iter().flat_map(|subset| subset.addresses.unwrap_or_default()).map(|address| address.ip).collect();
    running.sort();
    behind.sort();
    Some(pods.len() == 3 && running.len() == 3 && running == behind)
}

/// A writer and a watcher of the store, through whichever member answers.
async fn clients(world: World, history: History) -> turmoil::Result {
    let urls = NODES.map(|name| format!("http://{name}:2379")).to_vec();
    let mut config = store::RemoteConfig::new(urls);
    config.request_timeout = Duration::from_secs(3);
    let store = Client::new(store::Remote::new(&world, config)?);
    world.spawner.task(watch(world.clone(), store.clone(), history.clone()));
    for number in 0.. {
        let (key, value) = (format!("w/{number:05}"), format!("value-{number}"));
        let put = pb::PutRequest { key: key.clone().into(), value: value.clone().into(), ..Default::default() };
        match store.put(put).await {
            Ok(response) => history.acknowledge(&key, &value, response.header.unwrap_or_default().revision),
            Err(error) => history.note(format_args!("put {key}: {error}")),
        }
        if history.knows("all is healed") && number % 10 == 0 && settled(&world, &store, &history).await {
            history.fact("all writes are there");
            break;
        }
        world.clock.sleep(Duration::from_millis(100)).await;
    }
    while !history.knows("all is well") {
        world.clock.sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Reads everything back once the watch had time to deliver it, and checks it. `false`: no answer.
async fn settled(world: &World, store: &Client, history: &History) -> bool {
    let request = pb::RangeRequest { key: "w/".into(), range_end: "w0".into(), ..Default::default() };
    let Ok(response) = store.range(request).await else { return false };
    world.clock.sleep(Duration::from_secs(20)).await;
    let text = |bytes: bytes::Bytes| String::from_utf8_lossy(&bytes).into_owned();
    let stored = response.kvs.into_iter().map(|kv| (text(kv.key), (text(kv.value), kv.mod_revision)));
    history.check(&stored.collect());
    true
}

/// Watches all keys from the first on, and goes on where it stopped when the stream is lost.
async fn watch(world: World, store: Client, history: History) {
    let mut next = 1;
    loop {
        let created = pb::WatchCreateRequest {
            key: "w/".into(),
            range_end: "w0".into(),
            start_revision: next,
            ..Default::default()
        };
        let request = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(created)) };
        let requests = futures::stream::iter([request]).chain(futures::stream::pending()).boxed();
        let opened: Instant = world.clock.now();
        if let Ok(mut responses) = store.watch(requests).await {
            // A silent stream may be a lost one: simulated connections break without a word.
            while let Ok(Some(Ok(response))) = world.clock.timeout(Duration::from_secs(5), responses.next()).await {
                for event in response.events {
                    let Some(kv) = event.kv else { continue };
                    history.event(kv.mod_revision, &String::from_utf8_lossy(&kv.key));
                    next = kv.mod_revision + 1;
                }
            }
        }
        history.note(format_args!("watch again after {:?}", opened.elapsed()));
        world.clock.sleep(Duration::from_millis(200)).await;
    }
}
