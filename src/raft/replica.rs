//! Starting a replica: the log is opened, openraft recovers over it, and the actors and tasks around it begin.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::SnapshotPolicy;
use openraft::errors::Fatal;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::applied_membership::AppliedMembership;
use super::cluster_space::ClusterSpace;
use super::context::ReplicaContext;
use super::force::force_new_cluster;
use super::handle::Parts;
use super::log_store::LogStore;
use super::machine::Machine;
use super::member::initial_nodes;
use super::membership_view::MembershipView;
use super::network::Network;
use super::peer_http::PlainHttp;
use super::peer_listener::PeerListeners;
use super::peer_server::PeerService;
use super::peers::Peers;
use super::proposer::{Proposer, Queue};
use super::read_gate::ReadGate;
use super::state_machine::{AppliedPublisher, Raft, StateMachine};
use super::store_questions::StoreQuestions;
use super::types::{Cause, Membership, Types};
use super::{Bootstrap, Config, Error, Handle, Leadership, Limits, Timings, runtime};
use crate::actor::{Gate, Shutdown};
use crate::disk::{self, LogHandle};
use crate::world::{Lane, World};

/// Limit of installing a snapshot after its last chunk.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// Starts replicas.
#[derive(Debug)]
pub struct Replica;

impl Replica {
    /// Opens the log, recovers, and serves peers. `machine` is driven from here on. Call it where actors can be
    /// started.
    pub async fn start(world: World, config: Config, machine: Box<dyn Machine>) -> Result<Handle, Error> {
        let settings = settings(&config.timings, &config.limits)?;
        let (log, store) = open_log(&world, &config, &*machine).await?;
        let publisher = AppliedPublisher::default();
        let (applied, membership) = (publisher.index.subscribe(), publisher.membership.subscribe());
        let space = ClusterSpace::new([log.space().clone(), machine.space()]);
        let validate = machine.validate();
        let shutdown = Shutdown::new();
        let state = StateMachine::new(world.clone(), machine, publisher, shutdown.clone())
            .map_err(|error| Error::io("reading the membership of the state", &error))?;
        // Not sooner: a peer that can connect waits for an answer. Without one it does not know what became of the
        // commands that it sent.
        let listeners = PeerListeners::open(&world, &config).await?;
        // openraft's tasks and the connections to peers belong to the shared runtime, whichever thread asks for them.
        let recovery = recover(world.clone(), config.clone(), settings, store, state, membership, space, shutdown);
        let recovery = world.spawner.task(runtime::scope(world.random.clone(), recovery));
        let context = recovery.await.unwrap_or(Err(Error::Stopped))?;
        let service = PeerService::new(&context, &config, validate);
        let server = context.world.spawner.keep("raft/listener", listeners.serve(service.clone(), context.clone()));
        let joined = world.spawner.task(bootstrap(context.clone(), config.bootstrap.clone())).await;
        if let Err(error) = joined.unwrap_or(Err(Error::Stopped)) {
            context.end(server, &log).await;
            return Err(error);
        }
        service.take_part();
        Ok(begin(context, &config, server, log, applied))
    }
}

/// Starts openraft with what the log and the state hold.
#[allow(clippy::too_many_arguments, reason = "the parts of a replica, put together in one place")]
async fn recover(
    world: World,
    config: Config,
    settings: openraft::Config,
    store: LogStore,
    state: StateMachine,
    membership: watch::Receiver<AppliedMembership>,
    space: ClusterSpace,
    shutdown: Shutdown,
) -> Result<ReplicaContext, Error> {
    let peers = Arc::new(Peers::new(world.clone(), &config)?);
    let open_limit = config.timings.election.start / 2;
    let network = Network { world: world.clone(), peers: peers.clone(), open_limit };
    let raft = Raft::new(config.node.0, Arc::new(settings), network, store, state).await;
    let raft = raft.map_err(|error| not_recovered(&config.data_dir, &error))?;
    raft.with_state_machine(|state| Box::pin(async move { state.serve() })).await.map_err(|_| Error::Stopped)?;
    let (node, rules, timings) = (config.node, config.rules, config.timings);
    let membership_view = MembershipView::new(node, world.clock.clone(), peers.clone(), membership);
    Ok(ReplicaContext {
        world,
        raft,
        peers,
        store_questions: StoreQuestions::default(),
        plain_http: PlainHttp::default(),
        node,
        membership_view,
        space,
        rules,
        timings,
        shutdown,
    })
}

/// Why openraft did not start. A damaged member may be replaced, so nothing else may count as damage.
fn not_recovered(data_dir: &Path, error: &Fatal<Types>) -> Error {
    let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Cause>());
    if cause.is_some_and(|cause| cause.damage) {
        return Error::damaged(data_dir, error);
    }
    Error::Io { context: format!("recovering in {}", data_dir.display()), message: error.to_string() }
}

/// Starts what runs beside the log.
fn begin(
    context: ReplicaContext,
    config: &Config,
    server: JoinHandle<()>,
    log: LogHandle,
    applied: watch::Receiver<u64>,
) -> Handle {
    let leadership = start_tasks(&context, config);
    let proposals = Gate::new(config.limits.proposals_max);
    Handle(Arc::new(Parts {
        proposer: start_proposer(&context, leadership.clone(), config.limits.batch_commands_max, &proposals),
        proposals,
        command_bytes_max: config.limits.command_bytes_max,
        read_gate: Arc::new(ReadGate::new(&context, leadership.clone(), config.limits.reads_max)),
        leadership,
        applied,
        name: config.name.clone(),
        client_urls: config.client_urls.clone(),
        version: config.version.clone(),
        log,
        server: Mutex::new(Some(server)),
        context,
    }))
}

/// openraft's settings.
fn settings(timings: &Timings, limits: &Limits) -> Result<openraft::Config, Error> {
    let millis = |duration: Duration| duration.as_millis() as u64;
    // openraft adds the leader's lease, which is the upper bound here, to the timeout that it draws: together they
    // make a follower wait once to about 1.2 times the configured minimum, as etcd's shortest waits are.
    let (lower, upper) = (timings.election.start * 2 / 5, timings.election.start * 3 / 5);
    openraft::Config {
        cluster_name: "chorus".into(),
        heartbeat_interval: millis(timings.heartbeat),
        election_timeout_min: millis(lower),
        election_timeout_max: millis(upper),
        enable_pre_vote: Some(true),
        // A leader that restarts may have lost entries that it sent but had not yet written. If it led on in the same
        // term, it would write other entries in their place.
        enable_leader_restore: Some(false),
        max_payload_entries: 4096,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(limits.purge_every_entries),
        max_in_snapshot_log_to_keep: limits.catch_up_entries,
        purge_batch_size: limits.purge_every_entries.clamp(1, 256),
        install_snapshot_timeout: millis(INSTALL_LIMIT),
        backoff: "50ms 100ms 200ms ...400ms".into(),
        ..openraft::Config::default()
    }
    .validate()
    .map_err(|error| Error::Config(format!("heartbeat and election timeout do not fit: {error}")))
}

async fn open_log(world: &World, config: &Config, machine: &dyn Machine) -> Result<(LogHandle, LogStore), Error> {
    let directory = config.data_dir.join("wal");
    let (log, recovered) = LogHandle::open(world, &directory, config.log).map_err(|error| match error {
        disk::Error::Io(source) => Error::io(format!("opening the log in {}", directory.display()), &source),
        disk::Error::Newer { .. } => Error::Config(error.to_string()),
        disk::Error::Foreign { .. } | disk::Error::Corrupt { .. } => Error::damaged(&directory, &error),
    })?;
    let mut recovered = recovered;
    if config.force_new_cluster
        && let Some(forced) = force_new_cluster(&log, &recovered, &machine.applied(), config.node, &directory).await?
    {
        recovered = forced;
    }
    let store = LogStore::new(log.clone(), &recovered).map_err(|error| Error::unusable(&directory, &error))?;
    Ok((log, store))
}

/// Gives a member whose log is empty its first membership.
async fn bootstrap(context: ReplicaContext, bootstrap: Bootstrap) -> Result<(), Error> {
    let Bootstrap::New(members) = bootstrap else { return Ok(()) };
    if context.raft.is_initialized().await.map_err(|_| Error::Stopped)? {
        return Ok(());
    }
    let nodes = initial_nodes(&members);
    if !nodes.contains_key(&context.node.0) {
        return Err(Error::Config(format!("member {} is not among the initial members", context.node)));
    }
    nodes.iter().for_each(|(id, peer)| context.peers.know(*id, peer));
    let heard = context.ask_around(&Membership::from(nodes.clone())).await;
    if heard.iter().any(|(_, hello)| hello.you_started) {
        return Err(Error::AlreadyBootstrapped(context.node));
    }
    // All members write the same first entry, so it does not matter which of them does.
    match context.raft.initialize(nodes).await {
        Ok(()) => Ok(()),
        Err(error) => Err(Error::Config(format!("the initial membership was not accepted: {error}"))),
    }
}

/// Starts the tasks beside the log.
fn start_tasks(context: &ReplicaContext, config: &Config) -> watch::Receiver<Leadership> {
    let (told, leadership) = watch::channel(Leadership::default());
    let spawner = &context.world.spawner;
    spawner.keep("raft/leadership", context.clone().follow(told));
    spawner.keep("raft/health", context.clone().watch_health());
    spawner.keep("raft/joining", context.clone().promote_joining());
    spawner.keep("raft/probe", context.clone().probe());
    spawner.keep("raft/disk_space", context.clone().watch_space());
    spawner.keep("raft/removal", context.clone().note_removal());
    spawner.keep("raft/role", context.membership_view.clone().follow_role());
    spawner.keep("raft/publish", context.clone().publish(config.name.clone(), config.client_urls.clone()));
    spawner.keep("raft/campaign", context.clone().campaign());
    leadership
}

fn start_proposer(
    context: &ReplicaContext,
    leadership: watch::Receiver<Leadership>,
    batch_commands_max: usize,
    proposals: &Gate,
) -> actix::Addr<Proposer> {
    let proposer = Proposer {
        world: context.world.clone(),
        raft: context.raft.clone(),
        peers: context.peers.clone(),
        leadership,
        patience: context.timings.election.end,
        forward_limit: context.timings.election.end * 3,
        batch_commands_max,
        queue: Queue::default(),
    };
    context.world.spawner.start_measured(Lane::Consensus, "raft/proposer", Some(proposals.measure()), move |_| proposer)
}

#[cfg(test)]
mod tests {
    use std::io;

    use openraft::errors::ErrorSource;
    use openraft::{ErrorSubject, ErrorVerb, StorageError};

    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_damaged() {
        let told = |cause| {
            let error = StorageError::new(ErrorSubject::Logs, ErrorVerb::Read, cause);
            not_recovered(Path::new("/data"), &Fatal::StorageError(error))
        };
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
            let error = told(Cause::from_error(&io::Error::new(kind, "the disk's words")));
            assert!(matches!(&error, Error::Io { .. }) && error.to_string().contains("the disk's words"), "{error}");
        }
        let malformed = io::Error::new(io::ErrorKind::InvalidData, "not an entry");
        for cause in [Cause::from_error(&malformed), Cause::from_string("the log store is corrupted")] {
            assert!(matches!(told(cause), Error::Damaged { .. }));
        }
    }
}
