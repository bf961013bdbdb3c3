//! Leases of three members whose leaders come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::actor::Shutdown;
use crate::raft::{self, Replica};

const LEASE: i64 = 7;

/// What a client asks of a member.
enum Order {
    Grant { ttl: i64 },
    KeepAlive,
}

/// A member while it runs.
struct Running {
    handle: raft::Handle,
    state: Arc<MemberState>,
    orders: mpsc::UnboundedSender<Order>,
}

#[derive(Clone)]
struct Seat {
    id: NodeId,
    disk: MemoryDisk,
    running: Arc<Mutex<Option<Running>>>,
    /// The answers to its client.
    answers: Arc<Mutex<Vec<Result<i64, Error>>>>,
}

fn name(id: NodeId) -> String {
    format!("n{}", id.0)
}

fn member(id: NodeId) -> raft::Member {
    raft::Member {
        id,
        name: name(id),
        peer_urls: vec![format!("http://{}:2380", name(id))],
        client_urls: vec![format!("http://{}:2379", name(id))],
        learner: false,
    }
}

impl Seat {
    async fn run(self, seed: u64, members: Vec<raft::Member>) -> turmoil::Result {
        let world = World::simulated(seed, self.disk.clone());
        let (machine, opened) = Store::open(&world, Config::new("/data".into(), self.id, ClusterId(7))).unwrap();
        let state = machine.member.clone();
        let config = raft::Config {
            listen: vec!["0.0.0.0:2380".into()],
            log: crate::disk::log::Options { segment_bytes: 256 * 1024, cache_bytes_max: 64 * 1024 },
            ..raft::Config::new(member(self.id), members, ClusterId(7), "/data".into())
        };
        let handle = Replica::start(world.clone(), config, Box::new(machine)).await.unwrap();
        let local = Store::start(&world, opened, handle.clone(), Shutdown::new());
        let (orders, mut received) = mpsc::unbounded_channel();
        *self.running.lock().unwrap() = Some(Running { handle, state, orders });
        while let Some(order) = received.recv().await {
            let answer = match order {
                Order::Grant { ttl } => {
                    local.lease_grant(pb::LeaseGrantRequest { id: LEASE, ttl }).await.map(|granted| granted.ttl)
                }
                Order::KeepAlive => {
                    local.lease_keep_alive(pb::LeaseKeepAliveRequest { id: LEASE }).await.map(|renewed| renewed.ttl)
                }
            };
            self.answers.lock().unwrap().push(answer);
        }
        Ok(())
    }
}

struct Cluster {
    sim: turmoil::Sim<'static>,
    seats: BTreeMap<NodeId, Seat>,
}

impl Cluster {
    fn start(seed: u64) -> Cluster {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(600))
            .tick_duration(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(5))
            .build();
        let members: Vec<raft::Member> = (1..=3).map(NodeId).map(member).collect();
        let mut seats = BTreeMap::new();
        for id in (1..=3).map(NodeId) {
            let seat = Seat { id, disk: MemoryDisk::new(), running: Arc::default(), answers: Arc::default() };
            seats.insert(id, seat.clone());
            let members = members.clone();
            sim.host(name(id), move || seat.clone().run(seed * 10 + id.0, members.clone()));
        }
        Cluster { sim, seats }
    }

    fn with<T>(&self, id: NodeId, look: impl FnOnce(&Running) -> T) -> Option<T> {
        self.seats[&id].running.lock().unwrap().as_ref().map(look)
    }

    fn leader(&self) -> Option<NodeId> {
        let leads = |id: &NodeId| self.with(*id, |running| running.handle.leadership().borrow().is_leader);
        self.seats.keys().copied().find(|id| leads(id) == Some(true))
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Cluster) -> bool) {
        let end = self.sim.elapsed() + Duration::from_secs(30);
        while !holds(self) {
            assert!(self.sim.elapsed() < end, "no {what} at {:?}", self.sim.elapsed());
            self.sim.step().unwrap();
        }
    }

    fn await_leader(&mut self) -> NodeId {
        self.until("leader", |cluster| cluster.leader().is_some());
        self.leader().unwrap()
    }

    /// Has the leader do something, and gives its answer.
    fn order(&mut self, order: Order) -> Result<i64, Error> {
        let leader = self.await_leader();
        let answers = self.seats[&leader].answers.clone();
        let before = answers.lock().unwrap().len();
        self.with(leader, |running| running.orders.send(order).unwrap_or_else(|_| panic!("it runs"))).unwrap();
        self.until("answer", |_| answers.lock().unwrap().len() > before);
        answers.lock().unwrap()[before].clone()
    }

    /// No member that runs has the lease.
    fn is_over(&self) -> bool {
        let has = |id: &NodeId| self.with(*id, |running| running.state.view().state.leases.contains(LEASE));
        self.seats.keys().all(|id| has(id) != Some(true))
    }

    fn crash(&mut self, id: NodeId) {
        self.sim.crash(name(id));
        *self.seats[&id].running.lock().unwrap() = None;
        self.seats[&id].disk.crash(&Random::from_seed(self.sim.elapsed().as_millis() as u64));
    }

    /// Kills the leader every ten seconds, starts it again two seconds later, and gives how long the lease still lived.
    fn outlive(&mut self, max: Duration) -> Duration {
        let start = self.sim.elapsed();
        while self.sim.elapsed() < start + max {
            let killed = self.await_leader();
            self.crash(killed);
            for (until, then) in [(Duration::from_secs(2), true), (Duration::from_secs(8), false)] {
                let end = self.sim.elapsed() + until;
                while self.sim.elapsed() < end {
                    if self.is_over() {
                        return self.sim.elapsed() - start;
                    }
                    self.sim.step().unwrap();
                }
                if then {
                    self.sim.bounce(name(killed));
                }
            }
        }
        panic!("the lease still lives after {max:?}");
    }
}

/// An election takes a second or two, and expired leases are looked for twice a second.
const ELECTION: Duration = Duration::from_secs(4);

#[test]
fn a_lease_ends_on_time_though_its_leaders_die_one_after_the_other() {
    for seed in 1..=3 {
        let mut cluster = Cluster::start(seed);
        assert_eq!(cluster.order(Order::Grant { ttl: 60 }), Ok(60));
        let granted = cluster.sim.elapsed();
        cluster.until("record", |cluster| cluster.sim.elapsed() > granted + Duration::from_secs(3));
        let lived = cluster.outlive(Duration::from_secs(60) + ELECTION) + Duration::from_secs(3);
        assert!(lived >= Duration::from_secs(60), "seed {seed}: it ended after {lived:?}");
    }
}

#[test]
fn a_renewal_counts_though_the_leader_that_granted_it_dies() {
    for seed in 1..=3 {
        let mut cluster = Cluster::start(seed);
        assert_eq!(cluster.order(Order::Grant { ttl: 30 }), Ok(30));
        for _ in 0..4 {
            let before = cluster.sim.elapsed();
            cluster.until("pause", |cluster| cluster.sim.elapsed() > before + Duration::from_secs(10));
            let killed = cluster.await_leader();
            assert_eq!(cluster.order(Order::KeepAlive), Ok(30), "seed {seed}");
            cluster.crash(killed);
            cluster.sim.bounce(name(killed));
        }
        // The next leader can't know how long before it the last renewal was.
        let lived = cluster.outlive(Duration::from_secs(30) + 2 * ELECTION);
        assert!(lived >= Duration::from_secs(30), "seed {seed}: it ended {lived:?} after a renewal");
    }
}
