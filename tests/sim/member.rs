//! One member of the store on its simulated host, and who watches over it from within.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chorus::actor::Shutdown;
use chorus::cluster::member::Member;
use chorus::cluster::member_plan::{InitialMember, MemberPlan, Origin};
use chorus::raft;
use chorus::store::client::Client;
use chorus::world::{Clock, MemoryDisk, NodeId, Random, World};
use chorus::{etcd, store};
use chorus_proto::etcdserverpb as pb;
use chorus_proto::mvccpb::Event;
use futures::StreamExt;

use crate::history::History;
use crate::swarm::Swarm;

/// A place for a member: its disk, and what is known of whoever runs there.
#[derive(Clone)]
pub struct Seat(Arc<Mutex<State>>);

pub struct State {
    pub name: String,
    pub disk: MemoryDisk,
    pub origin: Origin,
    /// How far the wall clock is ahead.
    pub clock_ahead: Duration,
    pub random: Random,
    /// How often something was started here.
    pub starts: u64,
    pub running: Option<Running>,
    /// Why the member did not start the last time.
    pub refused: Option<String>,
    /// It is no member any more.
    pub removed: bool,
    runtime: Option<tokio::runtime::Id>,
}

/// A member that has started.
#[derive(Clone)]
pub struct Running {
    pub node: NodeId,
    pub replica: raft::Handle,
}

impl Seat {
    pub fn new(name: String, origin: Origin, random: Random) -> Seat {
        Seat(Arc::new(Mutex::new(State {
            name,
            disk: MemoryDisk::new(),
            origin,
            clock_ahead: Duration::ZERO,
            random,
            starts: 0,
            running: None,
            refused: None,
            removed: false,
            runtime: None,
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("a simulation that panics is over")
    }

    /// Whether this is where `runtime` runs.
    pub fn is_on(&self, runtime: tokio::runtime::Id) -> bool {
        self.state().runtime == Some(runtime)
    }

    /// The world as it is here, for one start.
    pub fn world(&self) -> World {
        let mut state = self.state();
        state.starts += 1;
        state.refused = None;
        state.runtime = Some(tokio::runtime::Handle::current().id());
        let world = World::simulated(state.random.u64(), state.disk.clone());
        World { clock: Clock::simulated().ahead(state.clock_ahead), ..world }
    }
}

impl Seat {
    /// What should run here did not start.
    pub async fn refuses(&self, history: &History, error: &impl Display) -> turmoil::Result {
        {
            let mut state = self.state();
            history.note(format_args!("{} refuses to start: {error}", state.name));
            state.refused = Some(error.to_string());
        }
        std::future::pending().await
    }
}

pub fn client_url(name: &str) -> String {
    format!("http://{name}:2379")
}

pub fn peer_url(name: &str) -> String {
    format!("http://{name}:2380")
}

/// The first members of a cluster.
pub fn first_members(swarm: &Swarm) -> Vec<InitialMember> {
    let names = (1..=swarm.members).map(|number| format!("m{number}"));
    names.map(|name| InitialMember { peer_urls: vec![peer_url(&name)], client_urls: Vec::new(), name }).collect()
}

fn plan(seat: &Seat, swarm: &Swarm) -> MemberPlan {
    let State { name, origin, .. } = &*seat.state();
    let mut config = store::Config::new("/data".into(), Default::default(), Default::default());
    config.election_timeout = swarm.timings.election.start;
    config.compaction_batch = swarm.compaction_batch;
    config.lease_checkpoints = swarm.lease_checkpoints;
    config.files = swarm.files;
    config.watch_progress_interval = Duration::from_secs(2);
    MemberPlan {
        name: name.clone(),
        data_dir: "/data".into(),
        peer_urls: vec![peer_url(name)],
        client_urls: vec![client_url(name)],
        listen_peers: vec![peer_url(name)],
        security: raft::Security::default(),
        origin: origin.clone(),
        heal_from_peers: false,
        force_new_cluster: false,
        rules: raft::Rules { strict: swarm.strict, ..raft::Rules::default() },
        check_initially: false,
        mirror: None,
        timings: swarm.timings.clone(),
        limits: swarm.limits.clone(),
        log: swarm.log,
        store: config,
        frontend: etcd::Config {
            listen: vec![client_url(name)],
            name: name.clone(),
            election_timeout: swarm.timings.election.start,
            ..etcd::Config::default()
        },
    }
}

/// Runs the member until its host falls.
pub async fn run(seat: Seat, swarm: Swarm, history: History) -> turmoil::Result {
    let world = seat.world();
    let plan = plan(&seat, &swarm);
    let name = plan.name.clone();
    let member = match Member::start(world.clone(), plan, Shutdown::new()).await {
        Ok(member) => member,
        Err(error) => return seat.refuses(&history, &error).await,
    };
    history.note(format_args!("{name} starts"));
    let running = Running { node: member.identity().node, replica: member.replica().clone() };
    seat.state().running = Some(running);
    world.spawner.task(witness(world.clone(), name.clone(), member.store().clone(), history.clone()));
    member.removed().await;
    history.note(format_args!("{name} knows that it was removed"));
    seat.state().removed = true;
    std::future::pending().await
}

/// Follows what a member applies, from its very first revision on, and tells the history.
pub async fn witness(world: World, name: String, store: Client, history: History) {
    let mut next = 1;
    loop {
        let create = pb::WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            start_revision: next,
            ..Default::default()
        };
        let request = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
        let requests = futures::stream::iter([request]).chain(futures::stream::pending()).boxed();
        if let Ok(mut responses) = store.watch(requests).await {
            while let Some(Ok(response)) = responses.next().await {
                for events in response.events.chunk_by(|one, other| revision(one) == revision(other)) {
                    assert!(revision(&events[0]) >= next, "{name} goes back from {next} to {events:?}");
                    next = revision(&events[0]) + 1;
                    history.applied(&name, next - 1, events);
                }
                // What was compacted away before this member told of it, others have told.
                next = next.max(response.compact_revision);
                if response.canceled {
                    break;
                }
            }
        }
        world.clock.sleep(Duration::from_millis(100)).await;
    }
}

/// The revision of an event.
pub fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
