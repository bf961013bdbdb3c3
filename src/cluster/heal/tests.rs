//! Members in turmoil, one of which finds its files damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use chorus_proto::etcdserverpb as pb;
use tokio::sync::mpsc;

use super::*;
use crate::actor::Shutdown;
use crate::cluster::member::Member;
use crate::cluster::member_plan::InitialMember;
use crate::cluster::server::Options;
use crate::disk::log;
use crate::world::{MemoryDisk, Random};

const NAMES: [&str; 3] = ["n1", "n2", "n3"];
const PATIENCE: Duration = Duration::from_secs(90);

enum Order {
    Put(String),
    Read,
}

/// What the test sees of all members.
#[derive(Default)]
struct Seen {
    acknowledged: BTreeSet<String>,
    read: BTreeMap<&'static str, BTreeSet<String>>,
    errors: BTreeMap<&'static str, String>,
    ids: BTreeMap<&'static str, NodeId>,
}

#[derive(Clone)]
struct Node {
    name: &'static str,
    disk: MemoryDisk,
    heals: Arc<AtomicBool>,
    orders: Arc<Mutex<Option<mpsc::UnboundedSender<Order>>>>,
    seen: Arc<Mutex<Seen>>,
}

fn plan(world: &World, name: &str, heal_from_peers: bool) -> MemberPlan {
    let members = NAMES.map(|name| InitialMember {
        name: name.to_owned(),
        peer_urls: vec![format!("http://{name}:2380")],
        client_urls: vec![],
    });
    let mut options = Options::default();
    for (option, value) in [
        ("name", name.to_owned()),
        ("data-dir", "/data".to_owned()),
        ("listen-peer-urls", "http://0.0.0.0:2380".to_owned()),
        ("listen-client-urls", "http://0.0.0.0:2379".to_owned()),
        ("initial-advertise-peer-urls", format!("http://{name}:2380")),
        ("advertise-client-urls", format!("http://{name}:2379")),
    ] {
        options.set(option, &value).unwrap();
    }
    let origin = Origin::New { members: members.to_vec(), token: "token".to_owned() };
    let log = log::Options { segment_bytes: 256 * 1024, cache_bytes_max: 64 * 1024 };
    MemberPlan { heal_from_peers, log, ..options.plan(world, origin).unwrap() }
}

impl Node {
    async fn run(self, seed: u64) -> turmoil::Result {
        let world = World::simulated(seed, self.disk.clone());
        let plan = plan(&world, self.name, self.heals.load(Ordering::Relaxed));
        let member = match Member::start(world, plan, Shutdown::new()).await {
            Ok(member) => member,
            Err(error) => {
                self.seen.lock().unwrap().errors.insert(self.name, error.to_string());
                return Ok(());
            }
        };
        self.seen.lock().unwrap().ids.insert(self.name, member.identity().node);
        let (orders, mut received) = mpsc::unbounded_channel();
        *self.orders.lock().unwrap() = Some(orders);
        while let Some(order) = received.recv().await {
            let (store, node) = (member.store().clone(), self.clone());
            tokio::task::spawn_local(async move {
                match order {
                    Order::Put(key) => {
                        let put =
                            pb::PutRequest { key: key.clone().into(), value: vec![7; 99].into(), ..Default::default() };
                        if store.put(put).await.is_ok() {
                            node.seen.lock().unwrap().acknowledged.insert(key);
                        }
                    }
                    Order::Read => {
                        let all = pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
                        if let Ok(answer) = store.range(all).await {
                            let keys = answer.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned());
                            node.seen.lock().unwrap().read.insert(node.name, keys.collect());
                        }
                    }
                }
            });
        }
        Ok(())
    }
}

struct Cluster {
    sim: turmoil::Sim<'static>,
    nodes: BTreeMap<&'static str, Node>,
    seen: Arc<Mutex<Seen>>,
    keys: u64,
}

impl Cluster {
    fn start(seed: u64) -> Cluster {
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(3_600))
            .tick_duration(Duration::from_millis(1))
            .tcp_capacity(1_024)
            .build();
        let mut cluster = Cluster { sim, nodes: BTreeMap::new(), seen: Arc::default(), keys: 0 };
        for (number, name) in NAMES.into_iter().enumerate() {
            let (orders, seen) = (Arc::default(), cluster.seen.clone());
            let node = Node { name, disk: MemoryDisk::new(), heals: Arc::default(), orders, seen };
            cluster.nodes.insert(name, node.clone());
            let starts = AtomicU64::new(seed * 1_000 + number as u64 * 100);
            cluster.sim.host(name, move || node.clone().run(starts.fetch_add(1, Ordering::Relaxed)));
        }
        cluster
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.sim.elapsed() + duration;
        while self.sim.elapsed() < end {
            self.sim.step().unwrap();
        }
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Cluster) -> bool) {
        let end = self.sim.elapsed() + PATIENCE;
        while !holds(self) {
            assert!(self.sim.elapsed() < end, "no {what}: {:?}", self.seen.lock().unwrap().errors);
            self.run_for(Duration::from_millis(200));
        }
    }

    fn order(&self, name: &str, order: Order) {
        if let Some(orders) = &*self.nodes[name].orders.lock().unwrap() {
            // A member that has crashed hears nothing.
            let _ = orders.send(order);
        }
    }

    /// Writes through `name` until so many more writes are acknowledged.
    fn put(&mut self, name: &str, count: usize) {
        let before = self.seen.lock().unwrap().acknowledged.len();
        self.until("acknowledged writes", |cluster| {
            cluster.keys += 1;
            cluster.order(name, Order::Put(format!("k{}", cluster.keys)));
            cluster.seen.lock().unwrap().acknowledged.len() >= before + count
        });
    }

    /// Reads at `name` until it shows all that was acknowledged.
    fn reads_all(&mut self, name: &'static str) {
        self.until("complete read", |cluster| {
            cluster.order(name, Order::Read);
            let seen = cluster.seen.lock().unwrap();
            seen.read.get(name).is_some_and(|read| read.is_superset(&seen.acknowledged))
        });
    }

    /// What was seen of the member is forgotten, too.
    fn crash(&mut self, name: &str) {
        self.sim.crash(name);
        let mut seen = self.seen.lock().unwrap();
        seen.read.remove(name);
        seen.ids.remove(name);
        drop(seen);
        let node = &self.nodes[name];
        node.orders.lock().unwrap().take();
        node.disk.crash(&Random::from_seed(self.keys));
    }

    fn id(&self, name: &str) -> Option<NodeId> {
        self.seen.lock().unwrap().ids.get(name).copied()
    }
}

#[test]
fn a_damaged_member_is_replaced_and_no_acknowledged_write_is_lost_with_the_next_one() {
    for (seed, damaged) in [(1, "wal/0000000000000001.wal"), (2, "state/g00000001/00000001.seg"), (3, "identity.json")]
    {
        let mut cluster = Cluster::start(seed);
        cluster.put("n1", 30);
        cluster.reads_all("n3");
        let old = cluster.id("n3").unwrap();
        cluster.crash("n3");
        let file = Path::new("/data/member/chorus").join(damaged);
        cluster.nodes["n3"].disk.flip_bit(&file, 8 * 12).unwrap();

        cluster.sim.bounce("n3");
        cluster.until("refusal", |cluster| cluster.seen.lock().unwrap().errors.contains_key("n3"));
        let error = cluster.seen.lock().unwrap().errors["n3"].clone();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(name) && error.contains("--heal-from-peers"), "{error}");
        cluster.put("n1", 10);

        cluster.nodes["n3"].heals.store(true, Ordering::Relaxed);
        cluster.sim.bounce("n3");
        cluster.until("another identity", |cluster| cluster.id("n3").is_some_and(|new| new != old));
        cluster.reads_all("n3");
        let world = World::simulated(1, cluster.nodes["n3"].disk.clone());
        let kept = world.disk.list(Path::new("/data/member/chorus")).unwrap();
        assert!(kept.iter().any(|name| name.starts_with("damaged-")), "{kept:?}");
        cluster.run_for(Duration::from_secs(20));

        cluster.crash("n1");
        cluster.put("n2", 10);
        cluster.reads_all("n3");
        cluster.crash("n3");
        cluster.sim.bounce("n3");
        cluster.reads_all("n3");
    }
}

#[test]
fn without_a_majority_nothing_is_healed_and_nothing_is_changed() {
    let mut cluster = Cluster::start(4);
    cluster.put("n1", 5);
    cluster.reads_all("n3");
    cluster.crash("n3");
    cluster.crash("n1");
    let disk = cluster.nodes["n3"].disk.clone();
    disk.flip_bit(Path::new("/data/member/chorus/wal/0000000000000001.wal"), 8 * 12).unwrap();
    cluster.nodes["n3"].heals.store(true, Ordering::Relaxed);
    cluster.sim.bounce("n3");
    cluster.until("refusal", |cluster| cluster.seen.lock().unwrap().errors.contains_key("n3"));
    let error = cluster.seen.lock().unwrap().errors["n3"].clone();
    assert!(error.contains("not healed") && error.contains("majority"), "{error}");
    let kept = World::simulated(1, disk).disk.list(Path::new("/data/member/chorus")).unwrap();
    assert!(kept.iter().all(|name| !name.starts_with("damaged-") && name != HEALING), "{kept:?}");
}

#[test]
fn a_member_without_room_for_healing_is_not_replaced() {
    let mut cluster = Cluster::start(5);
    cluster.put("n1", 5);
    cluster.reads_all("n3");
    let old = cluster.id("n3").unwrap();
    cluster.crash("n3");
    let (disk, file) = (cluster.nodes["n3"].disk.clone(), Path::new("/data/member/chorus/wal/0000000000000001.wal"));
    disk.flip_bit(file, 8 * 12).unwrap();
    disk.limit(Some(disk.used()));
    cluster.nodes["n3"].heals.store(true, Ordering::Relaxed);
    cluster.sim.bounce("n3");
    cluster.until("refusal", |cluster| cluster.seen.lock().unwrap().errors.contains_key("n3"));
    let error = cluster.seen.lock().unwrap().errors["n3"].clone();
    assert!(error.contains("not healed"), "{error}");
    disk.flip_bit(file, 8 * 12).unwrap();
    disk.limit(None);
    cluster.sim.bounce("n3");
    cluster.reads_all("n3");
    assert_eq!(cluster.id("n3"), Some(old));
}

#[test]
fn a_healing_that_was_interrupted_goes_on() {
    let disk = MemoryDisk::new();
    let world = World::simulated(1, disk.clone());
    let data_dir = Path::new("/data");
    let (old, new) = (Identity::new(NodeId(1), raft::ClusterId(9)), Identity::new(NodeId(2), raft::ClusterId(9)));
    old.keep(&world.disk, data_dir).unwrap();
    world.disk.replace(Path::new("/data/wal/1"), b"damaged", Access::Owner).unwrap();
    let healing = Healing { identity: new, aside: "damaged-1".to_owned() };
    world.disk.replace(&data_dir.join(HEALING), &serde_json::to_vec(&healing).unwrap(), Access::Owner).unwrap();
    // As far as a first try came.
    world.disk.rename(Path::new("/data/wal"), Path::new("/data/damaged-1/wal")).unwrap();
    finish(&world.disk, data_dir).unwrap();
    finish(&world.disk, data_dir).unwrap();
    assert_eq!(Identity::read(&world.disk, data_dir).unwrap(), Some(new));
    assert_eq!(world.disk.list(data_dir).unwrap(), ["damaged-1", "identity.json"]);
    assert_eq!(Identity::read(&world.disk, &data_dir.join("damaged-1")).unwrap(), Some(old));
}

#[test]
fn no_flipped_bit_makes_another_identity() {
    let disk = MemoryDisk::new();
    let world = World::simulated(1, disk.clone());
    let (data_dir, identity) = (Path::new("/data"), Identity::new(NodeId(0xa1b2), raft::ClusterId(0xc3d4)));
    identity.keep(&world.disk, data_dir).unwrap();
    let path = data_dir.join("identity.json");
    for bit in 0..world.disk.read(&path).unwrap().len() as u64 * 8 {
        disk.flip_bit(&path, bit).unwrap();
        match Identity::read(&world.disk, data_dir) {
            Ok(read) => {
                assert_eq!(read.map(|read| (read.node, read.cluster())), Some((identity.node, identity.cluster())))
            }
            Err(error) => assert!(error.to_string().contains("identity.json"), "{error}"),
        }
        disk.flip_bit(&path, bit).unwrap();
    }
}
