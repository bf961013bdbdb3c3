//! Opening and starting the store of one member.

use std::sync::Arc;

use super::auth::sessions::Sessions;
use super::compactor::Compactor;
use super::corruption::CorruptionChecker;
use super::leader_leases::LeaderLeases;
use super::leadership::LeadElectedTime;
use super::lease::Lessor;
use super::ledger::Ledger;
use super::member_state::MemberState;
use super::metrics::Metrics;
use super::open_error::OpenError;
use super::proposals::Proposals;
use super::quota::Quota;
use super::version_monitor::Monitor;
use super::waiting::Waiting;
use super::watch::{self, Streams, WatchHub};
use super::{Config, Local, StateMachine, nospace_alarm};
use crate::actor::Shutdown;
use crate::world::World;
use crate::{disk, raft};

/// The store of one member.
#[derive(Debug)]
pub struct Store;

/// A store that was opened, not yet started.
pub struct Opened {
    config: Config,
    member: Arc<MemberState>,
}

impl Config {
    fn watches(&self) -> watch::Config {
        watch::Config {
            progress_interval: self.watch_progress_interval,
            response_bytes_max: self.limits.request_bytes_max,
            watches_per_stream_max: self.limits.watches_per_stream_max,
            watch_bytes_max: self.limits.watch_bytes_max,
        }
    }
}

impl Store {
    /// Opens or creates the state in `config.data_dir` and recovers it. The machine goes to
    /// [`raft::Replica::start`], the rest to [`Store::start`]. Blocks.
    pub fn open(world: &World, config: Config) -> Result<(StateMachine, Opened), OpenError> {
        let ledger = Ledger::open(world, &config.data_dir, config.files.segment_bytes)?;
        let run = ledger.begin_run().map_err(|error| OpenError::from_disk(&config.data_dir, error.into()))?;
        let waiting = Waiting::new(config.node, run, config.limits.proposals_max);
        let sessions = Sessions::new(world.clock.clone(), config.auth.tokens.session_ttl());
        let quota = Quota::new(config.limits.quota_bytes);
        let metrics = Metrics::new(world.clock.clone(), ledger.state.index.live_count(), config.slow_apply);
        let member = Arc::new(MemberState::new(ledger, waiting, quota, sessions, metrics));
        Ok((StateMachine::new(member.clone()), Opened { config, member }))
    }

    /// Reads every record that was ever written and is still there, so that damage does not wait to be met. Blocks.
    pub fn verify(opened: &Opened) -> Result<(), OpenError> {
        let segments = opened.member.ledger().segments.clone();
        let scanned = segments.scan(disk::Point::START, |_| Ok(()));
        scanned.map(drop).map_err(|error| OpenError::from_disk(&opened.config.data_dir, error))
    }

    /// Starts the actors of the store: watch hub, lessor, compactor.
    pub fn start(world: &World, opened: Opened, raft: raft::Handle, shutdown: Shutdown) -> Local {
        let Opened { config, member } = opened;
        let end = shutdown.clone();
        let lead_elected = LeadElectedTime::follow(world, &raft, &member, &shutdown);
        let proposals = Proposals::new(world, &config, raft.clone(), member.clone(), lead_elected, shutdown.clone());
        let lessor = Lessor::start(world, raft.clone(), member.clone(), proposals.clone(), &config, shutdown.clone());
        let timeout = config.request_timeout();
        let leases = LeaderLeases::new(world, raft.clone(), member.clone(), proposals.clone(), lessor, timeout);
        nospace_alarm::watch(world, &config, &proposals, &shutdown);
        let compactor =
            Compactor::start(world, raft.clone(), member.clone(), proposals.clone(), &config, shutdown.clone());
        let unread = watch::Unread::new(config.limits.watch_unread_bytes_max);
        let hub = WatchHub::start(world, config.watches(), member.clone(), unread.clone(), shutdown.clone());
        let watches = Streams::new(world, hub, unread, config.limits.watch_streams_max, shutdown);
        let monitor =
            Monitor { world: world.clone(), raft: raft.clone(), member: member.clone(), proposals: proposals.clone() };
        monitor.start(&end);
        let (checks, node) = (config.checks.clone(), config.node);
        let local = Local::new(world.clone(), config, raft.clone(), member, proposals, watches, leases, compactor);
        CorruptionChecker::new(local.clone(), raft, node, timeout).schedule(world, &checks, &end);
        local
    }
}
