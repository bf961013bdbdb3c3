//! Members in turmoil, driven from outside: a test gives orders and steps time until what it waits for holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::mpsc;

use super::PATIENCE;
use super::toy::{Commands, Toy};
use crate::disk::log;
use crate::raft::{Bootstrap, ClusterId, Config, Handle, Leadership, Limits, Member, Refused, Replica, Rules, Timings};
use crate::world::{Disk, MemoryDisk, NodeId, Random, World};

/// How long a read waits.
const READ_LIMIT: Duration = Duration::from_secs(20);

/// A read that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(u64);

enum Order {
    Propose(Bytes),
    /// In the term of this member.
    ProposeInTerm(Bytes),
    Read(ReadId),
    Add(Member),
    Remove(NodeId),
    Promote(NodeId),
    Transfer(NodeId),
    Stop,
}

/// What the test sees of all members.
#[derive(Default)]
struct Seen {
    refusals: Vec<Refused>,
    /// How many commands were applied where and when the read was answered.
    reads: BTreeMap<ReadId, usize>,
    start_errors: BTreeMap<NodeId, String>,
    /// Those that ended because they were removed.
    removed: BTreeSet<NodeId>,
    trace: String,
}

#[derive(Clone)]
struct Node {
    id: NodeId,
    seed: u64,
    bootstrap: Bootstrap,
    rules: Rules,
    /// It starts alone from now on.
    forced: Arc<AtomicBool>,
    disk: MemoryDisk,
    applied: Commands,
    seen: Arc<Mutex<Seen>>,
    running: Arc<Mutex<Option<Running>>>,
}

struct Running {
    handle: Handle,
    orders: mpsc::UnboundedSender<Order>,
}

pub struct Simulation {
    sim: turmoil::Sim<'static>,
    seed: u64,
    rules: Rules,
    nodes: BTreeMap<NodeId, Node>,
    seen: Arc<Mutex<Seen>>,
    reads: u64,
}

fn host(node: NodeId) -> String {
    format!("n{}", node.0)
}

fn member(id: NodeId) -> Member {
    Member {
        id,
        name: host(id),
        peer_urls: vec![format!("http://{}:2380", host(id))],
        client_urls: vec![],
        learner: false,
    }
}

impl Node {
    fn config(&self) -> Config {
        Config {
            node: self.id,
            cluster: ClusterId(7),
            name: host(self.id),
            client_urls: vec![format!("http://{}:2379", host(self.id))],
            data_dir: "/data".into(),
            listen: vec!["0.0.0.0:2380".into()],
            security: Default::default(),
            bootstrap: self.bootstrap.clone(),
            force_new_cluster: self.forced.load(Ordering::Relaxed),
            rules: self.rules,
            version: "1.0.0".into(),
            timings: Timings::default(),
            limits: Limits { purge_every_entries: 50, catch_up_entries: 20, ..Limits::default() },
            log: log::Options { segment_bytes: 256 * 1024, cache_bytes_max: 16 * 1024 },
        }
    }

    async fn run(self, seed: u64) -> turmoil::Result {
        let world = World::simulated(seed, self.disk.clone());
        let machine = Toy::open(Disk::memory(self.disk.clone()), Path::new("/data/state"), self.applied.clone());
        let handle = match Replica::start(world, self.config(), Box::new(machine)).await {
            Ok(handle) => handle,
            Err(error) => {
                self.note(&format!("did not start: {error}"));
                self.seen.lock().unwrap().start_errors.insert(self.id, error.to_string());
                return Ok(());
            }
        };
        let (orders, mut received) = mpsc::unbounded_channel();
        *self.running.lock().unwrap() = Some(Running { handle: handle.clone(), orders });
        let mut leadership = handle.leadership();
        loop {
            tokio::select! {
                biased;
                order = received.recv() => match order {
                    Some(Order::Stop) => {
                        handle.shutdown().await;
                        self.note("stopped");
                        self.running.lock().unwrap().take();
                        return Ok(());
                    }
                    Some(order) => self.obey(&handle, order),
                    None => return Ok(()),
                },
                () = handle.removed() => {
                    self.note("removed");
                    self.running.lock().unwrap().take();
                    handle.shutdown().await;
                    self.seen.lock().unwrap().removed.insert(self.id);
                    return Ok(());
                }
                changed = leadership.changed() => {
                    changed.unwrap();
                    let Leadership { leader, term, is_leader } = *leadership.borrow_and_update();
                    self.note(&format!("term {term} leader {leader:?} mine {is_leader}"));
                }
            }
        }
    }

    fn obey(&self, handle: &Handle, order: Order) {
        let (node, handle) = (self.clone(), handle.clone());
        let deadline = tokio::time::Instant::now() + READ_LIMIT;
        match order {
            Order::Propose(command) => handle.propose(command, node.on_refused()),
            Order::ProposeInTerm(command) => {
                let term = handle.leadership().borrow().term;
                handle.propose_in(term, command, node.on_refused());
            }
            Order::Read(id) => self.task(async move {
                let answer = handle.read_index(deadline).await;
                node.note(&format!("{id:?}: {answer:?}"));
                if answer.is_ok() {
                    let applied = node.applied.lock().unwrap().len();
                    node.seen.lock().unwrap().reads.insert(id, applied);
                }
            }),
            Order::Add(member) => self.task(async move {
                node.note(&format!("add: {:?}", handle.add_member(member, deadline).await));
            }),
            Order::Remove(id) => self.task(async move {
                node.note(&format!("remove: {:?}", handle.remove_member(id, deadline).await));
            }),
            Order::Promote(id) => self.task(async move {
                node.note(&format!("promote: {:?}", handle.promote_member(id, deadline).await));
            }),
            Order::Stop => unreachable!("seen to by its caller"),
            Order::Transfer(to) => self.task(async move {
                node.note(&format!("transfer: {:?}", handle.transfer_leader(to, deadline).await));
            }),
        }
    }

    fn on_refused(self) -> Box<dyn FnOnce(Refused) + Send> {
        Box::new(move |reason| {
            self.note(&format!("refused: {reason}"));
            self.seen.lock().unwrap().refusals.push(reason);
        })
    }

    fn task(&self, work: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(work);
    }

    fn note(&self, event: &str) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        writeln!(self.seen.lock().unwrap().trace, "{at:?} n{}: {event}", self.id).unwrap();
    }
}

impl Simulation {
    /// Members 1 to `size` of a new cluster.
    pub fn start(size: u64, seed: u64) -> Simulation {
        Simulation::start_under(Rules { strict: false, ..Rules::default() }, size, seed)
    }

    /// The same under other rules for changes of the membership.
    pub fn start_under(rules: Rules, size: u64, seed: u64) -> Simulation {
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(3_600))
            .tick_duration(Duration::from_millis(1))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(5))
            .tcp_capacity(1_024)
            .build();
        let members: Vec<Member> = (1..=size).map(NodeId).map(member).collect();
        let mut simulation = Simulation { sim, seed, rules, nodes: BTreeMap::new(), seen: Arc::default(), reads: 0 };
        for id in (1..=size).map(NodeId) {
            simulation.join(id, Bootstrap::New(members.clone()));
        }
        simulation
    }

    fn join(&mut self, id: NodeId, bootstrap: Bootstrap) {
        let (seed, rules, seen) = (self.seed, self.rules, self.seen.clone());
        let (disk, applied, running) = (MemoryDisk::new(), Commands::default(), Arc::default());
        let node = Node { id, seed, bootstrap, rules, forced: Arc::default(), disk, applied, seen, running };
        self.nodes.insert(id, node.clone());
        let starts = AtomicU64::new(0);
        self.sim.host(host(id), move || {
            let start = starts.fetch_add(1, Ordering::Relaxed);
            node.clone().run(node.seed * 1_000_000 + node.id.0 * 1_000 + start)
        });
    }

    pub fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    pub fn nodes(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    fn step(&mut self) {
        self.sim.step().unwrap();
    }

    pub fn run_for(&mut self, duration: Duration) {
        let end = self.sim.elapsed() + duration;
        while self.sim.elapsed() < end {
            self.step();
        }
    }

    /// Steps until `holds`; tells the seed and the trace when it does not.
    pub fn until(&mut self, what: &str, patience: Duration, holds: impl Fn(&Simulation) -> bool) {
        let end = self.sim.elapsed() + patience;
        while !holds(self) {
            assert!(self.sim.elapsed() < end, "seed {}: no {what} within {patience:?}\n{}", self.seed, self.trace());
            self.step();
        }
    }

    fn with<T>(&self, node: NodeId, look: impl FnOnce(&Running) -> T) -> Option<T> {
        self.nodes[&node].running.lock().unwrap().as_ref().map(look)
    }

    fn order(&mut self, node: NodeId, order: Order) {
        self.until("member to take an order", READ_LIMIT, |sim| sim.with(node, |_| ()).is_some());
        self.with(node, |running| drop(running.orders.send(order)));
    }

    pub fn propose(&mut self, node: NodeId, command: &str) {
        self.order(node, Order::Propose(Bytes::from(command.to_owned())));
    }

    /// Proposes in the term in which `node` believes to be.
    pub fn propose_in_term(&mut self, node: NodeId, command: &str) {
        self.order(node, Order::ProposeInTerm(Bytes::from(command.to_owned())));
    }

    pub fn read(&mut self, node: NodeId) -> ReadId {
        self.reads += 1;
        let id = ReadId(self.reads);
        self.order(node, Order::Read(id));
        id
    }

    /// Proposes unless the member is down.
    pub fn try_propose(&mut self, node: NodeId, command: &str) {
        let order = Order::Propose(Bytes::from(command.to_owned()));
        self.with(node, |running| drop(running.orders.send(order)));
    }

    /// Reads unless the member is down.
    pub fn try_read(&mut self, node: NodeId) -> Option<ReadId> {
        self.with(node, |_| ())?;
        Some(self.read(node))
    }

    pub fn has_read(&self, id: ReadId) -> bool {
        self.seen.lock().unwrap().reads.contains_key(&id)
    }

    /// Commands that a read saw.
    pub fn seen_by(&self, id: ReadId) -> usize {
        self.seen.lock().unwrap().reads[&id]
    }

    /// Asks for a member, without starting one.
    pub fn order_to_add(&mut self, through: NodeId, id: NodeId) {
        self.order(through, Order::Add(member(id)));
    }

    pub fn add_member(&mut self, through: NodeId, id: NodeId) {
        self.order_to_add(through, id);
        self.join(id, Bootstrap::Join);
    }

    pub fn add_learner(&mut self, through: NodeId, id: NodeId) {
        self.order(through, Order::Add(Member { learner: true, ..member(id) }));
        self.join(id, Bootstrap::Join);
    }

    pub fn promote(&mut self, through: NodeId, id: NodeId) {
        self.order(through, Order::Promote(id));
    }

    /// The next start makes `node` the only member.
    pub fn force(&mut self, node: NodeId) {
        self.nodes[&node].forced.store(true, Ordering::Relaxed);
    }

    /// It ended because it was removed.
    pub fn was_removed(&self, node: NodeId) -> bool {
        self.seen.lock().unwrap().removed.contains(&node)
    }

    /// Looks at a member that is no more no longer.
    pub fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    pub fn members(&self, node: NodeId) -> Vec<Member> {
        self.with(node, |running| running.handle.members()).unwrap_or_default()
    }

    pub fn removed_members(&self, node: NodeId) -> Vec<NodeId> {
        self.with(node, |running| running.handle.removed_members()).unwrap_or_default()
    }

    pub fn is_learner(&self, node: NodeId) -> bool {
        self.with(node, |running| running.handle.is_learner()).unwrap_or(false)
    }

    pub fn remove_member(&mut self, through: NodeId, id: NodeId) {
        self.order(through, Order::Remove(id));
    }

    pub fn transfer_leader(&mut self, from: NodeId, to: NodeId) {
        self.order(from, Order::Transfer(to));
    }

    pub fn refusals(&self) -> Vec<Refused> {
        self.seen.lock().unwrap().refusals.clone()
    }

    pub fn start_error(&self, node: NodeId) -> Option<String> {
        self.seen.lock().unwrap().start_errors.get(&node).cloned()
    }

    pub fn published(&self, node: NodeId) -> bool {
        let published = |member: &Member| member.id == node && !member.client_urls.is_empty();
        self.with(node, |running| running.handle.members().iter().any(published)).unwrap_or(false)
    }

    pub fn voters(&self, node: NodeId) -> Vec<u64> {
        let voters = |running: &Running| {
            let metrics = running.handle.0.context.raft.server_metrics();
            metrics.borrow_watched().membership_config.voter_ids().collect()
        };
        self.with(node, voters).unwrap_or_default()
    }

    pub fn committed(&self, node: NodeId) -> u64 {
        self.with(node, |running| running.handle.status().committed).unwrap_or(0)
    }

    pub fn applied(&self, node: NodeId) -> Vec<Bytes> {
        self.nodes[&node].applied.lock().unwrap().clone()
    }

    /// The member that leads in the highest term that anyone knows of.
    pub fn leader(&self) -> Option<NodeId> {
        let known = |node: &NodeId| self.with(*node, |running| (*running.handle.leadership().borrow(), *node));
        let (leadership, node) =
            self.nodes.keys().filter_map(known).max_by_key(|(known, _)| (known.term, known.is_leader))?;
        leadership.is_leader.then_some(node)
    }

    pub fn await_leader(&mut self, patience: Duration) -> NodeId {
        self.until("leader", patience, |sim| sim.leader().is_some());
        self.leader().unwrap()
    }

    pub fn await_other_leader(&mut self, old: NodeId, patience: Duration) -> NodeId {
        self.until("other leader", patience, |sim| sim.leader().is_some_and(|leader| leader != old));
        self.leader().unwrap()
    }

    /// Waits until every member that should run has applied `count` commands.
    pub fn await_applied_everywhere(&mut self, count: usize) {
        let everywhere = |sim: &Simulation| sim.nodes().into_iter().all(|node| sim.applied(node).len() >= count);
        self.until(&format!("{count} commands everywhere"), Duration::from_secs(60), everywhere);
        self.nodes().into_iter().for_each(|node| assert_eq!(self.applied(node).len(), count, "member {node}"));
    }

    /// What one member applied is a prefix of what another one did.
    pub fn assert_same_order(&self) {
        let longest = self.nodes().into_iter().map(|node| self.applied(node)).max_by_key(Vec::len).unwrap();
        for node in self.nodes() {
            assert!(longest.starts_with(&self.applied(node)), "seed {}: member {node} differs", self.seed);
        }
    }

    /// Takes the last free byte of a member's disk.
    pub fn fill(&mut self, node: NodeId) {
        let disk = &self.nodes[&node].disk;
        disk.limit(Some(disk.used()));
    }

    pub fn free(&mut self, node: NodeId) {
        self.nodes[&node].disk.limit(None);
    }

    pub fn is_full(&self, node: NodeId) -> bool {
        self.with(node, |running| running.handle.is_full()).unwrap_or(false)
    }

    /// Ends a member in good order.
    pub fn stop(&mut self, node: NodeId) {
        self.order(node, Order::Stop);
        self.until("end", PATIENCE, |sim| sim.with(node, |_| ()).is_none());
    }

    pub fn crash(&mut self, node: NodeId) {
        let Node { disk, running, seed, .. } = self.nodes[&node].clone();
        self.sim.crash(host(node));
        *running.lock().unwrap() = None;
        disk.crash(&Random::from_seed(seed));
    }

    pub fn restart(&mut self, node: NodeId) {
        self.sim.bounce(host(node));
    }

    /// Loses a crashed member's data.
    pub fn wipe(&mut self, node: NodeId) {
        Disk::memory(self.nodes[&node].disk.clone()).remove_dir_all(Path::new("/data")).unwrap();
        self.nodes[&node].applied.lock().unwrap().clear();
    }

    pub fn isolate(&mut self, node: NodeId) {
        for other in self.nodes().into_iter().filter(|other| *other != node) {
            self.sim.partition(host(node), host(other));
        }
    }

    pub fn heal(&mut self) {
        let nodes = self.nodes();
        for a in &nodes {
            nodes.iter().filter(|b| *b != a).for_each(|b| self.sim.repair(host(*a), host(*b)));
        }
    }

    pub fn trace(&self) -> String {
        self.seen.lock().unwrap().trace.clone()
    }
}
